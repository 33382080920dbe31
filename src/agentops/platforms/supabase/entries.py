"""An entry of a project's books: a line of this machine's file, a row of the project's database.

    lines ─→ told() ─→ entries, with what the file's marks say of them        in_order(file's, database's) ─→ one book

The database's order counts, never a clock: machines disagree about the time.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from agentops.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from agentops.platforms.supabase.journal import Line

    BookName = Literal["deployments", "incidents", "audit"]

# Names lines that were written before entries had keys.
_UNNAMED = uuid.UUID("6f6a1ad0-6d62-5d0a-9f39-0e6c2b1c9a11")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# As the database has it (0007_projects.sql): an incident's number is counted on from.
_NUMBERS = range(1, 1_000_000_000)
_ABOUT = {"key", "first", "shared"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `content` says when (`at`, ISO 8601) and what.

    `first` is the key of the entry that began the same incident on this machine, while its number is this machine's
    own guess. `shared` is false for what concerns this machine alone. `place` is the database's number of it, `sent`
    whether this machine knows it to be there, `refused` whether the database would not have it.
    """

    key: str
    content: dict[str, Any]
    first: str | None = None
    shared: bool = True
    sent: bool = False
    refused: bool = False
    place: int | None = None

    @property
    def at(self) -> datetime:
        """When it was written."""
        try:
            return datetime.fromisoformat(self.content["at"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError, OverflowError):
            return _LONG_AGO

    def line(self) -> Line:
        """What the file keeps of it."""
        about = {"key": self.key, "first": self.first, "shared": None if self.shared else False}
        return {**{name: value for name, value in about.items() if value is not None}, **self.content}

    def item(self, book: BookName) -> dict[str, Any]:
        """What the database is sent."""
        return {"book": book, "key": self.key, "at": self.at.isoformat(), "first": self.first, "entry": self.content}

    def fits(self, book: BookName) -> bool:
        """Whether it is an entry of that book; a line that a newer agentops wrote for itself may be none."""
        names = [self.key] if self.first is None else [self.key, self.first]
        number = self.content.get("id")
        return all(map(_is_key, names)) and (book != "incidents" or (type(number) is int and number in _NUMBERS))


def new_key() -> str:
    """A name that no other entry has."""
    return str(uuid.uuid4())


def told(lines: Sequence[Line]) -> list[Entry]:
    """A file's entries, oldest first."""
    found: dict[str, Entry] = {}
    begun: dict[int, str] = {}
    for line in lines:
        if isinstance(line.get("sent"), list):
            _mark(found, line)
        else:
            entry = _entry(line, begun)
            found[entry.key] = entry
    return list(found.values())


def in_order(here: Sequence[Entry], stored: Mapping[str, Entry], lost: AbstractSet[str]) -> list[Entry]:
    """The database's entries in its order, then what it has not got yet, as it stands in the file.

    What is sent and older than what was read comes first. What concerns this machine alone stays before the entry that
    follows it in the file. `lost` are keys of what was sent and is not there any more.
    """
    if not stored:
        return list(here)
    older: list[Entry] = []
    own: list[Entry] = []
    unsent: list[Entry] = []
    before: dict[str, list[Entry]] = {}
    for entry in here:
        if entry.key in stored:
            before[entry.key], own = own, []
        elif entry.sent and entry.key not in lost:
            older.append(entry)
        elif entry.shared:
            unsent.append(entry)
        else:
            own.append(entry)
    ordered = sorted(stored.values(), key=lambda entry: entry.place or 0)
    return [*older, *(each for entry in ordered for each in (*before.get(entry.key, ()), entry)), *own, *unsent]


def _mark(found: dict[str, Entry], mark: Line) -> None:
    """Note what became of entries: stored, under which number, refused."""
    numbers = mark.get("numbers")
    for entry in _named(found, mark["sent"]):
        found[entry.key] = replace(entry, sent=True)
    for entry in _named(found, mark.get("refused")):
        found[entry.key] = replace(entry, refused=True)
    for entry in _named(found, list(numbers) if isinstance(numbers, dict) else ()):
        found[entry.key] = replace(entry, content={**entry.content, "id": mark["numbers"][entry.key]})


def _named(found: Mapping[str, Entry], keys: object) -> list[Entry]:
    names = keys if isinstance(keys, list) else []
    return [found[key] for key in names if isinstance(key, str) and key in found]


def _entry(line: Line, begun: dict[int, str]) -> Entry:
    # What PostgreSQL cannot hold must not keep the rest from it, also where it was written down already.
    content: dict[str, Any] = storable({name: value for name, value in line.items() if name not in _ABOUT})
    if "key" in line:
        first = line.get("first")
        return Entry(str(line["key"]), content, None if first is None else str(first), bool(line.get("shared", True)))
    key = str(uuid.uuid5(_UNNAMED, json.dumps(line, sort_keys=True)))
    number = line.get("id")
    first = begun.setdefault(number, key) if isinstance(number, int) else None
    return Entry(key, content, first, line.get("origin") != "downloaded")


def _is_key(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
