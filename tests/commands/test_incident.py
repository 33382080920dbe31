"""`agentops incident`: never asks to switch off, always to put back."""

from __future__ import annotations

import psycopg
import pytest

from agentops.incidents import kill_switch
from agentops.store import migrations
from tests.commands.line import typed


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


def test_the_kill_switch_answers_an_object_with_these_fields() -> None:
    assert typed("flags", "enable", "chat", "vouchers").code == 0
    assert typed("incident", "kill-switch", "--check").code == 3
    killed = typed("incident", "kill-switch", "--reason", "leak", "--json")
    assert killed.code == 0
    assert list(killed.json) == [
        "incident", "target", "features", "changed", "drained_seconds", "confirmed", "unconfirmed",
    ]  # fmt: skip
    assert killed.json["features"] == ["chat", "voice"]
    again = typed("incident", "kill-switch", "--json").json
    assert (again["incident"], again["changed"]) == (killed.json["incident"], False)
    assert {flag["name"]: flag["enabled"] for flag in typed("flags", "list", "--json").json}["vouchers"]


def test_a_reason_that_is_given_again_is_noted_once() -> None:
    for reason in ("one", "two", "one", "two", ""):
        assert typed("incident", "kill-switch", "--reason", reason).code == 0
    assert typed("incident", "show", "1", "--json").json["reason"] == "one; two"


def test_a_phone_number_in_the_reason_is_masked(database_url: str) -> None:
    assert typed("incident", "kill-switch", "--reason", " leak of\n+250788123456 ").code == 0
    assert typed("incident", "show", "1", "--json").json["reason"] == "leak of +2507***456"
    with psycopg.connect(database_url) as connection:
        written = connection.execute(b"select detail::text from agentops.audit").fetchall()
    assert written
    assert not any("788123456" in text for (text,) in written)


def test_a_check_of_restore_says_what_would_be_done_not_that_it_was() -> None:
    typed("flags", "enable", "chat")
    assert typed("incident", "kill-switch").code == 0
    plan = typed("incident", "restore", "1", "--check")
    assert (plan.code, plan.out.startswith("would put back on target")) == (3, True)
    assert " restored on target" in typed("incident", "restore", "1", "--yes").out


def test_features_are_named_or_all() -> None:
    named = typed("incident", "kill-switch", "--features", "vouchers,FEATURE_AGENT_VOICE", "--json").json
    assert named["features"] == ["voice", "vouchers"]
    every = typed("incident", "kill-switch", "--all", "--json").json
    assert every["features"] == ["chat", "voice", "vouchers", "customer-lookup"]
    refused = typed("incident", "kill-switch", "--features", "chatt")
    assert refused.code == 2
    assert "chat, voice, vouchers, customer-lookup" in refused.err


def test_a_server_that_does_not_confirm_is_exit_9_and_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_switch, "CONFIRM_SECONDS", 0.1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into agentops.servers (id, host, pid, role) values (gen_random_uuid(), 'box', 4711, 'web')"
        )
    killed = typed("incident", "kill-switch", "--json")
    assert killed.code == 9
    assert killed.json["unconfirmed"] == ["box:4711 (alive, but still with older settings)"]
    assert '"error": "timed_out"' in killed.err
    assert "box:4711" in killed.err
    assert "stop these processes if need be" in killed.err


def test_it_works_on_a_schema_that_is_not_ours_yet(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"delete from agentops.migrations")
    assert typed("flags", "list").code == 2
    assert typed("incident", "kill-switch").code == 0


@pytest.mark.parametrize("off", [-1, 1])
def test_it_works_one_version_off(database_url: str, monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    """In the middle of an upgrade, from whichever side one comes."""
    assert typed("flags", "enable", "chat").code == 0
    needed = migrations.needed()
    monkeypatch.setattr(migrations, "needed", lambda: needed - off)
    assert typed("flags", "list").code == (2 if off < 0 else 0)
    killed = typed("incident", "kill-switch", "--json")
    assert (killed.code, killed.json["changed"]) == (0, True)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(b"select enabled from agentops.flags where name = 'FEATURE_AGENT_CHAT'").fetchall()
    assert rows == [(False,)]


def test_restore_asks_and_is_done_once() -> None:
    assert typed("flags", "enable", "chat").code == 0
    number = str(typed("incident", "kill-switch", "--json").json["incident"])
    refused = typed("incident", "restore", number)
    assert refused.code == 6
    assert "put back chat on target" in refused.err
    assert typed("incident", "restore", number, "--check").code == 3
    restored = typed("incident", "restore", number, "--yes", "--json").json
    assert (restored["restored"], restored["changed"]) == (["chat"], True)
    assert typed("incident", "restore", number, "--json").json["changed"] is False
    shown = typed("incident", "show", number, "--json").json
    assert shown["status"] == "restored"
    assert [(entry["action"], entry["subject"]) for entry in shown["timeline"]] == [
        ("incident.kill-switch", ""),
        ("flag.disable", "FEATURE_AGENT_CHAT"),
        ("incident.restore", ""),
        ("flag.restore", "FEATURE_AGENT_CHAT"),
    ]
    assert [entry["id"] for entry in typed("incident", "list", "--json").json] == [int(number)]


def test_an_unknown_incident_is_not_found() -> None:
    assert typed("incident", "show", "77").code == 5
    assert typed("incident", "restore", "77", "--yes").code == 5


def opened(database_url: str, kind: str, detail: str = "{}") -> str:
    """An incident that agentops opened by itself; its number."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "insert into agentops.incidents (kind, reason, detail, opened_by) values (%s, 'why', %s, 'agentops') "
            "returning id",
            (kind, detail),
        ).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("kind", ["pii-leak", "dead-letter", "uncertain-reply"])
def test_what_agentops_opened_by_itself_is_closed_once_and_the_next_case_opens_anew(
    database_url: str, kind: str
) -> None:
    number = opened(database_url, kind)
    assert typed("incident", "restore", number, "--yes").code == 7
    assert typed("incident", "close", number, "--check").code == 3
    done = typed("incident", "close", number, "--reason", "numbers of +250788000001 removed", "--json")
    assert (done.code, done.json["status"], done.json["changed"]) == (0, "closed", True)
    again = typed("incident", "close", number, "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    shown = typed("incident", "show", number, "--json").json
    (entry,) = shown["timeline"]
    assert (entry["action"], entry["actor"]) == ("incident.close", "tester@here")
    assert entry["detail"] == {"reason": "numbers of +2507***001 removed"}
    assert opened(database_url, kind) != number


def test_a_kill_switch_is_not_closed_by_a_word() -> None:
    number = str(typed("incident", "kill-switch", "--json").json["incident"])
    refused = typed("incident", "close", number)
    assert (refused.code, f"agentops incident restore {number}" in refused.err) == (7, True)
    assert typed("incident", "restore", number, "--yes").code == 0
    again = typed("incident", "close", number, "--json").json
    assert (again["status"], again["changed"]) == ("restored", False)
    assert typed("incident", "close", "77").code == 5


def test_what_an_incident_points_at_stays_listed_and_is_shown(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into agentops.conversations (lane, phone_id, customer) values ('1:+250788000001', '1', 'x');"
            b"insert into agentops.inbox (message_id, conversation_id, slug, correlation_id, kind, payload)"
            b"values ('m1', 1, 's', 'c', 'text', '{}');"
            b"update agentops.inbox set state = 'dead', finished_at = now(), last_error = 'OpenAI failed (503)'"
        )
    (incident,) = typed("incident", "list", "--json").json
    shown = typed("incident", "show", str(incident["id"])).out
    assert "message 1: OpenAI failed (503)" in shown
    assert f"agentops incident close {incident['id']}" in shown
    done = typed("incident", "close", str(incident["id"]))
    assert "messages given up that stay: 1 (agentops inbox list --state dead)" in done.out
    assert len(typed("inbox", "list", "--state", "dead", "--json").json) == 1
