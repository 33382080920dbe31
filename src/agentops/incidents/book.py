"""The incidents of a hosted project, told by the entries that were written each time something happened to one.

    read() ─→ what the project's database and this machine know        note() ─→ on disk        write() ─→ and sent

One is open at a time, also across machines: whoever begins one while another is open goes on with that one, and the
project's database has the last word on the number and on what came first: clocks differ. Where it does not answer, this
machine gives the next number it knows. A restore names the presses that it ends: nothing pressed since is over by it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, NotFound
from agentops.platforms.supabase.entries import new_key
from agentops.settings import flag_alias
from agentops.store.incidents import KILL_SWITCH, Incident, Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentops.platforms.supabase.books import Books
    from agentops.platforms.supabase.entries import Entry

# What may happen to one, as `action` of its entries.
SWITCHED, RESTORED = "kill-switch", "incident.restore"


class Book:
    """The incidents of one project. What it tells is what is known by then: see `read`."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def read(self) -> None:
        """Hear what other machines know; where the project's database does not answer, that is said."""
        await self._books.load("incidents")
        self._books.remark()

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        return [entry.content for entry in self._known()]

    def listed(self) -> list[Incident]:
        """All incidents, newest first."""
        known = self._known()
        ended = _ended(known)
        return [_incident(presses, ended) for presses in reversed(_pressed(known).values())]

    def open(self) -> Incident | None:
        """The incident that is not restored yet; a second press is the same one."""
        return next((incident for incident in self.listed() if incident.restored_at is None), None)

    def one(self, number: int) -> Incident:
        """The incident of that number.

        Raises:
            NotFound: there is none.
        """
        found = next((incident for incident in self.listed() if incident.id == number), None)
        if found is None:
            raise NotFound(f"there is no incident {number} of this project", "agentops incident list")
        return found

    def timeline(self, number: int) -> list[Moment]:
        """What was done in its course, in the words of a stack of one's own."""
        mine = [entry for entry in self.entries() if entry["id"] == number]
        first = next((entry for entry in mine if entry["action"] == SWITCHED), None)
        return [
            Moment(
                _when(entry),
                entry["by"],
                f"incident.{entry['action'].removeprefix('incident.')}",
                "",
                _about(entry, opened=entry is first),
            )
            for entry in mine
        ]

    async def write(self, entry: dict[str, Any], *, number: int | None) -> int:
        """Append an entry, to the open incident or a new one where `number` is None; its number in the end.

        It is on disk first; sending it takes `books.SECONDS` at most, and what was not sent goes with a later command.
        What cannot be written here is sent all the same.

        Raises:
            AgentOpsError: it cannot be written, and the project's database has it not either.
        """
        try:
            await self._books.free("incidents")
        except asyncio.CancelledError:
            with suppress(AgentOpsError):
                self.note(entry, number=number)
            raise
        try:
            written = self.note(entry, number=number)
        except AgentOpsError as failure:
            (stored,) = await self._books.send_held("incidents", [self._held(entry, number)], failure)
            return int(stored.content["id"])
        await self._books.send()
        self._books.remark()
        stored = next((each for each in self._books.entries("incidents") if each.key == written.key), written)
        return int(stored.content["id"])

    def note(self, entry: dict[str, Any], *, number: int | None) -> Entry:
        """Append it on this machine alone, as `write` does; sent with a later command.

        Raises:
            AgentOpsError: it cannot be written.
        """
        with self._books.writing("incidents") as add:
            return self._added(add, entry, number)

    def _held(self, entry: dict[str, Any], number: int | None) -> Entry:
        """The same entry in memory, for the database alone, which has the last word on the number."""
        add = partial(self._books.hold, "incidents")
        try:
            return self._added(add, entry, number)
        except AgentOpsError:  # what is here cannot be read either
            key = new_key()
            return add({"id": number or 1, **entry}, key=key, first=key if number is None else None)

    def _added(self, add: Callable[..., Entry], entry: dict[str, Any], number: int | None) -> Entry:
        key = new_key()
        begun = key if number is None else None
        if number is None:
            known = self.open()
            number = known.id if known else max((each["id"] for each in self.entries()), default=0) + 1
        # While the number is this machine's guess, what belongs together is told by the first entry's key.
        guessed = (
            each.first
            for each in self._books.here("incidents")
            if each.first and not each.sent and each.content.get("id") == number
        )
        ends: dict[str, Any] = {}
        if entry["action"] == RESTORED:
            # By name: what is pressed after it, on whichever machine, is not ended by it.
            ends["ends"] = [press.key for press in _pressed(self._known()).get(number, ())]
        return add({"id": number, **entry, **ends}, key=key, first=next(guessed, begun))

    def _known(self) -> list[Entry]:
        return [entry for entry in self._books.entries("incidents") if _is_entry(entry.content)]


def _pressed(known: Sequence[Entry]) -> dict[int, list[Entry]]:
    """The presses of each incident, oldest first."""
    found: dict[int, list[Entry]] = {}
    for entry in known:
        if entry.content["action"] == SWITCHED:
            found.setdefault(entry.content["id"], []).append(entry)
    return found


def _ended(known: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """The restore that ended each press, by the key of the press; one that names none ends what stands before it."""
    found: dict[str, dict[str, Any]] = {}
    for place, entry in enumerate(known):
        if entry.content["action"] == RESTORED:
            ends = entry.content.get("ends")
            if not isinstance(ends, list):
                ends = [press.key for press in _pressed(known[:place]).get(entry.content["id"], ())]
            found |= {key: entry.content for key in ends if isinstance(key, str)}
    return found


def _about(entry: dict[str, Any], *, opened: bool) -> dict[str, Any]:
    """What a timeline says of an entry: the features and why, or the server's incident that was noted."""
    if entry["action"] == SWITCHED:
        unknown = {"unknown": entry["unknown"]} if entry.get("unknown") else {}
        return {"features": entry["features"], "reason": entry["reason"], "opened": opened, **unknown}
    return {name: entry[name] for name in ("server", "server_incident") if name in entry}


def _is_entry(found: dict[str, Any]) -> bool:
    """Whether it can be told: others write to the project's database, too."""
    match found:
        case {"id": int(number), "action": str(), "by": str(), "at": str()} if number > 0:
            try:
                _when(found)
            except (ValueError, OverflowError):
                return False
            return found["action"] != SWITCHED or _is_press(found)
    return False


def _is_press(found: dict[str, Any]) -> bool:
    match found:
        case {"reason": str(), "features": list(features), "switched_off": list(off)}:
            unset = found.get("unset", [])
            return isinstance(unset, list) and all(isinstance(name, str) for name in (*features, *off, *unset))
    return False


def _when(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["at"]).astimezone(UTC)


def _incident(presses: Sequence[Entry], ended: Mapping[str, dict[str, Any]]) -> Incident:
    """One incident, of all that was pressed in its course; it is over when all of that is."""
    first, last = presses[0].content, presses[-1]
    restored = ended.get(last.key) if all(press.key in ended for press in presses) else None
    contents = [press.content for press in presses]
    return Incident(
        id=first["id"],
        kind=KILL_SWITCH,
        status="restored" if restored else "open",
        reason="; ".join(dict.fromkeys(each["reason"] for each in contents if each["reason"])),
        features=_features(contents, "features"),
        switched_off=_features(contents, "switched_off"),
        opened_by=first["by"],
        opened_at=_when(first),
        restored_by=restored["by"] if restored else None,
        restored_at=_when(restored) if restored else None,
    )


def _features(presses: Sequence[dict[str, Any]], field: str) -> tuple[str, ...]:
    return tuple(flag_alias(name) for name in dict.fromkeys(name for each in presses for name in each[field]))
