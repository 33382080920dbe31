"""Flags of a hosted project, told from the digests of their spellings."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import flags, management
from tests.commands.line import typed

if TYPE_CHECKING:
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty", "folder")
CHAT, VOICE, VOUCHERS = "FEATURE_AGENT_CHAT", "FEATURE_AGENT_VOICE", "FEATURE_AGENT_VOUCHERS"


def listed() -> dict[str, bool | None]:
    """Every flag by its short name."""
    return {each["name"]: each["enabled"] for each in typed("flags", "list", "--json").json}


def switched(*words: str) -> list[tuple[str, bool | None, bool]]:
    found: list[dict[str, Any]] = typed("flags", *words, "--json").json
    return [(each["name"], each["enabled"], each["changed"]) for each in found]


@pytest.mark.parametrize(
    ("value", "enabled"),
    [
        *[(word, True) for word in ("1", "true", "TRUE", "True", "yes", "YeS", "on", "ON")],
        *[(word, False) for word in ("0", "false", "FALSE", "no", "No", "off", "OFF", "")],
        *[(word, None) for word in ("maybe", "2", "true ", "enabled")],
    ],
)
def test_a_spelling_is_on_off_or_unknown(project_api: ManagementApi, value: str, *, enabled: bool | None) -> None:
    project_api.secrets = {CHAT: value}
    assert listed()["chat"] is enabled


def test_lookup_follows_vouchers_where_it_is_not_set(project_api: ManagementApi) -> None:
    assert listed() == {"chat": False, "voice": False, "vouchers": False, "customer-lookup": False}
    project_api.secrets = {VOUCHERS: "yes"}
    assert listed()["customer-lookup"] is True
    project_api.secrets = {VOUCHERS: "perhaps"}
    assert listed()["customer-lookup"] is None
    project_api.secrets = {VOUCHERS: "yes", "FEATURE_AGENT_CUSTOMER_LOOKUP": "no"}
    assert listed()["customer-lookup"] is False


def test_other_flags_that_are_set_are_listed_too(project_api: ManagementApi) -> None:
    project_api.secrets = {"FEATURE_AGENT_REFUNDS": "on", "OTHER": "on"}
    assert listed()["FEATURE_AGENT_REFUNDS"] is True
    assert "OTHER" not in listed()


def test_a_switch_is_one_post_that_is_read_back(project_api: ManagementApi) -> None:
    assert switched("enable", "chat", "voice") == [("chat", True, True), ("voice", True, True)]
    assert project_api.writes == [("POST", "/secrets", "")]
    assert json.loads(project_api.written[0][2]) == [{"name": CHAT, "value": "true"}, {"name": VOICE, "value": "true"}]
    assert [method for method, _, _ in project_api.requests] == ["GET", "POST", "GET"]
    project_api.requests.clear()
    assert switched("enable", "voice", "chat") == [("voice", True, False), ("chat", True, False)]
    assert project_api.writes == []


def test_another_spelling_of_the_same_is_left_alone(project_api: ManagementApi) -> None:
    project_api.secrets = {CHAT: "YES", VOICE: "0"}
    assert switched("enable", "chat") == [("chat", True, False)]
    assert switched("disable", "voice") == [("voice", False, False)]
    assert project_api.writes == []


def test_an_unknown_value_is_overwritten(project_api: ManagementApi) -> None:
    project_api.secrets = {CHAT: "maybe"}
    assert switched("disable", "chat") == [("chat", False, True)]
    assert project_api.secrets == {CHAT: "false"}


def test_lookup_that_follows_vouchers_can_be_switched_off_by_itself(project_api: ManagementApi) -> None:
    project_api.secrets = {VOUCHERS: "true"}
    assert switched("disable", "customer-lookup") == [("customer-lookup", False, True)]
    assert listed()["vouchers"] is True


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_timed_switch_is_refused_before_anything_is_sent(project_api: ManagementApi, verb: str) -> None:
    done = typed("flags", verb, "chat", "--for", "5m")
    assert (done.code, "a hosted project has none" in done.err) == (2, True)
    assert project_api.requests == []


def test_a_switch_that_does_not_show_is_exit_8(project_api: ManagementApi) -> None:
    project_api.after = lambda api: api.secrets.update({CHAT: "true"})
    done = typed("flags", "disable", "chat")
    assert (done.code, "does not list chat as off" in done.err) == (8, True)


def test_a_switch_that_cannot_be_read_back_is_exit_8_and_says_so(project_api: ManagementApi) -> None:
    def broken(method: str, path: str) -> Response | None:
        return (
            JSONResponse({"message": "no"}, 503)
            if (method, path, bool(project_api.secrets)) == ("GET", "/secrets", True)
            else None
        )

    project_api.refuse = broken
    done = typed("flags", "disable", "chat")
    assert (done.code, project_api.secrets) == (8, {CHAT: "false"})
    assert "Supabase took the change, but it could not be read back" in done.err


def test_check_foretells_and_sends_nothing(project_api: ManagementApi) -> None:
    project_api.secrets = {CHAT: "true"}
    assert typed("flags", "disable", "chat", "--check").code == 3
    assert typed("flags", "enable", "chat", "--check").code == 0
    assert project_api.writes == []


@pytest.mark.parametrize("status", [403, 500])
def test_off_needs_no_read_before(project_api: ManagementApi, status: int) -> None:
    project_api.secrets = {CHAT: "true"}
    reads = iter([JSONResponse({"message": "no"}, status)])
    project_api.refuse = lambda method, path: next(reads, None) if (method, path) == ("GET", "/secrets") else None
    assert switched("disable", "chat") == [("chat", False, True)]
    assert project_api.secrets == {CHAT: "false"}


def test_a_token_that_may_only_write_switches_off_and_says_that_it_cannot_look(project_api: ManagementApi) -> None:
    project_api.secrets = {CHAT: "true", VOICE: "true"}
    project_api.refuse = lambda method, _path: JSONResponse({"message": "no"}, 403) if method == "GET" else None
    done = typed("flags", "disable", "chat", "voice")
    assert (done.code, project_api.secrets) == (8, {CHAT: "false", VOICE: "false"})
    assert "what it took: chat, voice: off" in done.err
    assert typed("flags", "enable", "chat").code == 4
    assert typed("flags", "disable", "chat", "--check").code == 4


def test_reads_that_hang_hold_no_switching_off_up(project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(flags, "READ_BACK_SECONDS", 0.2)
    project_api.secrets = {CHAT: "true"}
    never = threading.Event()
    project_api.held = lambda method, _path: never if method == "GET" else None
    begun = time.monotonic()
    try:
        done = typed("flags", "disable", "chat")
    finally:
        never.set()
    assert (done.code, project_api.secrets) == (8, {CHAT: "false"})
    assert time.monotonic() - begun < 15
    assert "no answer within 0.2 s" in done.err


@pytest.mark.parametrize("line", ["flags disable chat", "incident kill-switch"])
def test_waits_that_the_api_asks_for_are_said_and_bounded(
    project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(flags, "OFF_SECONDS", 3.0)
    monkeypatch.setattr(management, "_LAST_SECONDS", 1.0)
    project_api.secrets = {CHAT: "true", VOICE: "true"}
    busy = JSONResponse({"message": "ThrottlerException: Too Many Requests"}, 429, {"retry-after": "60"})
    project_api.refuse = lambda method, _path: busy if method == "POST" else None
    begun = time.monotonic()
    done = typed(*line.split())
    assert 1 < time.monotonic() - begun < 15
    assert (done.code, project_api.secrets[CHAT]) == (69, "true")
    assert "note: Supabase asks to wait 60 s (too many requests); tried again in 2 s all the same\n" in done.err
    assert len(project_api.writes) == 2


def test_an_off_switch_that_never_answers_is_bounded(
    project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flags, "OFF_SECONDS", 0.6)
    monkeypatch.setattr(management, "_LAST_SECONDS", 0.3)
    never = threading.Event()
    project_api.held = lambda method, _path: never if method == "POST" else None
    begun = time.monotonic()
    try:
        done = typed("flags", "disable", "chat")
    finally:
        never.set()
    assert time.monotonic() - begun < 15
    assert (done.code, "may have been carried out" in done.err) == (9, True)
