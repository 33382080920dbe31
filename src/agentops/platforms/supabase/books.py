"""What agentops itself notes about a hosted project, where the whole team sees it: three books of entries.

    deployments   which source became which version, by whom          (kept.py)
    incidents     what the kill switch switched off, and its end      (incidents/book.py)
    audit         who changed what                                    (audit.py)

    writing() ─→ the file, on disk ─→ send() ─→ the project's database ─→ marked as sent
    load()    ─→ the database's entries and the file's, by key, in the database's order (entries.py)

The database has them once `agentops db migrate` was run there; until then, and whenever it does not answer within
SECONDS, this machine's files alone do. What was not sent goes with the next command that reaches it, and is stored once
however often it is sent; a database that was set back gets again what it lacks. An entry that it refuses for what is in
it is set aside, so that it keeps no other from being sent. No command fails because of the database: once it has not
answered, the command leaves it alone, and says so in one note.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentops.counts import counted
from agentops.errors import AgentOpsError, TimedOut, Unavailable
from agentops.platforms.supabase import entries, queries
from agentops.platforms.supabase.entries import Entry, new_key
from agentops.platforms.supabase.journal import Journal
from agentops.platforms.supabase.management import SqlRefused
from agentops.sql import statements
from agentops.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from agentops.platforms import Row
    from agentops.platforms.supabase.entries import BookName
    from agentops.platforms.supabase.journal import Line
    from agentops.platforms.supabase.management import Management

SECONDS = 3.0
# How much of a book is read.
NEWEST = 2000
# How much is sent at once; the rest goes next time.
AT_ONCE = 500
# How many of each book's newest are looked after: a database that was set back lacks these first.
RECENT = 100
# Who waits for a number comes first.
_BOOKS: tuple[BookName, ...] = ("incidents", "audit", "deployments")
# SQLSTATE classes that are about what is in an entry: data exceptions, broken constraints.
_OF_CONTENT = {"22", "23"}
_SQL = statements(__file__)
_T = TypeVar("_T")


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
        # What could not be written down: it can only be sent.
        self._held: dict[BookName, list[Entry]] = {name: [] for name in _BOOKS}
        # Marked as sent, and not there any more: the database was set back.
        self._lost: frozenset[str] = frozenset()
        # Refused by the database for what is in it.
        self._refused: set[str] = set()
        # The database has no such books, refuses, or did not answer: it is not asked again.
        self._without = False
        # What is wrong with it, as long as nobody was told.
        self._why: str | None = None
        # Written by this command: nobody has been told their number yet.
        self._fresh: set[str] = set()
        # What was made of what, so that it is made once.
        self._read: dict[BookName, tuple[list[Line], list[Entry]]] = {}
        self._merged: dict[BookName, tuple[tuple[object, ...], list[Entry]]] = {}

    def here(self, book: BookName) -> list[Entry]:
        """What this machine wrote down, oldest first.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        lines = self._journals[book].lines()
        known = self._read.get(book)
        if known is None or known[0] is not lines:
            known = self._read[book] = lines, entries.told(lines)
        return known[1]

    def entries(self, book: BookName) -> list[Entry]:
        """All that is known of a book: what `load` and `send` heard of, and then this machine's own.

        Raises:
            AgentOpsError: this machine's are there and cannot be read.
        """
        here, stored, lost = self.here(book), self._stored[book], self._lost
        known = self._merged.get(book)
        if known is None or any(was is not now for was, now in zip(known[0], (here, stored, lost), strict=True)):
            known = self._merged[book] = (here, stored, lost), entries.in_order(here, stored, lost)
        return [*known[1], *(entry for entry in self._held[book] if entry.key not in stored)]

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
                entry = self._made(content, key=key, first=first, shared=shared)
                append(entry.line())
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

    async def free(self, book: BookName) -> None:
        """Wait until no other process holds the lock on a book, not for ever: what is done meanwhile goes on."""
        await self._journals[book].free()

    def hold(
        self, book: BookName, content: dict[str, Any], *, key: str | None = None, first: str | None = None
    ) -> Entry:
        """Keep an entry that cannot be written down in memory; the next `send` brings it to the database, or none."""
        entry = self._made(content, key=key, first=first, shared=True)
        self._held[book].append(entry)
        return entry

    async def send_held(self, book: BookName, held: Sequence[Entry], failure: AgentOpsError) -> list[Entry]:
        """Send what `failure` kept from being written down; each as it is stored.

        Raises:
            AgentOpsError: `failure`: the database has not all of it either.
        """
        await self.send()
        self.remark()
        found = [self._stored[book][entry.key] for entry in held if entry.key in self._stored[book]]
        if len(found) < len(held):
            raise failure
        self._told(f"note: {failure.message}; the project's database has the entry")
        return found

    async def load(self, book: BookName) -> None:
        """Ask the database for a book's newest entries, and send it what it lacks."""
        if self._without:
            return
        recent = json.dumps(self._recent())
        wanted = {"project": self._api.ref, "book": book, "limit": NEWEST, "keys": recent}
        rows = await self._ask(queries.read(self._api, _SQL["newest"], wanted, attempts=1))
        if rows is None:
            return
        found = [row for row in rows if row["entry"] is not None]
        self._stored[book] = {row["key"]: _stored(row) for row in found}
        if len(found) < NEWEST:
            self._lost |= {entry.key for entry in self._own(book) if entry.sent} - self._stored[book].keys()
        await self._look_after(rows)
        await self.send()

    async def send(self) -> None:
        """Send what is not in the database yet, whichever book it is of."""
        waiting = [(name, entry) for name in _BOOKS for entry in self._own(name) if self._is_due(name, entry)]
        if not waiting or self._without:
            return
        rows: list[Row] = []
        refusals: dict[str, SqlRefused] = {}
        await self._ask(self._add(waiting[:AT_ONCE], rows, refusals))
        for name in _BOOKS:
            given = {row["key"]: _stored(row) for row in rows if row["book"] == name}
            self._settle(name, [entry for book, entry in waiting if book == name], given, refusals)
        await self._look_after(rows)

    def remark(self) -> None:
        """Say, once, that the database did not answer: what is shown is not all, what was written is not sent."""
        if self._why is not None:
            why, self._why = self._why, None
            self._told(f"note: the project's database {why}; this machine's own entries are all there is")

    async def _ask(self, question: Coroutine[Any, Any, _T]) -> _T | None:
        """The answer; None where the database has no books, refuses or does not answer in time: it is left alone."""
        try:
            async with asyncio.timeout(SECONDS):
                return await question
        except queries.Missing:
            self._without = True
        except TimeoutError:
            self._without, self._why = True, f"does not answer (it gave no answer within {SECONDS:g} s)"
        except (TimedOut, Unavailable) as failure:
            self._without, self._why = True, f"does not answer ({failure.message})"
        except AgentOpsError as failure:
            self._without, self._why = True, f"refuses ({failure.message})"
        return None

    async def _add(
        self, waiting: list[tuple[BookName, Entry]], rows: list[Row], refusals: dict[str, SqlRefused]
    ) -> None:
        """Send entries; what the database gives goes to `rows`, by key to `refusals` what it will not have."""
        parts, recent = [waiting], json.dumps(self._recent())
        while parts:
            part = parts.pop(0)
            items = json.dumps([entry.item(name) for name, entry in part])
            wanted = {"project": self._api.ref, "items": items, "keys": recent}
            try:
                rows += await queries.add(self._api, _SQL["add"], wanted)
            except SqlRefused as refusal:
                if refusal.state[:2] not in _OF_CONTENT:
                    raise
                if len(part) == 1:
                    refusals[part[0][1].key] = refusal
                else:
                    parts[:0] = _halves(part)

    async def _look_after(self, rows: Sequence[Row]) -> None:
        """Where rows say that something which was sent is lacking: find all that is, to send it again."""
        missing = {row["key"] for row in rows if row["entry"] is None} - self._lost
        if not missing or self._without:
            return
        self._lost |= missing
        keys = [entry.key for name in _BOOKS for entry in self._own(name) if entry.sent and entry.fits(name)]
        wanted = {"keys": json.dumps(keys)}
        found = await self._ask(queries.read(self._api, _SQL["lacking"], wanted, attempts=1))
        self._lost |= {row["key"] for row in found or ()}

    def _made(self, content: dict[str, Any], *, key: str | None, first: str | None, shared: bool) -> Entry:
        stamped = storable({"at": datetime.now(UTC).isoformat(), **content})
        entry = Entry(key or new_key(), stamped, first, shared)
        self._fresh.add(entry.key)
        return entry

    def _own(self, book: BookName) -> list[Entry]:
        """What this machine has for all to see; what it wrote down is left out where it cannot be read."""
        try:
            return [*self._held[book], *(entry for entry in self.here(book) if entry.shared)]
        except AgentOpsError:
            # Whoever needs them says so.
            return list(self._held[book])

    def _recent(self) -> list[str]:
        """The newest keys that should be there."""
        sent = (
            [entry.key for entry in self._own(name) if entry.sent and entry.key not in self._lost and entry.fits(name)]
            for name in _BOOKS
        )
        return [key for keys in sent for key in keys[-RECENT:]]

    def _is_due(self, book: BookName, entry: Entry) -> bool:
        if entry.key in self._lost:
            return True
        known = entry.sent or entry.refused or entry.key in self._refused or entry.key in self._stored[book]
        return not known and entry.fits(book)

    def _settle(
        self, book: BookName, sent: Sequence[Entry], given: dict[str, Entry], refusals: dict[str, SqlRefused]
    ) -> None:
        """Remember what is stored, and as what: an incident may have got another number; and what was refused."""
        done = [entry for entry in sent if entry.key in given]
        refused = {entry.key: refusals[entry.key] for entry in sent if entry.key in refusals}
        if not done and not refused:
            return
        self._stored[book] = self._stored[book] | given
        self._lost -= given.keys()
        self._refused |= refused.keys()
        moved = {
            entry.key: (entry.content["id"], given[entry.key].content["id"])
            for entry in done
            if book == "incidents" and given[entry.key].content["id"] != entry.content["id"]
        }
        for was, now in sorted({numbers for key, numbers in moved.items() if key not in self._fresh}):
            self._told(f"note: incident {was}, which only this machine knew, is incident {now} of the project now")
        if refused:
            why = next(iter(refused.values())).words
            about = counted(len(refused), "entry", "entries")
            self._told(f"note: the project's database refuses {about} of {book} ({why}): kept on this machine alone")
        held = {entry.key for entry in self._held[book]}
        mark: dict[str, Any] = {"sent": [entry.key for entry in done if entry.key not in held]}
        mark |= {"refused": [key for key in refused if key not in held]} if refused else {}
        mark |= {"numbers": {key: now for key, (_, now) in moved.items() if key not in held}} if moved else {}
        if any(mark.values()):
            self._note_down(book, mark)

    def _note_down(self, book: BookName, mark: Line) -> None:
        try:
            with self._journals[book].writing() as append:
                append(mark)
        except AgentOpsError as failure:
            # They are stored; without the mark they are sent again, and stored once.
            self._told(f"note: {failure.message}")


def _stored(row: Row) -> Entry:
    return Entry(row["key"], row["entry"], sent=True, place=int(row["id"]))


def _halves(part: list[tuple[BookName, Entry]]) -> list[list[tuple[BookName, Entry]]]:
    """Two parts of what was refused together; what belongs to one incident stays together as long as it can."""
    middle = len(part) // 2
    places = range(1, len(part))
    between = [n for n in places if part[n][1].first is None or part[n][1].first != part[n - 1][1].first]
    cut = min(between or places, key=lambda place: abs(place - middle))
    return [part[:cut], part[cut:]]
