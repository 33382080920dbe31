"""Lines of JSON that only grow: what is said not to be written is not there, and no lock is waited for without end."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import TYPE_CHECKING

import pytest

from agentops.embedded import locks
from agentops.errors import AgentOpsError
from agentops.platforms.supabase import journal
from agentops.platforms.supabase.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journal's file, with one line."""
    file = tmp_path / "home" / "supabase" / "project" / "audit.jsonl"
    write(file, "one")
    return file


def write(file: Path, what: str) -> None:
    with Journal(file).writing() as append:
        append({"what": what})


def read(file: Path) -> list[str]:
    return [line["what"] for line in Journal(file).lines()]


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Says how long files may be, as a disk that has no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_nothing_of_it(
    file: Path, small_files: Callable[[int], None]
) -> None:
    whole = file.read_bytes()
    small_files(len(whole) + 10)
    with pytest.raises(AgentOpsError, match="could not be written: File too large"):
        write(file, "two")
    assert file.read_bytes() == whole


def test_a_lock_that_another_process_holds_is_waited_for_once_and_not_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.3)
    mine = Journal(file)
    with locks.locked(file.with_suffix(".lock")):
        begun = time.monotonic()
        asyncio.run(mine.free())
        for _ in range(20):
            with pytest.raises(AgentOpsError, match=r"another process holds audit\.lock"), mine.writing():
                pass
        assert 0.25 < time.monotonic() - begun < 3
    write(file, "two")
    assert read(file) == ["one", "two"]


def test_a_lock_that_is_given_back_in_time_is_taken(file: Path) -> None:
    async def scenario() -> None:
        mine = Journal(file)
        with locks.locked(file.with_suffix(".lock")):
            waiting = asyncio.create_task(mine.free())
            # What else is under way goes on meanwhile.
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert not waiting.done()
        await waiting
        with mine.writing() as append:
            append({"what": "two"})

    asyncio.run(scenario())
    assert read(file) == ["one", "two"]


def test_a_line_of_brackets_without_end_loses_no_other(file: Path) -> None:
    with file.open("a") as stream:
        stream.write("[" * 100_000 + "\n")
    write(file, "two")
    assert read(file) == ["one", "two"]
