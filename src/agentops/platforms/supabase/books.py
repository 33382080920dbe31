"""What agentops itself notes about a hosted project, where the whole team sees it: three books of entries.

    deployments   which source became which version, by whom          (kept.py)
    incidents     what the kill switch switched off, and its end      (incidents/book.py)
    audit         who changed what                                    (audit.py)

    writing() ─→ the file, on disk ─→ send() ─→ the project's database ─→ marked as sent
    load()    ─→ the database's entries and the file's, by key, in order of time

The database has them once `agentops db migrate` was run there; until then, and whenever it does not answer within
SECONDS, this machine's files alone do. What was not sent goes with the next command that reaches it, and is stored once
however often it is sent. No command fails because of the database: once it has not answered, the command leaves it
alone, and says so in one note.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agentops.errors import AgentOpsError
from agentops.platforms.supabase import queries
from agentops.platforms.supabase.journal import Journal
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agentops.platforms import Row
    from agentops.platforms.supabase.journal import Line
    from agentops.platforms.supabase.management import Management

    BookName = Literal["deployments", "incidents", "audit"]

SECONDS = 3.0
# How much of a book is read.
NEWEST = 2000
# How much is sent at once; the rest goes next time.
AT_ONCE = 500
# Who waits for a number comes first.
_BOOKS: tuple[BookName, ...] = ("incidents", "audit", "deployments")
_SQL = statements(__file__)
# Names lines that were written before entries had keys.
_UNNAMED = uuid.UUID("6f6a1ad0-6d62-5d0a-9f39-0e6c2b1c9a11")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `content` says when (`at`, ISO 8601) and what.

    `first` is the key of the entry that began the same incident on this machine, while its number is this machine's
    own guess. `shared` is false for what concerns this machine alone.
    """

    key: str
    content: dict[str, Any]
    first: str | None = None
    shared: bool = True
    sent: bool = False

    @property
    def at(self) -> datetime:
        """When it was written."""
        try:
            return datetime.fromisoformat(self.content["at"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError):
            return _LONG_AGO


class Add(Protocol):
    """Appends an entry to a book, on disk when it returns."""

    def __call__(
        self, content: dict[str, Any], *, key: str | None = None, first: str | None = None, shared: bool = True
    ) -> Entry:
        """Write it; the arguments are those of `Entry`. Its `at` is now, unless it has one."""


class Books:
    """One project's books, as one command sees them."""

    def __init__(self, folder: Path, api: Management, told: Callable[[str], None]) -> None:
        self._journals = {name: Journal(folder / f"{name}.jsonl") for name in _BOOKS}
        self._api = api
        self._told = told
        # What the database has given, by key; missing for a book that it was not asked for.
        self._stored: dict[BookName, dict[str, Entry]] = {name: {} for name in _BOOKS}
        # Marked as sent, and not there any more: the database was set back.
        self._lost: set[str] = set()
        # The database has no such books, or did not answer: it is not asked again.
        self._without = False
        # What is wrong with it, as long as nobody was told.
        self._why: str | None = None
        # Written by this command: nobody has been told their number yet.
        self._fresh: set[str] = set()
        # What was made of what, so that it is made once.
        self._read: dict[BookName, tuple[list[Line], list[Entry]]] = {}
        self._merged: dict[BookName, tuple[list[Entry], dict[str, Entry], list[Entry]]] = {}

    def here(self, book: BookName) -> list[Entry]:
        """What this machine wrote down, oldest first.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        lines = self._journals[book].lines()
        known = self._read.get(book)
        if known is None or known[0] is not lines:
            known = self._read[book] = lines, _entries(lines)
        return known[1]

    def entries(self, book: BookName) -> list[Entry]:
        """All that is known of a book, in order of time: what `load` and `send` heard of, and this machine's own.

        Raises:
            AgentOpsError: this machine's are there and cannot be read.
        """
        here, stored = self.here(book), self._stored[book]
        known = self._merged.get(book)
        if known is None or known[0] is not here or known[1] is not stored:
            found = {entry.key: entry for entry in here} | stored
            known = self._merged[book] = here, stored, sorted(found.values(), key=lambda entry: entry.at)
        return known[2]

    @contextmanager
    def writing(self, book: BookName) -> Iterator[Add]:
        """Hold this machine's lock on a book; gives what appends an entry.

        Raises:
            AgentOpsError: it cannot be written.
        """
        with self._journals[book].writing() as append:

            def add(
                content: dict[str, Any], *, key: str | None = None, first: str | None = None, shared: bool = True
            ) -> Entry:
                stamped = {"at": datetime.now(UTC).isoformat(), **content}
                entry = Entry(key or new_key(), stamped, first, shared)
                about = {"key": entry.key, "first": first, "shared": None if shared else False}
                append({**{name: value for name, value in about.items() if value is not None}, **stamped})
                self._fresh.add(entry.key)
                return entry

            yield add

    def write(self, book: BookName, contents: Sequence[dict[str, Any]], *, shared: bool = True) -> None:
        """Append entries, on disk when this returns; sent with the next `send`.

        Raises:
            AgentOpsError: they cannot be written.
        """
        with self.writing(book) as add:
            for content in contents:
                add(content, shared=shared)

    async def load(self, book: BookName) -> None:
        """Ask the database for a book's newest entries, and send it what it lacks."""
        wanted = {"project": self._api.ref, "book": book, "limit": NEWEST}
        rows = await self._ask(partial(queries.read, attempts=1), "newest", wanted)
        if rows is None:
            return
        self._stored[book] = {row["key"]: Entry(row["key"], row["entry"], sent=True) for row in rows}
        if len(rows) < NEWEST:
            self._lost |= {entry.key for entry in self._own(book) if entry.key not in self._stored[book]}
        await self.send()

    async def send(self) -> None:
        """Send what is not in the database yet, whichever book it is of."""
        waiting = {name: [entry for entry in self._own(name) if self._is_due(entry)] for name in _BOOKS}
        items = [_item(name, entry) for name, due in waiting.items() for entry in due][:AT_ONCE]
        if not items:
            return
        rows = await self._ask(queries.add, "add", {"project": self._api.ref, "items": json.dumps(items)})
        for name, due in waiting.items() if rows is not None else ():
            given = {row["key"]: row["entry"] for row in rows or () if row["book"] == name}
            done = [entry for entry in due if entry.key in given]
            if done:
                self._mark(name, done, given)

    def remark(self) -> None:
        """Say, once, that the database did not answer: what is shown is not all, what was written is not sent."""
        if self._why is not None:
            why, self._why = self._why, None
            self._told(
                f"note: the project's database does not answer ({why}); this machine's own entries are all there is"
            )

    async def _ask(self, way: Callable[..., Any], statement: str, parameters: dict[str, Any]) -> list[Row] | None:
        """What the database answers; None where it has no books or does not answer in time."""
        if self._without:
            return None
        try:
            async with asyncio.timeout(SECONDS):
                found: list[Row] = await way(self._api, _SQL[statement], parameters)
                return found
        except queries.Missing:
            self._without = True
        except TimeoutError:
            self._without, self._why = True, f"it gave no answer within {SECONDS:g} s"
        except AgentOpsError as failure:
            self._without, self._why = True, failure.message
        return None

    def _own(self, book: BookName) -> list[Entry]:
        """What this machine wrote down for all to see; none where it cannot be read, which is said elsewhere."""
        try:
            return [entry for entry in self.here(book) if entry.shared]
        except AgentOpsError:
            return []

    def _is_due(self, entry: Entry) -> bool:
        return entry.key in self._lost or not entry.sent

    def _mark(self, book: BookName, done: Sequence[Entry], given: dict[str, dict[str, Any]]) -> None:
        """Remember that they are stored, and as what: an incident may have got another number."""
        stored = {entry.key: Entry(entry.key, given[entry.key], sent=True) for entry in done}
        self._stored[book] = self._stored[book] | stored
        self._lost -= given.keys()
        moved = {
            entry.key: (entry.content["id"], given[entry.key]["id"])
            for entry in done
            if "id" in given[entry.key] and given[entry.key]["id"] != entry.content.get("id")
        }
        for was, now in sorted({numbers for key, numbers in moved.items() if key not in self._fresh}):
            self._told(f"note: incident {was}, which only this machine knew, is incident {now} of the project now")
        mark: dict[str, Any] = {"sent": [entry.key for entry in done]}
        if moved:
            mark["numbers"] = {key: now for key, (_, now) in moved.items()}
        try:
            with self._journals[book].writing() as append:
                append(mark)
        except AgentOpsError as failure:
            # They are stored; without the mark they are sent again, and stored once.
            self._told(f"note: {failure.message}")


def new_key() -> str:
    """A name that no other entry has."""
    return str(uuid.uuid4())


def _item(book: str, entry: Entry) -> dict[str, Any]:
    return {"book": book, "key": entry.key, "at": entry.at.isoformat(), "first": entry.first, "entry": entry.content}


def _entries(lines: Sequence[Line]) -> list[Entry]:
    """A file's entries, with what its marks say of them."""
    found: dict[str, Entry] = {}
    begun: dict[Any, str] = {}
    for line in lines:
        if isinstance(line.get("sent"), list):
            for key in line["sent"]:
                if key in found:
                    found[key] = replace(found[key], sent=True)
            for key, number in line.get("numbers", {}).items():
                if key in found:
                    found[key] = replace(found[key], content={**found[key].content, "id": number})
            continue
        content = {name: value for name, value in line.items() if name not in {"key", "first", "shared"}}
        if "key" in line:
            entry = Entry(str(line["key"]), content, line.get("first"), line.get("shared", True))
        else:
            key = str(uuid.uuid5(_UNNAMED, json.dumps(line, sort_keys=True)))
            first = begun.setdefault(line["id"], key) if "id" in line else None
            entry = Entry(key, content, first, line.get("origin") != "downloaded")
        found[entry.key] = entry
    return list(found.values())
