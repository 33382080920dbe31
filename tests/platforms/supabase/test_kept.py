"""Machines of a team deploy to one project: each knows what the others did, and keeps the sources it has."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse

from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.machines import audited, lines, stored
from tests.platforms.supabase.deploying import deployed, elsewhere, statuses, until

if TYPE_CHECKING:
    from tests.fakes.edge import Folder
    from tests.fakes.machines import Machines
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(autouse=True)
def _at_ada(machines: Machines) -> None:
    machines.at("ada")


def listed() -> list[tuple[str, str, str]]:
    found = typed("deploy", "list", "--json")
    assert found.code == 0, found.err
    return [(each["slug"], each["status"], each["deployed_by"]) for each in found.json]


def test_what_another_machine_deployed_is_known_and_no_drift(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    machines.at("eve")
    assert listed() == [("ai-one", "active", "ada@there")]
    history = typed("deploy", "history", "ai-one", "--json").json
    assert [(each["version"], each["status"], each["deployed_by"]) for each in history] == [(1, "active", "ada@there")]
    # Drift is what nobody deployed with agentops.
    elsewhere(shared_project, "ai-one", "theirs")
    assert listed() == [("ai-one", "drifted", "unknown")]


def test_equal_to_what_another_machine_deployed_is_unchanged_without_a_download(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one", "one")
    deployed("ai-one")
    machines.at("eve")
    shared_project.requests.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert {path for _, path, _ in shared_project.requests} == {"/functions"}
    assert listed() == [("ai-one", "active", "ada@there")]
    # From now on there is a way back to it from here, too.
    folder.function("ai-one", "two")
    deployed("ai-one")
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert "/functions/ai-one/body" not in {path for _, path, _ in shared_project.requests}
    assert b"one" in next(iter(shared_project.functions["ai-one"].files.values()))


def test_a_rollback_needs_the_source_here_and_says_who_has_it(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one", "one")
    deployed("ai-one")
    machines.at("eve")
    for text in ("two", "three"):
        folder.function("ai-one", text)
        deployed("ai-one")
    machines.at("ada")
    folder.function("ai-one", "four")
    deployed("ai-one")
    shared_project.requests.clear()
    done = typed("deploy", "rollback", "ai-one", "--to", "2")
    assert (done.code, shared_project.writes) == (5, [])
    found = re.search(
        r"version 2 of ai-one is kept on another machine: eve@there deployed it there at (\S+ \S+)", done.err
    )
    assert found, done.err
    assert found[1].startswith(str(time.strftime("%Y-")))
    # What was fetched before it went is here: version 3. The newest of those is the way back.
    assert "agentops deploy rollback ai-one --to 3" in done.err
    assert typed("deploy", "rollback", "ai-one", "--to", "3").code == 0


def test_a_rollback_of_what_nobody_here_has_says_so(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one", "one")
    deployed("ai-one")
    shared_project.functions.clear()
    machines.at("eve")
    done = typed("deploy", "rollback", "ai-one")
    assert (done.code, "roll it back on that machine" in done.err) == (5, True)
    assert "ada@there" in done.err


def test_what_was_only_found_is_this_machines_affair(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    elsewhere(shared_project, "ai-one", "theirs")
    folder.function("ai-one", "mine")
    deployed("ai-one")
    assert {(each["version"], each["origin"]) for each in stored(shared_project, "deployments")} == {
        (2, str(folder.path / "supabase/functions/ai-one"))
    }
    machines.at("eve")
    assert [each["version"] for each in typed("deploy", "history", "ai-one", "--json").json] == [2]


def test_a_newer_agentops_may_tell_more(shared_project: ManagementApi, folder: Folder, machines: Machines) -> None:
    import psycopg

    folder.function("ai-one")
    deployed("ai-one")
    assert shared_project.database_url
    with psycopg.connect(shared_project.database_url, autocommit=True) as connection:
        connection.execute("alter table agentops.project_entries disable trigger all")
        connection.execute('update agentops.project_entries set entry = entry || \'{"region": "eu"}\'')
        for strange in ("{}", '{"slug": "ai-one"}', '{"slug": "ai-one", "at": "never"}'):
            connection.execute(
                "insert into agentops.project_entries (project, book, key, at, entry) "
                "select project, 'deployments', gen_random_uuid(), now(), %s from agentops.project_entries limit 1",
                (strange,),
            )
    machines.at("eve")
    assert listed() == [("ai-one", "active", "ada@there")]


def test_while_the_database_is_away_a_deploy_goes_on_and_is_told_later(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one")
    shared_project.refuse = lambda _method, below: (
        JSONResponse({"message": "no connection"}, 503) if below.startswith("/database") else None
    )
    done = typed("deploy", "ai-one", "--json")
    assert (done.code, statuses(done.json)) == (0, {"ai-one": "active"})
    assert done.err.count("the project's database does not answer") == 1
    assert listed() == [("ai-one", "active", "ada@there")]
    machines.at("eve")
    shared_project.refuse = lambda _method, _below: None
    assert listed() == [("ai-one", "unknown", "unknown")]
    machines.at("ada")
    assert listed() == [("ai-one", "active", "ada@there")]
    machines.at("eve")
    assert listed() == [("ai-one", "active", "ada@there")]
    assert audited(shared_project) == [("ada@there", "function.deploy", "ai-one")]


def test_killed_between_file_and_database_the_deploy_is_told_by_the_next_command(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    folder.function("ai-one")
    never = threading.Event()
    shared_project.held = lambda _method, below: never if below == "/database/query" else None
    process = cli.start("deploy", "ai-one")
    try:
        until(lambda: any("add_project_entries" in statement for _, statement in shared_project.statements))
        process.kill()
        process.communicate(timeout=40)
        assert len(lines("deployments.jsonl")) == 2, "it was deployed; it answered"
        # The request dies with its process.
        shared_project.held = lambda _method, _below: None
        assert stored(shared_project, "deployments") == []
        assert listed() == [("ai-one", "active", "ada@there")]
    finally:
        never.set()
    machines.at("eve")
    assert listed() == [("ai-one", "active", "ada@there")]


def test_unchanged_the_books_are_read_beside_the_functions(shared_project: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    together: list[set[str]] = [set()]
    both = threading.Event()

    def held(_method: str, below: str) -> threading.Event | None:
        if below in {"/functions", "/database/query/read-only"}:
            together[0].add(below)
            if len(together[0]) == 2:
                both.set()
            return both
        return None

    shared_project.held = held
    # Each waits until the other one is under way, too.
    found = typed("deploy", "list", "--json")
    assert (found.json[0]["status"], found.err) == ("active", "")
    shared_project.statements.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert len(shared_project.statements) == 1
