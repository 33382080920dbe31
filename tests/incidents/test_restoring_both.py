"""What a kill switch switched off on a project and on its server is put back on both, the server first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from agentops.incidents import both
from tests.commands.line import Result, typed
from tests.fakes.hosted import TARGET, project
from tests.fakes.management_api import REF, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"
ON = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}


@pytest.fixture
def api(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project and a server, chat and voice on at both; the server has had an incident before."""
    monkeypatch.setattr(both, "HEAD_START", 60.0)
    fresh = ManagementApi(secrets=dict(ON))
    with project(fresh, monkeypatch, tmp_path, server=database_url):
        server = ("--target", database_url)
        assert typed(*server, "flags", "enable", "chat", "voice").code == 0
        assert typed(*server, "incident", "kill-switch").code == 0
        assert typed(*server, "incident", "restore", "1", "--yes").code == 0
        yield fresh


@pytest.fixture
def off(api: ManagementApi) -> ManagementApi:
    """Both are switched off: incident 1 of the project, 2 of the server."""
    killed = typed("incident", "kill-switch", "--reason", "leak", "--json")
    assert [side["incident"] for side in killed.json["targets"]] == [2, 1]
    api.requests.clear()
    return api


def server_flags(database_url: str) -> dict[str, bool]:
    with psycopg.connect(database_url) as connection:
        return dict(connection.execute(b"select name, enabled from agentops.flags").fetchall())


def restore(*words: str) -> Result:
    return typed("incident", "restore", "1", *words, "--json")


def sides(done: Result) -> list[tuple[Any, ...]]:
    """Of the server and of the project: incident, what was put back, whether anything changed."""
    return [(side["incident"], side["restored"], side["changed"]) for side in done.json["targets"]]


BOTH_BACK = [(2, ["chat", "voice"], True), (1, ["chat", "voice"], True)]


def test_both_are_put_back_by_the_projects_number_the_server_first(off: ManagementApi, database_url: str) -> None:
    seen: list[bool] = []

    def look(method: str, path: str) -> Response | None:
        if (method, path) == ("POST", "/secrets"):
            seen.append(server_flags(database_url)["FEATURE_AGENT_CHAT"])
        return None

    off.refuse = look
    done = restore("--yes")
    assert done.code == 0, done.err
    assert (seen, off.secrets) == ([True], ON)
    assert (done.json["incident"], done.json["restored"], done.json["changed"]) == (1, ["chat", "voice"], True)
    assert done.json["target"].endswith(f" and {TARGET}")
    assert sides(done) == BOTH_BACK
    assert all(server_flags(database_url).values())
    again = restore("--yes")
    assert (again.code, again.json["changed"]) == (0, False)


def test_a_check_names_both_and_changes_neither(off: ManagementApi, database_url: str) -> None:
    plan = restore("--check")
    assert (plan.code, sides(plan), off.writes) == (3, BOTH_BACK, [])
    assert not any(server_flags(database_url).values())
    shown = typed("incident", "restore", "1", "--check").out
    assert "(incident 2)" in shown
    assert f"would put back on target {TARGET}: chat, voice (incident 1)" in shown


def test_it_asks_once_and_names_both(off: ManagementApi) -> None:
    asked = restore()
    assert (asked.code, off.writes) == (6, [])
    assert "put back chat, voice on target postgresql://" in asked.err
    assert f"put back chat, voice on target {TARGET}?" in asked.err


def test_a_production_target_asks_for_its_name_before(off: ManagementApi, tmp_path: Path) -> None:
    file = tmp_path / "agentops.toml"
    file.write_text(file.read_text() + "production = true\n")
    refused = restore("--yes")
    assert (refused.code, off.writes, "marked as production" in refused.err) == (6, [], True)
    assert restore("--yes", "--confirm", "prod").code == 0


def test_a_server_that_is_away_leaves_the_project_off(off: ManagementApi, tmp_path: Path) -> None:
    file = tmp_path / "agentops.toml"
    text = file.read_text()
    book = tmp_path / "home" / "supabase" / REF / "incidents.jsonl"
    server = json.dumps(text.partition('server = "')[2].partition('"')[0])
    file.write_text(text.replace(server[1:-1], NOBODY))
    book.write_text(book.read_text().replace(server, json.dumps(NOBODY.replace("secret", "***"))))
    done = restore("--yes")
    assert done.code == 69
    assert "127.0.0.1:1" in done.err
    assert "nothing was put back" in done.err
    assert done.json["targets"][0]["finding"]
    assert (off.writes, off.secrets["FEATURE_AGENT_CHAT"]) == ([], "false")


def test_a_project_that_refuses_to_be_read_leaves_the_server_off(off: ManagementApi, database_url: str) -> None:
    off.refuse = lambda _method, path: JSONResponse({"message": "no"}, 403) if path == "/secrets" else None
    done = restore("--yes")
    assert (done.code, "nothing was put back" in done.err) == (4, True)
    assert not any(server_flags(database_url).values())


def test_a_project_that_refuses_the_change_says_that_the_server_is_back(off: ManagementApi, database_url: str) -> None:
    off.refuse = lambda method, _path: JSONResponse({"message": "no"}, 403) if method == "POST" else None
    done = restore("--yes")
    assert (done.code, sides(done)) == (4, [(2, ["chat", "voice"], True), (1, [], False)])
    assert f"target {TARGET}: " in done.err
    assert all(server_flags(database_url).values())
    off.refuse = lambda _method, _path: None
    again = restore("--yes")
    assert (again.code, sides(again)) == (0, [(2, [], False), (1, ["chat", "voice"], True)])


def test_an_incident_that_the_server_does_not_know_says_how_else_to_switch_on(
    off: ManagementApi, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"delete from agentops.incidents where id = 2")
    done = restore("--yes")
    assert (done.code, off.writes) == (5, [])
    assert "agentops flags enable chat voice" in done.err


def test_one_whose_server_was_not_noted_is_the_projects_alone_and_says_what_to_type(
    off: ManagementApi, database_url: str, tmp_path: Path
) -> None:
    book = tmp_path / "home" / "supabase" / REF / "incidents.jsonl"
    lines = [line for line in book.read_text().splitlines() if both.PAIRED not in line]
    book.write_text("".join(f"{line}\n" for line in lines))
    assert restore("--check").code == 3
    done = restore("--yes")
    assert (done.code, off.secrets["FEATURE_AGENT_CHAT"]) == (0, "true")
    assert not any(server_flags(database_url).values())
    assert "incident list, then agentops --target " in done.err
    assert "targets" not in done.json


def test_a_second_press_after_the_server_was_put_back_alone_belongs_to_its_new_incident(
    off: ManagementApi, database_url: str
) -> None:
    server = ("--target", database_url)
    assert typed(*server, "incident", "restore", "2", "--yes").code == 0
    assert [side["incident"] for side in typed("incident", "kill-switch", "--json").json["targets"]] == [3, 1]
    assert sides(restore("--check"))[0] == (3, ["chat", "voice"], True)
    assert off.secrets["FEATURE_AGENT_CHAT"] == "false"


def test_the_timeline_names_the_servers_incident(off: ManagementApi) -> None:
    shown = typed("incident", "show", "1")
    assert "incident 2 on target postgresql://" in shown.out
    details = [moment["detail"] for moment in typed("incident", "show", "1", "--json").json["timeline"]]
    assert [detail.get("server_incident") for detail in details] == [None, 2]
    # A second press of the same two writes nothing more.
    assert typed("incident", "kill-switch").code == 0
    assert len(typed("incident", "show", "1", "--json").json["timeline"]) == 2
    assert off.secrets["FEATURE_AGENT_CHAT"] == "false"
