"""The incidents of a hosted project, told by the entries that were written each time something happened to one.

    read() ─→ what the project's database and this machine know        note() ─→ on disk        write() ─→ and sent

One is open at a time, also across machines: whoever begins one while another is open goes on with that one, and the
project's database has the last word on the number. Where it does not answer, this machine gives the next one it knows.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import NotFound
from agentops.platforms.supabase.books import new_key
from agentops.settings import flag_alias
from agentops.store.incidents import KILL_SWITCH, Incident, Moment

if TYPE_CHECKING:
    from agentops.platforms.supabase.books import Books, Entry

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
        return [entry.content for entry in self._books.entries("incidents") if _is_entry(entry.content)]

    def listed(self) -> list[Incident]:
        """All incidents, newest first."""
        found: dict[int, dict[str, Any]] = {}
        for entry in self.entries():
            if entry["action"] == SWITCHED:
                known = found.setdefault(entry["id"], {**entry, "restored": None})
                for field in ("features", "switched_off"):
                    known[field] = list(dict.fromkeys([*known[field], *entry[field]]))
                if entry["reason"] not in {"", known["reason"]}:
                    known["reason"] = "; ".join(filter(None, (known["reason"], entry["reason"])))
            elif entry["action"] == RESTORED and entry["id"] in found:
                found[entry["id"]]["restored"] = entry
        return [_incident(entry) for entry in reversed(found.values())]

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
                datetime.fromisoformat(entry["at"]),
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

        Raises:
            AgentOpsError: it cannot be written.
        """
        written = self.note(entry, number=number)
        await self._books.send()
        self._books.remark()
        stored = next(each for each in self._books.entries("incidents") if each.key == written.key)
        return int(stored.content["id"])

    def note(self, entry: dict[str, Any], *, number: int | None) -> Entry:
        """Append it on this machine alone, as `write` does; sent with a later command.

        Raises:
            AgentOpsError: it cannot be written.
        """
        with self._books.writing("incidents") as add:
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
            return add({"id": number, **entry}, key=key, first=next(guessed, begun))


def _about(entry: dict[str, Any], *, opened: bool) -> dict[str, Any]:
    """What a timeline says of an entry: the features and why, or the server's incident that was noted."""
    if entry["action"] == SWITCHED:
        return {"features": entry["features"], "reason": entry["reason"], "opened": opened}
    return {name: entry[name] for name in ("server", "server_incident") if name in entry}


def _is_entry(found: dict[str, Any]) -> bool:
    """Whether it can be told: others write to the project's database, too."""
    match found:
        case {"id": int(), "action": str(), "by": str(), "at": str(at)}:
            try:
                datetime.fromisoformat(at)
            except ValueError:
                return False
            return found["action"] != SWITCHED or _is_press(found)
    return False


def _is_press(found: dict[str, Any]) -> bool:
    match found:
        case {"reason": str(), "features": list(), "switched_off": list()}:
            return True
    return False


def _incident(entry: dict[str, Any]) -> Incident:
    restored = entry["restored"]
    return Incident(
        id=entry["id"],
        kind=KILL_SWITCH,
        status="restored" if restored else "open",
        reason=entry["reason"],
        features=tuple(flag_alias(name) for name in entry["features"]),
        switched_off=tuple(flag_alias(name) for name in entry["switched_off"]),
        opened_by=entry["by"],
        opened_at=datetime.fromisoformat(entry["at"]),
        restored_by=restored["by"] if restored else None,
        restored_at=datetime.fromisoformat(restored["at"]) if restored else None,
    )
