"""The kill switch of a hosted project: one request, whatever else is broken; and back exactly what it switched off."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from agentops.incidents import confirming
from agentops.platforms.supabase import flags, management
from tests.commands.line import Result, typed
from tests.fakes import cli, management_api
from tests.fakes.management_api import REF, Deployed, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT, VOICE = "FEATURE_AGENT_CHAT", "FEATURE_AGENT_VOICE"
VOUCHERS, LOOKUP = "FEATURE_AGENT_VOUCHERS", "FEATURE_AGENT_CUSTOMER_LOOKUP"
WEBHOOKS = {"ai-whatsapp-webhook": CHAT, "ai-realtime-webhook": VOICE}


@pytest.fixture(autouse=True)
def _hosted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{REF}")
    monkeypatch.setattr(management, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(confirming, "PROBE_SECONDS", 0.01)


@pytest.fixture
def on(project_api: ManagementApi) -> ManagementApi:
    """Chat and voice are on."""
    project_api.secrets = {CHAT: "true", VOICE: "YES"}
    return project_api


def press(*words: str) -> Result:
    return typed("incident", "kill-switch", *words, "--json")


def posts(api: ManagementApi) -> list[dict[str, str]]:
    """What each POST set."""
    return [
        {each["name"]: each["value"] for each in json.loads(body)}
        for method, path, body in api.written
        if (method, path) == ("POST", "/secrets")
    ]


def test_it_is_one_post_that_is_read_back(on: ManagementApi) -> None:
    done = press("--reason", "odd answers")
    assert done.code == 0, done.err
    assert posts(on) == [{CHAT: "false", VOICE: "false"}]
    assert [method for method, _, _ in on.requests] == ["GET", "POST", "GET"]
    assert done.json["incident"] == 1
    assert (done.json["features"], done.json["changed"], done.json["drained_seconds"]) == (
        ["chat", "voice"],
        True,
        None,
    )
    shown = typed("incident", "show", "1", "--json").json
    assert (shown["reason"], shown["switched_off"], shown["status"]) == ("odd answers", ["chat", "voice"], "open")


def test_a_second_press_is_the_same_incident_and_writes_nothing(on: ManagementApi) -> None:
    press()
    on.requests.clear()
    again = press()
    assert (again.json["incident"], again.json["changed"], on.writes) == (1, False, [])
    on.secrets[CHAT] = "on"
    third = press("--features", "chat", "--reason", "again")
    assert (third.json["incident"], third.json["changed"], on.secrets[CHAT]) == (1, True, "false")
    (listed,) = typed("incident", "list", "--json").json
    assert (listed["reason"], listed["features"]) == ("again", ["chat", "voice"])


def test_a_second_press_with_another_reason_is_noted_once(on: ManagementApi) -> None:
    press("--reason", "one")
    for reason in ("two", "one", "two"):
        on.requests.clear()
        again = press("--reason", reason)
        assert (again.json["incident"], again.json["changed"], on.writes) == (1, False, [])
    shown = typed("incident", "show", "1", "--json").json
    assert (shown["reason"], len(shown["timeline"])) == ("one; two", 2)


@pytest.mark.usefixtures("on")
def test_more_features_join_the_open_incident() -> None:
    press("--features", "chat")
    assert press("--features", "voice").json["incident"] == 1
    assert typed("incident", "show", "1", "--json").json["switched_off"] == ["chat", "voice"]
    typed("incident", "restore", "1", "--yes")
    assert press().json["incident"] == 2


def test_restore_puts_back_only_what_it_switched_off(on: ManagementApi) -> None:
    on.secrets = {CHAT: "true", VOICE: "false"}
    press()
    plan = typed("incident", "restore", "1", "--check", "--json")
    assert (plan.code, plan.json["restored"]) == (3, ["chat"])
    assert typed("incident", "restore", "1").code == 6
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.code, back.json["restored"], on.secrets) == (0, ["chat"], {CHAT: "true", VOICE: "false"})
    on.requests.clear()
    again = typed("incident", "restore", "1", "--yes", "--json")
    assert (again.code, again.json["changed"], on.requests) == (0, False, [])


def test_what_was_not_set_is_not_set_again(project_api: ManagementApi) -> None:
    project_api.secrets = {VOUCHERS: "true", CHAT: "true"}
    press("--all")
    assert project_api.secrets == {CHAT: "false", VOICE: "false", VOUCHERS: "false", LOOKUP: "false"}
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert back.json["restored"] == ["chat", "vouchers", "customer-lookup"]
    # Lookup follows vouchers again, as it did.
    assert project_api.secrets == {CHAT: "true", VOUCHERS: "true"}


def test_a_restore_that_is_done_in_part_names_both_parts_and_the_next_one_goes_on(project_api: ManagementApi) -> None:
    project_api.secrets = {VOUCHERS: "true", CHAT: "true"}
    press("--all")
    project_api.refuse = lambda method, _path: JSONResponse({"message": "no"}, 403) if method == "DELETE" else None
    half = typed("incident", "restore", "1", "--yes")
    assert (half.code, project_api.secrets[CHAT], project_api.secrets[LOOKUP]) == (10, "true", "false")
    assert "put back: chat, vouchers\n" in half.err
    assert "not put back: voice (not unset: " in half.err
    assert "not put back: customer-lookup (not unset: " in half.err
    assert "agentops incident restore 1" in half.err
    assert typed("incident", "show", "1", "--json").json["status"] == "open"
    project_api.refuse = lambda _method, _path: None
    assert typed("incident", "restore", "1", "--yes").code == 0
    assert project_api.secrets == {CHAT: "true", VOUCHERS: "true"}


def test_what_somebody_switched_since_stays_as_it_is(on: ManagementApi) -> None:
    press()
    on.secrets[VOICE] = "true"
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.json["restored"], back.json["kept"]) == (["chat"], ["voice"])
    assert posts(on)[1:] == [{CHAT: "true"}]


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_it_works_when_nothing_can_be_read_before(on: ManagementApi, status: int) -> None:
    def broken(method: str, _below: str) -> Response | None:
        return Response(status_code=status) if method == "GET" and not on.written else None

    on.refuse = broken
    done = press()
    assert (done.code, on.secrets) == (0, {CHAT: "false", VOICE: "false"})
    assert "how chat, voice stood before could not be read, so a restore leaves them off" in done.err
    assert "agentops flags enable chat voice" in done.err
    shown = typed("incident", "show", "1", "--json").json
    assert (shown["switched_off"], shown["timeline"][0]["detail"]["unknown"]) == ([], [CHAT, VOICE])
    assert "not known how they stood before: chat, voice" in typed("incident", "show", "1").out


def unread(api: ManagementApi) -> None:
    """The next read fails, and no other."""
    reads = iter([Response(status_code=500)])
    api.refuse = lambda method, _below: next(reads, None) if method == "GET" else None


def test_what_could_not_be_read_is_left_off_by_a_restore_and_named(project_api: ManagementApi) -> None:
    project_api.secrets = {CHAT: "true", VOUCHERS: "false"}
    unread(project_api)
    assert press("--all").code == 0
    off = dict.fromkeys((CHAT, VOICE, VOUCHERS, LOOKUP), "false")
    plan = typed("incident", "restore", "1", "--check")
    typing = "(agentops flags enable chat voice vouchers customer-lookup)"
    assert (plan.code, typing in plan.out, "nothing was on" in plan.out) == (3, True, False)
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.code, back.json["restored"], project_api.secrets) == (0, [], off)
    assert back.json["unknown"] == ["chat", "voice", "vouchers", "customer-lookup"]
    assert typed("incident", "show", "1", "--json").json["status"] == "restored"


def test_of_what_could_not_be_read_somebodys_own_choice_since_is_kept(on: ManagementApi) -> None:
    unread(on)
    press()
    on.secrets[CHAT] = "true"
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.json["kept"], back.json["unknown"]) == (["chat"], ["voice"])


def test_unread_features_that_join_an_open_incident_are_unknown(on: ManagementApi) -> None:
    on.secrets[VOUCHERS] = "false"
    press("--features", "chat")
    unread(on)
    press("--features", "chat,vouchers")
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.json["restored"], back.json["unknown"]) == (["chat"], ["vouchers"])
    assert (on.secrets[CHAT], on.secrets[VOUCHERS]) == ("true", "false")


def test_entries_of_old_that_knew_nothing_of_unknown_are_put_back(on: ManagementApi, tmp_path: Path) -> None:
    on.secrets = {CHAT: "false", VOICE: "false"}
    file = tmp_path / "home" / "supabase" / REF / "incidents.jsonl"
    file.parent.mkdir(parents=True)
    about = {"at": "2026-11-01T00:00:00+00:00", "by": "ada", "reason": "", "features": [CHAT, VOICE]}
    file.write_text(json.dumps({"id": 1, "action": "kill-switch", **about, "switched_off": [CHAT]}) + "\n")
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.json["restored"], back.json["unknown"], on.secrets[CHAT]) == (["chat"], [], "true")


def test_a_read_that_hangs_does_not_hold_it_up(on: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    on.held = lambda method, _below: never if method == "GET" and not on.written else None
    monkeypatch.setattr(flags, "LOOK_SECONDS", 0.1)
    try:
        begun = time.monotonic()
        assert press().code == 0
        assert time.monotonic() - begun < 10
    finally:
        never.set()


def test_unread_a_known_incident_keeps_what_it_knows(on: ManagementApi) -> None:
    on.secrets = {CHAT: "true", VOICE: "false"}
    press()
    unread(on)
    assert press().json["incident"] == 1
    typed("incident", "restore", "1", "--yes")
    assert on.secrets == {CHAT: "true", VOICE: "false"}


def test_what_cannot_be_read_back_is_exit_8_and_can_be_restored(on: ManagementApi) -> None:
    on.refuse = lambda method, _below: Response(status_code=500) if method == "GET" and on.written else None
    done = press()
    assert (done.code, on.secrets) == (8, {CHAT: "false", VOICE: "false"})
    assert "could not be read back" in done.err
    assert "(incident 1)" in done.err
    on.refuse = lambda _method, _below: None
    assert typed("incident", "restore", "1", "--yes").code == 0
    assert on.secrets == {CHAT: "true", VOICE: "true"}


def test_a_switch_that_does_not_show_is_exit_8(on: ManagementApi) -> None:
    on.after = lambda api: api.secrets.update({CHAT: "true"})
    done = press()
    assert (done.code, "does not list chat as off" in done.err) == (8, True)


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (409, 7)])
def test_a_refused_switch_opens_no_incident(on: ManagementApi, status: int, code: int) -> None:
    on.refuse = lambda method, _below: JSONResponse({"message": "no"}, status) if method == "POST" else None
    assert press().code == code
    assert typed("incident", "list", "--json").json == []


def test_a_switch_that_a_gateway_answers_with_a_failure_can_be_put_back(on: ManagementApi) -> None:
    def broken(method: str, _below: str) -> Response | None:
        if method != "POST":
            return None
        on.secrets |= {CHAT: "false", VOICE: "false"}  # carried out, and its answer lost behind a gateway
        return JSONResponse({"message": "no"}, 504)

    on.refuse = broken
    assert press().code == 69
    on.refuse = lambda _method, _below: None
    assert (press().code, press().json["changed"]) == (0, False)
    assert typed("incident", "restore", "1", "--yes", "--json").json["restored"] == ["chat", "voice"]
    assert on.secrets[CHAT] == "true"


def test_a_lost_switch_is_state_unknown_and_is_written_down(on: ManagementApi) -> None:
    on.refuse = lambda method, _below: Response(b"<html>") if method == "POST" else None
    assert press().code == 9
    (listed,) = typed("incident", "list", "--json").json
    assert listed["switched_off"] == ["chat", "voice"]


def test_a_full_disk_does_not_hold_it_up(on: ManagementApi, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    done = press()
    assert (done.code, on.secrets[CHAT]) == (0, "false")
    assert "to put it back: agentops flags enable chat voice" in done.err


def test_where_no_incident_can_be_written_none_is_named(on: ManagementApi, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    done = press()
    assert (done.code, done.json["incident"], on.secrets[CHAT]) == (0, None, "false")
    assert "incident restore" not in done.err
    on.secrets = {CHAT: "true", VOICE: "true"}
    assert "OFF on target supabase://" in typed("incident", "kill-switch").out
    again = typed("incident", "kill-switch")
    assert (again.code, "(no incident noted)" in again.out) == (0, True)
    assert "none of them was on\n" in again.err
    assert "flags enable" not in again.err
    on.refuse = lambda method, _below: Response(status_code=500) if method == "GET" else None
    unknown = typed("incident", "kill-switch")
    assert (unknown.code, "(no incident noted)" in unknown.err) == (8, True)
    assert "to put back: agentops flags enable chat voice" in unknown.err


def test_a_phone_number_in_the_reason_is_masked(on: ManagementApi, tmp_path: Path) -> None:
    assert press("--reason", "leak of +250788123456").code == 0
    kept = [file.read_text() for file in (tmp_path / "home" / "supabase" / REF).glob("*.jsonl")]
    assert len(kept) == 2
    assert all("leak of +2507***456" in text for text in kept)
    assert not any("788123456" in text for text in kept)
    assert on.secrets[CHAT] == "false"


def test_a_read_back_that_hangs_is_bounded_and_says_what_was_sent(
    on: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    on.held = lambda method, _below: never if method == "GET" and on.written else None
    monkeypatch.setattr(flags, "READ_BACK_SECONDS", 0.2)
    begun = time.monotonic()
    try:
        done = press()
    finally:
        never.set()
    assert (done.code, on.secrets[CHAT]) == (8, "false")
    assert time.monotonic() - begun < 15
    assert "no answer within 0.2 s; what it took: chat, voice: off" in done.err


def test_a_line_that_a_crash_cut_off_loses_no_incident(on: ManagementApi, tmp_path: Path) -> None:
    press()
    file = tmp_path / "home" / "supabase" / REF / "incidents.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole[:40])
    assert typed("incident", "restore", "1", "--yes").code == 0
    on.secrets[CHAT] = "true"
    assert press().json["incident"] == 2
    assert [each["id"] for each in typed("incident", "list", "--json").json] == [2, 1]


def test_two_who_press_at_once_share_one_incident(on: ManagementApi) -> None:
    held = threading.Event()
    on.held = lambda method, _below: held if method == "POST" else None
    processes = [cli.start("incident", "kill-switch", "--json") for _ in range(2)]
    deadline = time.monotonic() + 40
    while len(on.written) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.set()
    answers = [process.communicate(timeout=40) for process in processes]
    assert [json.loads(out)["incident"] for out, _ in answers] == [1, 1], answers
    assert typed("incident", "show", "1", "--json").json["switched_off"] == ["chat", "voice"]


def test_check_foretells_and_sends_nothing(on: ManagementApi) -> None:
    plan = press("--check")
    assert (plan.code, plan.json["changed"], on.writes) == (3, True, [])
    press()
    plan = press("--check")
    assert (plan.code, plan.json["changed"], plan.json["incident"]) == (0, False, 1)


class TestWait:
    """What counts as a confirmation that a webhook works with the new value."""

    @pytest.fixture(autouse=True)
    def _webhooks(self, on: ManagementApi) -> None:
        on.functions = {
            slug: Deployed({"id": slug, "slug": slug, "version": 1, "status": "ACTIVE"}, {}, "") for slug in WEBHOOKS
        }

    def test_the_header_of_a_forwarder_confirms(self, on: ManagementApi) -> None:
        on.forwarders = dict(WEBHOOKS)
        done = press("--wait")
        assert done.code == 0, done.err
        assert sorted(each["server"] for each in done.json["confirmed"]) == sorted(WEBHOOKS)
        assert done.json["unconfirmed"] == []

    def test_a_warm_isolate_is_asked_until_it_says_off(self, on: ManagementApi) -> None:
        on.forwarders = dict(WEBHOOKS)
        begun = time.monotonic()

        class Stale(dict[str, str]):
            def get(self, name: str, default: Any = None) -> Any:
                return "true" if time.monotonic() - begun < 0.4 else super().get(name, default)

        on.secrets = Stale(on.secrets)
        done = press("--wait")
        assert done.code == 0, done.err
        assert min(each["seconds"] for each in done.json["confirmed"]) > 0.1
        assert len([path for _, path, _ in on.requests if path.startswith("/functions/v1/")]) > 2

    def test_one_that_says_nothing_is_unconfirmed_and_exit_9(
        self, on: ManagementApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 0.3)
        on.forwarders = {"ai-whatsapp-webhook": CHAT}
        done = press("--wait")
        assert done.code == 9
        assert [each["server"] for each in done.json["confirmed"]] == ["ai-whatsapp-webhook"]
        assert done.json["unconfirmed"] == ["ai-realtime-webhook (it has not said that it is off)"]
        assert "the flags are off" in done.err
        assert "processes" not in done.err, "there are none to stop"
        assert "FEATURE_AGENT_CHAT=false FEATURE_AGENT_VOICE=false --redeploy" in done.err

    def test_only_the_webhooks_of_the_features_are_asked(self, on: ManagementApi) -> None:
        on.forwarders = dict(WEBHOOKS)
        assert [each["server"] for each in press("--wait", "--features", "voice").json["confirmed"]] == [
            "ai-realtime-webhook"
        ]


@pytest.fixture
def logged(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementApi]:
    """A project whose webhook is somebody's own: it has no header, it logs."""
    row = {"id": "id-1", "slug": "ai-whatsapp-webhook", "version": 1, "status": "ACTIVE"}
    api = ManagementApi(database_url, functions={"ai-whatsapp-webhook": Deployed(row, {}, "")}, secrets={CHAT: "on"})
    with management_api.serving(api):
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        yield api


def test_a_line_in_the_logs_confirms_where_there_is_no_header(
    logged: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "LOGS_SECONDS", 0.05)
    line = {"level": "info", "event": "ai.whatsapp.webhook.disabled", "function": "ai-whatsapp-webhook"}
    said: list[bool] = []

    def refuse(method: str, below: str) -> Response | None:
        if (method, below) == ("GET", "/analytics/endpoints/logs") and not said:
            said.append(True)
            logged.log("function_logs", json.dumps(line), function_id="id-1", level="info", event_type="Log")
        return None

    logged.refuse = refuse
    done = press("--wait", "--features", "chat")
    assert done.code == 0, done.err
    assert [each["server"] for each in done.json["confirmed"]] == ["ai-whatsapp-webhook"]
