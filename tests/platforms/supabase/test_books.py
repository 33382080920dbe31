"""What agentops notes about a project: in files, and in the project's database where it has our schema."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse

from agentops.errors import AgentOpsError
from agentops.platforms.supabase import books as books_module
from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.books import Told, broken, entry, sound
from tests.fakes.machines import audited, lines, stored
from tests.fakes.management_api import REF, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agentops.platforms.supabase.books import Books
    from tests.fakes.machines import Machines

SECONDS = 40
ADD = "agentops.add_project_entries"


@pytest.fixture(params=["file", "database"])
def project(request: pytest.FixtureRequest, project_api: ManagementApi) -> ManagementApi:
    """A project with and without our schema."""
    if request.param == "database":
        project_api.database_url = request.getfixturevalue("database_url")
    return project_api


@pytest.fixture
def told(project: ManagementApi, tmp_path: Path) -> Told:
    return Told(project, tmp_path)


@pytest.fixture
def told_shared(shared_project: ManagementApi, tmp_path: Path) -> Told:
    return Told(shared_project, tmp_path)


class TestContract:
    """The same in files alone and in the database."""

    def test_what_was_written_is_read_by_the_next_command(self, told: Told) -> None:
        told.write("one", "two")
        told.write("three")
        assert told.read() == ["one", "two", "three"]
        assert told == []

    def test_entries_stand_in_the_order_in_which_they_came_whatever_the_clock_says(self, told: Told) -> None:
        def dated(what: str, day: int) -> dict[str, Any]:
            return entry(what, at=f"2026-11-{day:02}T00:00:00+00:00")

        async def scenario(books: Books) -> None:
            books.write("audit", [dated("first", 2), dated("second", 3), dated("third", 1)])
            await books.send()

        told.use(scenario)
        assert told.read() == ["first", "second", "third"]

    def test_half_a_character_is_replaced(self, told: Told) -> None:
        told.write("caf\udce9", "two")
        assert told.read() == ["caf\ufffd", "two"]
        assert told == []

    def test_books_are_kept_apart(self, told: Told) -> None:
        async def scenario(books: Books) -> list[int]:
            books.write("audit", [entry("one")])
            books.write("deployments", [{"slug": "ai-one"}])
            await books.load("audit")
            await books.load("deployments")
            return [len(books.entries("audit")), len(books.entries("deployments")), len(books.entries("incidents"))]

        assert told.use(scenario) == [1, 1, 0]

    def test_a_line_that_a_crash_cut_off_loses_no_other(self, told: Told, tmp_path: Path) -> None:
        told.write("one")
        file = tmp_path / "ada" / "supabase" / REF / "audit.jsonl"
        whole = file.read_text()
        file.write_text(whole + whole[:30])
        told.write("two")
        assert told.read() == ["one", "two"]

    def test_what_cannot_be_written_is_said_before_anything_is_sent(self, told: Told, tmp_path: Path) -> None:
        (tmp_path / "ada").write_text("a file where the folder should be")

        async def scenario(books: Books) -> None:
            with pytest.raises(AgentOpsError, match="could not be written"):
                books.write("audit", [entry("one")])

        told.use(scenario)


class TestTeam:
    """In the database, machines see what others wrote."""

    def test_another_machine_reads_it(self, told_shared: Told) -> None:
        told_shared.write("one", machine="ada")
        told_shared.write("two", machine="eve")
        assert told_shared.read("ada") == told_shared.read("eve") == ["one", "two"]

    def test_what_is_sent_again_is_stored_once(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        told_shared.write("one")
        file = tmp_path / "ada" / "supabase" / REF / "audit.jsonl"
        # The mark that it was sent is lost, as by a crash just before it.
        file.write_text(file.read_text().splitlines(keepends=True)[0])
        told_shared.write("two")
        assert [each["action"] for each in stored(shared_project, "audit")] == ["one", "two"]
        assert told_shared.read() == ["one", "two"]

    def test_what_is_there_is_not_sent_a_second_time(self, told_shared: Told, shared_project: ManagementApi) -> None:
        told_shared.write("one")
        shared_project.statements.clear()
        told_shared.read()
        told_shared.read()
        assert [statement for _, statement in shared_project.statements if ADD in statement] == []

    def test_what_concerns_one_machine_stays_there(self, told_shared: Told, shared_project: ManagementApi) -> None:
        async def scenario(books: Books) -> None:
            books.write("deployments", [{"slug": "found"}], shared=False)
            books.write("deployments", [{"slug": "deployed"}])
            await books.send()

        told_shared.use(scenario)
        assert [each["slug"] for each in stored(shared_project, "deployments")] == ["deployed"]

    def test_lines_from_before_they_had_names_are_sent_once(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        folder = tmp_path / "ada" / "supabase" / REF
        folder.mkdir(parents=True)
        old = [
            {"slug": "ai-one", "origin": origin, "at": f"2026-11-0{day}T00:00:00+00:00"}
            for origin, day in (("here", 1), ("downloaded", 2), ("here", 3))
        ]
        (folder / "deployments.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
        for _ in range(2):
            told_shared.read()
        assert stored(shared_project, "deployments") == [old[0], old[2]]

    def test_many_entries_go_in_parts(
        self, told_shared: Told, shared_project: ManagementApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(books_module, "AT_ONCE", 2)
        told_shared.write("one", "two", "three", "four", "five")
        assert len(stored(shared_project, "audit")) == 2
        for _ in range(2):
            told_shared.read()
        assert [each["action"] for each in stored(shared_project, "audit")] == ["one", "two", "three", "four", "five"]

    def test_another_projects_entries_are_not_this_ones(self, told_shared: Told, shared_project: ManagementApi) -> None:
        told_shared.write("one")
        assert shared_project.database_url
        with psycopg.connect(shared_project.database_url, autocommit=True) as connection:
            connection.execute(
                "insert into agentops.project_entries (project, book, key, at, entry) "
                "values ('zyxwvutsrqponmlkjihg', 'audit', gen_random_uuid(), now(), '{\"action\": \"theirs\"}')"
            )
        assert told_shared.read() == ["one"]
        assert told_shared == []

    @pytest.mark.parametrize(
        "change",
        [
            "update agentops.project_entries set entry = '{}'",
            "delete from agentops.project_entries",
            "truncate agentops.project_entries",
        ],
    )
    def test_what_was_written_stays(self, told_shared: Told, shared_project: ManagementApi, change: str) -> None:
        told_shared.write("one")
        assert shared_project.database_url
        with (
            psycopg.connect(shared_project.database_url, autocommit=True) as connection,
            pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="only grows"),
        ):
            connection.execute(change.encode())


class TestWeather:
    """The database may be away: nothing is lost, nothing waits long."""

    def test_while_it_is_away_the_files_tell_what_this_machine_knows(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        told_shared.write("theirs", machine="eve")
        told_shared.write("before")
        shared_project.refuse = broken
        told_shared.write("meanwhile")
        assert told_shared.read() == ["before", "meanwhile"]
        (first, second) = told_shared
        assert first == second
        assert "the project's database does not answer (Supabase's API answered 503: no connection)" in first
        shared_project.refuse = sound
        assert told_shared.read() == ["theirs", "before", "meanwhile"]
        assert told_shared.read("eve") == ["theirs", "before", "meanwhile"]

    def test_a_command_that_reads_something_else_sends_it_too(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        shared_project.refuse = broken
        told_shared.write("meanwhile")
        shared_project.refuse = sound

        async def scenario(books: Books) -> None:
            await books.load("deployments")

        told_shared.use(scenario)
        assert [each["action"] for each in stored(shared_project, "audit")] == ["meanwhile"]

    def test_a_database_that_hangs_is_waited_for_once(
        self, told_shared: Told, shared_project: ManagementApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(books_module, "SECONDS", 0.2)
        never = threading.Event()
        shared_project.held = lambda _method, below: never if below.startswith("/database") else None

        async def scenario(books: Books) -> float:
            begun = time.monotonic()
            await books.load("audit")
            books.write("audit", [entry("one")])
            await books.send()
            await books.send()
            books.remark()
            books.remark()
            return time.monotonic() - begun

        try:
            assert told_shared.use(scenario) < 2
        finally:
            never.set()
        assert len(told_shared) == 1
        assert "gave no answer within 0.2 s" in told_shared[0]

    def test_a_rate_limit_is_not_waited_out(self, told_shared: Told, shared_project: ManagementApi) -> None:
        busy = JSONResponse({"message": "ThrottlerException: Too Many Requests"}, 429, {"retry-after": "30"})
        shared_project.refuse = lambda _method, below: busy if below.startswith("/database") else None
        begun = time.monotonic()
        assert told_shared.read() == []
        told_shared.write("one")
        assert time.monotonic() - begun < 2
        assert len(shared_project.statements) == 2
        assert len(told_shared) == 2
        assert all("does not answer (Supabase answers: too many requests)" in said for said in told_shared)

    def test_a_project_without_our_schema_is_asked_once_a_command_and_nothing_is_said(
        self, project_api: ManagementApi, tmp_path: Path
    ) -> None:
        told = Told(project_api, tmp_path)

        async def scenario(books: Books) -> None:
            await books.load("audit")
            books.write("audit", [entry("one")])
            await books.send()
            await books.load("deployments")
            books.remark()

        told.use(scenario)
        assert (told, len(project_api.statements), project_api.requests) == ([], 1, [])


@pytest.fixture
def adding(shared_project: ManagementApi) -> Iterator[threading.Event]:
    """Holds what is added to the books back; let go at the end in any case."""
    event = threading.Event()
    shared_project.held = lambda _method, below: event if below == "/database/query" else None
    yield event
    event.set()


def test_a_process_that_is_killed_between_file_and_database_loses_nothing(
    shared_project: ManagementApi, adding: threading.Event, machines: Machines
) -> None:
    machines.at("ada")
    process = cli.start("secrets", "set", "FEATURE_AGENT_CHAT=true")
    deadline = time.monotonic() + SECONDS
    while not any(ADD in statement for _, statement in shared_project.statements):
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=SECONDS)
    shared_project.held = lambda _method, _below: None
    adding.set()
    assert [json.loads(line)["action"] for line in lines("audit.jsonl")] == ["flag.enable"]
    # Any later command of that machine brings it there; the request that was under way may have, too.
    assert typed("incident", "list").code == 0
    assert audited(shared_project) == [("ada@there", "flag.enable", "FEATURE_AGENT_CHAT")]
