"""Incidents of a hosted project across the machines of a team: one at a time, one number for each."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from agentops.embedded import locks
from agentops.platforms.supabase import books, journal
from tests.commands.line import Result, typed
from tests.fakes import cli
from tests.fakes.books import wipe
from tests.fakes.machines import audited, stored
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.machines import Machines
    from tests.fakes.management_api import ManagementApi

CHAT, VOICE = "FEATURE_AGENT_CHAT", "FEATURE_AGENT_VOICE"
SECONDS = 40


@pytest.fixture(autouse=True)
def _at_ada(machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    machines.at("ada")


@pytest.fixture
def on(shared_project: ManagementApi) -> ManagementApi:
    """Chat and voice are on."""
    shared_project.secrets = {CHAT: "true", VOICE: "true"}
    return shared_project


def press(*words: str) -> Result:
    done = typed("incident", "kill-switch", *words, "--json")
    assert done.code == 0, done.err
    return done


def listed() -> list[tuple[int, str, list[str], str]]:
    found = typed("incident", "list", "--json")
    assert found.code == 0, found.err
    return [(each["id"], each["status"], each["switched_off"], each["opened_by"]) for each in found.json]


def broken(_method: str, below: str) -> Response | None:
    """The project's database does not answer; the rest does."""
    return JSONResponse({"message": "no connection"}, 503) if below.startswith("/database") else None


def sound(_method: str, _below: str) -> Response | None:
    return None


def test_a_press_on_another_machine_is_the_same_incident(on: ManagementApi, machines: Machines) -> None:
    press("--reason", "odd answers")
    machines.at("eve")
    assert listed() == [(1, "open", ["chat", "voice"], "ada@there")]
    again = press()
    assert (again.json["incident"], again.json["changed"]) == (1, False)
    on.secrets[CHAT] = "on"
    assert press("--reason", "again").json["incident"] == 1
    machines.at("ada")
    (found,) = typed("incident", "list", "--json").json
    assert (found["reason"], found["opened_by"]) == ("odd answers; again", "ada@there")
    moments = typed("incident", "show", "1", "--json").json["timeline"]
    assert [(each["action"], each["actor"]) for each in moments] == [
        ("incident.kill-switch", "ada@there"),
        ("incident.kill-switch", "eve@there"),
    ]


def test_another_machine_puts_back_what_was_switched_off(on: ManagementApi, machines: Machines) -> None:
    on.secrets[VOICE] = "false"
    press()
    machines.at("eve")
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.code, back.json["restored"], on.secrets) == (0, ["chat"], {CHAT: "true", VOICE: "false"})
    machines.at("ada")
    assert listed() == [(1, "restored", ["chat"], "ada@there")]
    # What this machine wrote down says that 1 is open; the number is the project's to give.
    assert press().json["incident"] == 2
    machines.at("eve")
    assert [each[0] for each in listed()] == [2, 1]


def test_what_two_machines_began_apart_gets_two_numbers(on: ManagementApi, machines: Machines) -> None:
    on.refuse = broken
    assert press("--reason", "apart").json["incident"] == 1
    assert typed("incident", "restore", "1", "--yes").code == 0
    machines.at("eve")
    on.refuse = sound
    assert press("--reason", "together").json["incident"] == 1
    assert typed("incident", "restore", "1", "--yes").code == 0
    machines.at("ada")
    found = typed("incident", "list", "--json")
    assert "note: incident 1, which only this machine knew, is incident 2 of the project now" in found.err
    assert found.err.count("note:") == 1
    assert {each["id"]: (each["reason"], each["status"]) for each in found.json} == {
        1: ("together", "restored"),
        2: ("apart", "restored"),
    }
    assert typed("incident", "list").err == ""
    # This machine remembers the number, also when it is alone.
    on.refuse = broken
    assert [each["id"] for each in typed("incident", "list", "--json").json] == [2]


def test_what_was_begun_apart_is_the_one_that_is_open(on: ManagementApi, machines: Machines) -> None:
    on.refuse = broken
    press("--reason", "first")
    on.refuse = sound
    machines.at("eve")
    # The flags are off already, and nobody here knows why.
    assert press("--reason", "second").json["incident"] == 1
    machines.at("ada")
    # In the order in which the project heard of them: no clock says whose was first.
    assert listed() == [(1, "open", ["chat", "voice"], "eve@there")]
    machines.at("eve")
    back = typed("incident", "restore", "1", "--yes", "--json")
    assert (back.json["restored"], on.secrets) == (["chat", "voice"], {CHAT: "true", VOICE: "true"})


def test_what_began_and_ended_apart_does_not_end_the_one_that_is_open(on: ManagementApi, machines: Machines) -> None:
    on.refuse = broken
    press("--reason", "apart")
    assert typed("incident", "restore", "1", "--yes").code == 0
    machines.at("eve")
    on.refuse = sound
    press("--reason", "now")
    machines.at("ada")
    assert typed("incident", "list").code == 0
    machines.at("eve")
    found = {each["id"]: (each["reason"], each["status"]) for each in typed("incident", "list", "--json").json}
    assert found == {1: ("now", "open"), 2: ("apart", "restored")}


def test_a_restore_that_was_written_apart_ends_the_incident_for_all(on: ManagementApi, machines: Machines) -> None:
    press()
    on.refuse = broken
    alone = typed("incident", "restore", "1", "--yes")
    assert (alone.code, on.secrets[CHAT]) == (0, "true")
    assert "the project's database does not answer" in alone.err
    machines.at("eve")
    on.refuse = sound
    assert [status for _, status, _, _ in listed()] == ["open"], "nobody has heard of it yet"
    machines.at("ada")
    assert [status for _, status, _, _ in listed()] == ["restored"]
    machines.at("eve")
    assert [status for _, status, _, _ in listed()] == ["restored"]


def test_machines_that_press_at_once_share_one_incident(on: ManagementApi, machines: Machines) -> None:
    # They would not guess the same number: this one has had an incident of its own.
    on.refuse = broken
    press()
    assert typed("incident", "restore", "1", "--yes").code == 0
    on.refuse = sound
    on.written.clear()
    held = threading.Event()
    on.held = lambda method, below: held if (method, below) == ("POST", "/secrets") else None
    processes = [
        cli.start("incident", "kill-switch", "--json", **machines.environment(name)) for name in ("ada", "eve", "joe")
    ]
    deadline = time.monotonic() + SECONDS
    while len(on.written) < len(processes):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.set()
    answers = [process.communicate(timeout=SECONDS) for process in processes]
    numbers = {json.loads(out)["incident"] for out, _ in answers}
    assert len(numbers) == 1, answers
    assert [number for number, status, _, _ in listed() if status == "open"] == list(numbers)
    assert len(stored(on, "incidents")) == 2 + len(processes)


@pytest.fixture
def hanging(on: ManagementApi) -> Iterator[ManagementApi]:
    """The project's database takes requests and never answers."""
    never = threading.Event()
    on.held = lambda _method, below: never if below.startswith("/database") else None
    yield on
    never.set()


@pytest.mark.parametrize("flags", [{CHAT: "true", VOICE: "true"}, {CHAT: "false", VOICE: "false"}])
def test_the_kill_switch_waits_for_the_database_no_longer_than_its_bound(
    hanging: ManagementApi, flags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "SECONDS", 1.0)
    hanging.secrets = dict(flags)
    begun = time.monotonic()
    done = press()
    assert time.monotonic() - begun < 2.0
    assert (done.json["incident"], hanging.secrets) == (1, {CHAT: "false", VOICE: "false"})
    assert "the project's database does not answer (it gave no answer within 1 s)" in done.err
    first = [(method, path) for method, path, _ in hanging.requests]
    if flags[CHAT] == "true":
        # Switched off, then read back: nothing stands between them, and the database was asked after the switch.
        assert first == [("GET", "/secrets"), ("POST", "/secrets"), ("GET", "/secrets")]


def test_the_switch_goes_out_before_the_database_is_asked(on: ManagementApi) -> None:
    order: list[str] = []

    def refuse(method: str, below: str) -> Response | None:
        if method == "POST":
            order.append(below)
        return None

    on.refuse = refuse
    press()
    assert order[0] == "/secrets"
    assert set(order[1:]) <= {"/database/query", "/database/query/read-only"}
    assert len(order) > 1


def test_a_switch_whose_answer_is_lost_is_written_down_and_sent_later(on: ManagementApi) -> None:
    on.refuse = lambda method, below: Response(b"<html>") if (method, below) == ("POST", "/secrets") else None
    assert typed("incident", "kill-switch").code == 9
    on.refuse = sound
    assert listed() == [(1, "open", ["chat", "voice"], "ada@there")]
    assert [each["id"] for each in stored(on, "incidents")] == [1]


def test_what_others_wrote_there_by_hand_breaks_nothing(on: ManagementApi) -> None:
    press()
    assert on.database_url
    strange: list[Any] = [{"id": 7}, {"id": 7, "action": "kill-switch", "by": "x", "at": "never"}]
    press_of_7 = {"id": 7, "action": "kill-switch", "by": "x", "at": "2026-11-01T00:00:00+00:00"}
    whole = {**press_of_7, "reason": "", "features": [], "switched_off": []}
    strange += [press_of_7, {**whole, "features": [{}]}, {**whole, "switched_off": [None]}, {**whole, "unset": [7]}]
    strange += [{**whole, "unset": "x"}, {**whole, "at": "0001-01-01T00:00:00+14:00"}]
    strange.append({**press_of_7, "id": 1, "action": "incident.restore", "ends": [{}, 7]})
    with psycopg.connect(on.database_url, autocommit=True) as connection:
        for each in strange:
            connection.execute(
                "insert into agentops.project_entries (project, book, key, at, entry) "
                "select project, book, gen_random_uuid(), at, %s from agentops.project_entries limit 1",
                (json.dumps(each),),
            )
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "insert into agentops.project_entries (project, book, key, at, entry) "
                "select project, book, gen_random_uuid(), at, '{}' from agentops.project_entries limit 1"
            )
    assert [number for number, _, _, _ in listed()] == [1]


def test_the_audit_says_who_switched_what(on: ManagementApi, machines: Machines) -> None:
    on.secrets[VOICE] = "false"
    press("--reason", "odd answers")
    machines.at("eve")
    press()
    typed("incident", "restore", "1", "--yes")
    assert audited(on) == [
        ("ada@there", "flag.disable", CHAT),
        ("ada@there", "incident.kill-switch", "1"),
        ("eve@there", "flag.restore", CHAT),
        ("eve@there", "incident.restore", "1"),
    ]


@pytest.mark.usefixtures("on")
def test_a_restore_from_a_machine_whose_clock_is_behind_ends_the_incident(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import datetime, timedelta, tzinfo

    class Slow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) - timedelta(minutes=10)

    press()
    machines.at("eve")
    with monkeypatch.context() as patched:
        patched.setattr(books, "datetime", Slow)
        assert typed("incident", "restore", "1", "--yes").code == 0
    for machine in ("eve", "ada"):
        machines.at(machine)
        assert listed() == [(1, "restored", ["chat", "voice"], "ada@there")]
    assert press().json["incident"] == 2


def test_what_is_pressed_after_a_restore_that_the_database_forgot_is_not_ended_by_it(
    on: ManagementApi, machines: Machines
) -> None:
    press("--reason", "first")
    machines.at("eve")
    assert typed("incident", "restore", "1", "--yes").code == 0
    wipe(on)
    machines.at("ada")
    press("--reason", "second")
    machines.at("eve")
    # Its restore is sent again, after the second press.
    assert listed() == [(1, "open", ["chat", "voice"], "ada@there")]
    assert [each["action"] for each in stored(on, "incidents")].count("incident.restore") == 1
    machines.at("joe")
    on.secrets[CHAT] = "on"
    assert press().json["incident"] == 1
    back = typed("incident", "restore", "1", "--yes")
    assert (back.code, on.secrets) == (0, {CHAT: "true", VOICE: "true"})
    machines.at("eve")
    assert [status for _, status, _, _ in listed()] == ["restored"]
    assert press().json["incident"] == 2


def test_a_restore_that_names_nothing_ends_what_was_pressed_before_it(on: ManagementApi) -> None:
    press()
    assert on.database_url
    restore = {"id": 1, "action": "incident.restore", "by": "x", "at": "2026-11-01T00:00:00+00:00"}
    with psycopg.connect(on.database_url, autocommit=True) as connection:
        connection.execute(
            "insert into agentops.project_entries (project, book, key, at, entry) "
            "select project, book, gen_random_uuid(), at, %s from agentops.project_entries where book = 'incidents'",
            (json.dumps(restore),),
        )
    on.secrets[CHAT] = "true"
    assert [status for _, status, _, _ in listed()] == ["restored"]
    assert press().json["incident"] == 2


def test_a_reason_that_is_no_text_of_any_language_is_told(on: ManagementApi, machines: Machines) -> None:
    process = cli.start("incident", "kill-switch", "--reason", "caf\udce9", PYTHONIOENCODING="utf-8:strict")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert stored(on, "incidents")[0]["reason"] == "caf\ufffd"
    machines.at("eve")
    shown = cli.start("incident", "list", PYTHONIOENCODING="utf-8:strict")
    out, err = shown.communicate(timeout=SECONDS)
    assert (shown.returncode, "caf\ufffd" in out) == (0, True), err


def test_a_lock_that_somebody_holds_does_not_hold_the_switch_up(
    on: ManagementApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.3)
    folder = tmp_path / "home-of-ada" / "supabase" / REF
    folder.mkdir(parents=True)
    with locks.locked(folder / "incidents.lock"):
        done = press()
    assert (done.json["incident"], on.secrets) == (1, {CHAT: "false", VOICE: "false"})
    assert "another process holds incidents.lock; the project's database has the entry" in done.err
    assert listed() == [(1, "open", ["chat", "voice"], "ada@there")]


def test_ctrl_c_while_a_lock_is_waited_for_ends_the_command(on: ManagementApi, tmp_path: Path) -> None:
    folder = tmp_path / "home-of-ada" / "supabase" / REF
    folder.mkdir(parents=True)
    with locks.locked(folder / "incidents.lock"):
        process = cli.start("incident", "kill-switch")
        deadline = time.monotonic() + SECONDS
        while on.secrets[CHAT] != "false":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode in {0, 130}


@pytest.mark.parametrize("nothing_can_be", ["written", "read"])
def test_without_a_state_folder_the_projects_database_has_the_incident(
    on: ManagementApi, tmp_path: Path, nothing_can_be: str
) -> None:
    home = tmp_path / "home-of-ada"
    home.mkdir()
    if nothing_can_be == "written":
        (home / "supabase").write_text("a file where a folder should be")
    else:
        (home / "supabase" / REF / "incidents.jsonl").mkdir(parents=True)
    done = press("--reason", "odd answers")
    assert done.json["incident"] == 1
    assert "the project's database has the entry" in done.err
    assert [each["reason"] for each in stored(on, "incidents")] == ["odd answers"]
    assert ("ada@there", "incident.kill-switch", "1") in audited(on)
