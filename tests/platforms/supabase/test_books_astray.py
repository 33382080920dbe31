"""What agentops notes about a project, where the database forgets or refuses it, or where the disk does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse

from agentops.errors import AgentOpsError
from agentops.platforms.supabase import books as books_module
from agentops.platforms.supabase.entries import Entry, new_key
from tests.fakes.books import Told, broken, entry, sound, wipe
from tests.fakes.machines import stored
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path

    from agentops.platforms.supabase.books import Books
    from agentops.platforms.supabase.entries import BookName
    from tests.fakes.management_api import ManagementApi


@pytest.fixture
def told_shared(shared_project: ManagementApi, tmp_path: Path) -> Told:
    return Told(shared_project, tmp_path)


class TestSetBack:
    """A database that was restored from a backup lacks what came after it."""

    def test_a_database_that_was_set_back_gets_them_again(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        told_shared.write("one", "two")
        wipe(shared_project, "one")
        told_shared.read()
        assert sorted(str(each["action"]) for each in stored(shared_project, "audit")) == ["one", "two"]

    @pytest.mark.parametrize("newest", [2000, 1])
    def test_a_database_that_was_set_back_gets_all_books_again_with_any_command(
        self, told_shared: Told, shared_project: ManagementApi, monkeypatch: pytest.MonkeyPatch, newest: int
    ) -> None:
        monkeypatch.setattr(books_module, "NEWEST", newest)
        monkeypatch.setattr(books_module, "RECENT", 1)
        told_shared.write("one", "two", "three")
        wipe(shared_project)
        told_shared.write("theirs", machine="eve")

        async def scenario(books: Books) -> None:
            await books.load("deployments")

        told_shared.use(scenario)
        assert [each["action"] for each in stored(shared_project, "audit")] == ["theirs", "one", "two", "three"]
        shared_project.statements.clear()
        told_shared.use(scenario)
        assert len(shared_project.statements) == 1

    def test_a_database_that_was_set_back_gets_them_again_from_a_command_that_only_writes(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        told_shared.write("one", "two")
        wipe(shared_project)
        told_shared.write("three")
        told_shared.read()
        assert sorted(str(each["action"]) for each in stored(shared_project, "audit")) == ["one", "three", "two"]

    def test_what_is_older_than_what_is_read_comes_first(
        self, told_shared: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told_shared.write("one")
        told_shared.write("theirs", machine="eve")
        told_shared.write("two", "three")
        monkeypatch.setattr(books_module, "NEWEST", 2)
        assert told_shared.read() == ["one", "two", "three"]


class TestRefused:
    """What the database will not have keeps nothing else from being sent."""

    def put(self, tmp_path: Path, *lines: str, book: str = "audit") -> None:
        file = tmp_path / "ada" / "supabase" / REF / f"{book}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.writelines(f"{line}\n" for line in lines)

    def test_half_a_character_that_was_written_down_before_is_replaced(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        self.put(tmp_path, json.dumps({"key": new_key(), "action": "caf\udce9"}), json.dumps({"action": "\x00\ud800"}))
        told_shared.write("two")
        actions = [each["action"] for each in stored(shared_project, "audit")]
        assert actions == ["caf\ufffd", "\ufffd\ufffd", "two"]
        assert told_shared == []

    @pytest.mark.parametrize(
        ("book", "line"),
        [
            ("incidents", {"note": "a line of a newer agentops"}),
            ("incidents", {"key": "6f6a1ad0-6d62-5d0a-9f39-0e6c2b1c9a12", "id": "one"}),
            ("incidents", {"key": "6f6a1ad0-6d62-5d0a-9f39-0e6c2b1c9a12", "id": 0}),
            ("audit", {"key": "no uuid", "action": "x"}),
            ("audit", {"key": "6f6a1ad0-6d62-5d0a-9f39-0e6c2b1c9a12", "first": "no uuid", "action": "x"}),
        ],
    )
    def test_a_line_that_is_no_entry_of_its_book_stays_in_the_file(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path, book: str, line: dict[str, Any]
    ) -> None:
        self.put(tmp_path, json.dumps(line), book=book)
        told_shared.write("two")
        assert [each["action"] for each in stored(shared_project, "audit")] == ["two"]
        assert told_shared == []

    def test_an_entry_that_the_database_refuses_is_set_aside_with_one_note(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        # JSON for Python, not for PostgreSQL.
        self.put(tmp_path, f'{{"key": "{new_key()}", "action": "odd", "detail": 1e999}}')
        told_shared.write("one", "two", "three")
        assert [each["action"] for each in stored(shared_project, "audit")] == ["one", "two", "three"]
        (said,) = told_shared
        assert "the project's database refuses 1 entry of audit (" in said
        assert said.endswith("): kept on this machine alone")
        shared_project.statements.clear()
        told_shared.write("four")
        assert len(shared_project.statements) == 1
        assert len(told_shared) == 1
        assert sorted(told_shared.read()) == ["four", "odd", "one", "three", "two"]

    def test_a_database_that_refuses_everything_is_said_to_refuse(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        words = "Failed to run sql query: ERROR:  25006: cannot execute INSERT in a read-only transaction"
        refused = JSONResponse({"message": words}, 400)
        shared_project.refuse = lambda _method, below: refused if below == "/database/query" else None
        told_shared.write("one", "two")
        (said,) = told_shared
        assert "the project's database refuses (PostgreSQL refuses the statement: cannot execute INSERT" in said
        shared_project.refuse = sound
        assert told_shared.read() == ["one", "two"]
        assert len(stored(shared_project, "audit")) == 2

    def test_what_belongs_to_one_incident_is_not_parted(self) -> None:
        def made(first: str | None) -> tuple[BookName, Entry]:
            return "incidents", Entry(new_key(), {}, first)

        part = [made(None), made("a"), made("a"), made("a"), made("a")]
        assert [len(half) for half in books_module._halves(part)] == [1, 4]
        assert [len(half) for half in books_module._halves(part[1:])] == [2, 2]


class TestNoDisk:
    """Where nothing can be written down, the database has it."""

    def test_what_cannot_be_written_down_is_sent_all_the_same(
        self, told_shared: Told, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        (tmp_path / "ada").write_text("a file where the folder should be")

        async def scenario(books: Books) -> None:
            held = [books.hold("audit", entry(what)) for what in ("caf\udce9", "two")]
            found = await books.send_held("audit", held, AgentOpsError("the disk is full"))
            assert [each.key for each in found] == [each.key for each in held]
            assert [each.content["action"] for each in books.entries("audit")] == ["caf\ufffd", "two"]

        told_shared.use(scenario)
        assert [each["action"] for each in stored(shared_project, "audit")] == ["caf\ufffd", "two"]
        assert told_shared == ["note: the disk is full; the project's database has the entry"]

    def test_what_is_neither_here_nor_there_is_a_failure(
        self, told_shared: Told, shared_project: ManagementApi
    ) -> None:
        shared_project.refuse = broken

        async def scenario(books: Books) -> None:
            held = [books.hold("audit", entry("one"))]
            with pytest.raises(AgentOpsError, match="the disk is full"):
                await books.send_held("audit", held, AgentOpsError("the disk is full"))

        told_shared.use(scenario)
