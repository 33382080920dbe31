"""Flags of a hosted project, told from the digests of their spellings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

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
