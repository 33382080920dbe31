"""The kill switch of a hosted project: one request, read back; its record in this machine's state folder.

    press ─ read what is on ─→ one POST ─→ read back ─→ record ─→ with `wait`: ask each webhook until it says off

Nothing but the POST is waited for: what is on is read once, for the record, and where that fails or takes long the
switch goes on. One incident is open at a time: a second press is the same one. Warm isolates may keep the old value for
minutes, so without `wait` nothing is called confirmed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, NotFound, TimedOut, Unavailable, Unverified
from agentops.incidents.kill_switch import Confirmation, Killed, Plan, Restorable, Restored
from agentops.platforms import LogFilter
from agentops.platforms.supabase import flags, secrets
from agentops.platforms.supabase.journal import Journal
from agentops.settings import CHAT, VOICE, flag_alias
from agentops.store.incidents import Incident, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agentops.platforms.supabase import SupabasePlatform

WEBHOOKS = {CHAT: "ai-whatsapp-webhook", VOICE: "ai-realtime-webhook"}
DISABLED = "ai.*.webhook.disabled"
READ_SECONDS = 3.0
CONFIRM_SECONDS = 120.0
PROBE_SECONDS = 2.0
# The logs' own limit is ten questions a minute.
LOGS_SECONDS = 10.0
_SWITCHED, _RESTORED = "kill-switch", "incident.restore"


class HostedKilled(Killed):
    """What the kill switch did on a hosted project: there is no database lock to wait for (`drained_seconds` null)."""

    __slots__ = ()

    def text(self) -> str:
        """What an operator wants to know, a line each."""
        again = "" if self.changed else ", as before"
        lines = [f"OFF on target {self.target}: {', '.join(self.features)} (incident {self.incident}{again})"]
        lines += [f"confirmed by {each.server} after {each.seconds:.1f} s" for each in self.confirmed]
        lines += [f"NOT CONFIRMED: {name}" for name in self.unconfirmed]
        if not self.confirmed and not self.unconfirmed:
            lines.append("warm isolates may keep the old value for minutes; to see them stop: --wait")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Was:
    """How a flag stood: on, or set to off. One that is not set may be on all the same: it may follow another one."""

    on: bool
    set_off: bool
    unset: bool


class Book:
    """The incidents of one project, an entry each time something happens to one."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / "incidents.jsonl")

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        return [entry for entry in self._journal.entries() if _is_entry(entry)]

    def listed(self) -> list[Incident]:
        """All incidents, newest first."""
        found: dict[int, dict[str, Any]] = {}
        for entry in self.entries():
            if entry["action"] == _SWITCHED:
                known = found.setdefault(entry["id"], {**entry, "restored": None})
                for field in ("features", "switched_off"):
                    known[field] = list(dict.fromkeys([*known[field], *entry[field]]))
                if entry["reason"] not in {"", known["reason"]}:
                    known["reason"] = "; ".join(filter(None, (known["reason"], entry["reason"])))
            elif entry["action"] == _RESTORED and entry["id"] in found:
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
            raise NotFound(f"there is no incident {number} of this project on this machine", "agentops incident list")
        return found

    def timeline(self, number: int) -> list[Moment]:
        """What was done in its course."""
        return [
            Moment(datetime.fromisoformat(entry["at"]), entry["by"], entry["action"], "", {})
            for entry in self.entries()
            if entry["id"] == number
        ]

    def write(self, entry: dict[str, Any], *, number: int | None) -> int:
        """Append an entry, to the open incident or a new one where `number` is None; its number.

        Raises:
            AgentOpsError: it cannot be written.
        """
        with self._journal.writing() as append:
            if number is None:
                known = self.open()
                number = known.id if known else max((each["id"] for each in self.entries()), default=0) + 1
            append({"id": number, "at": datetime.now(UTC).isoformat(), **entry})
        return number


async def press(
    platform: SupabasePlatform, book: Book, names: Sequence[str], *, reason: str, actor: str, wait: bool
) -> Killed:
    """Switch features off in one request.

    Raises:
        NotAuthorised, NotFound: the request was refused, nothing was done.
        TimedOut, Unavailable: no answer, or a failing one; it may have been carried out, and is in the book.
        Unverified: the API took it, and lists other values or none.
    """
    before = await _before(platform, names)
    moving = [name for name in names if before is None or not before[name].set_off]
    entry = {"action": _SWITCHED, "by": actor, "reason": reason, "features": list(names), **_told(before, names, book)}
    began, begun = datetime.now(UTC), time.monotonic()
    try:
        await secrets.put(platform.api, dict.fromkeys(moving, "false"))
    except (TimedOut, Unavailable, asyncio.CancelledError):
        # It may have been carried out: what is noted and was not done is skipped by a restore.
        _noted(platform, book, entry)
        raise
    known = _open(book)
    number = _noted(platform, book, entry) if moving or known is None else known.id
    try:
        await flags.read_back(platform.api, [flags.state(name, None) for name in names], enabled=False)
    except Unverified as failure:
        raise Unverified(f"{failure.message} (incident {number})", failure.hint) from failure
    confirmed, missing = await confirm(platform, names, begun, began) if wait else ([], [])
    short = [flag_alias(name) for name in names]
    changed = bool(moving) or known is None
    return HostedKilled(number, platform.target, short, changed, None, confirmed, missing)


async def planned(platform: SupabasePlatform, book: Book, names: Sequence[str]) -> Plan:
    """What `press` would do, from reading alone."""
    states = await _states(platform, names, attempts=4)
    known = book.open()
    changed = known is None or any(not was.set_off for was in states.values())
    return Plan(known.id if known else None, platform.target, [flag_alias(name) for name in names], changed)


async def restorable(platform: SupabasePlatform, book: Book, number: int) -> Restored:
    """What `restore` would put back; what somebody switched since stays as it is."""
    incident = book.one(number)
    if incident.restored_at is not None:
        return Restorable(number, platform.target, [], [], changed=False)
    was = _was(book, number)
    states = await _states(platform, list(was), attempts=4)
    mine = [flag_alias(name) for name in was if was[name].on and states[name].set_off]
    kept = [flag_alias(name) for name in was if not states[name].set_off]
    return Restorable(number, platform.target, mine, kept, changed=True)


async def restore(platform: SupabasePlatform, book: Book, number: int, *, actor: str) -> Restored:
    """Put back what incident `number` switched off, also that a flag was not set; a second time nothing.

    Raises:
        NotFound: there is no such incident.
        Unverified: the API took the change, and lists other values or none.
    """
    plan = await restorable(platform, book, number)
    if not plan.changed:
        return plan
    was = {name: flag for name, flag in _was(book, number).items() if flag_alias(name) not in plan.kept}
    texts = {name: None if flag.unset else "true" for name, flag in was.items() if flag.unset or flag.on}
    await secrets.changed(platform.api, texts, check=False)
    on = [flags.state(name, None) for name, text in texts.items() if text]
    if on:
        await flags.read_back(platform.api, on, enabled=True)
    book.write({"action": _RESTORED, "by": actor}, number=number)
    return Restored(number, platform.target, plan.restored, plan.kept, changed=True)


async def _before(platform: SupabasePlatform, names: Sequence[str]) -> dict[str, _Was] | None:
    """How the flags stand; None where that cannot be read at once: it is for the record only."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _states(platform, names, attempts=1)
    except (AgentOpsError, TimeoutError):
        return None


def _told(before: dict[str, _Was] | None, names: Sequence[str], book: Book) -> dict[str, list[str]]:
    """What a press says of how it was. Unread, an open incident knows it; without one all were on, to be safe."""
    if before is None:
        return {"switched_off": [] if _open(book) else list(names), "unset": []}
    return {
        "switched_off": [name for name in names if before[name].on],
        "unset": [name for name in names if before[name].unset],
    }


def _open(book: Book) -> Incident | None:
    """The open incident; none where the book cannot be read, which holds nothing up."""
    try:
        return book.open()
    except AgentOpsError:
        return None


def _noted(platform: SupabasePlatform, book: Book, entry: dict[str, Any]) -> int:
    """Write it down; the flags are off by now, so a full disk is only said. 0 stands for no incident."""
    try:
        return book.write(entry, number=None)
    except AgentOpsError as failure:
        names = " ".join(flag_alias(name) for name in entry["switched_off"])
        platform.told(f"note: {failure.message}; to put it back: agentops flags enable {names}")
        return 0


def _was(book: Book, number: int) -> dict[str, _Was]:
    """How the flags that an incident switched off stood before; what was written first counts."""
    found: dict[str, _Was] = {}
    for entry in book.entries():
        if entry["id"] == number and entry["action"] == _SWITCHED:
            unset = entry.get("unset", [])
            for name in dict.fromkeys([*entry["switched_off"], *unset]):
                found.setdefault(name, _Was(name in entry["switched_off"], set_off=False, unset=name in unset))
    return found


async def _states(platform: SupabasePlatform, names: Sequence[str], *, attempts: int) -> dict[str, _Was]:
    digests = await secrets.digests(platform.api, attempts=attempts)
    effective = {flag.secret: flag for flag in flags.found(digests)}
    return {
        name: _Was(
            on=name in effective and effective[name].enabled is True,
            set_off=name in digests and flags.state(name, digests[name]).enabled is False,
            unset=name not in digests,
        )
        for name in names
    }


async def confirm(
    platform: SupabasePlatform, names: Sequence[str], begun: float, since: datetime
) -> tuple[list[Confirmation], list[str]]:
    """Ask each webhook until it says off, by our forwarder's header or by its own log line."""
    waiting = {WEBHOOKS[name] for name in names if name in WEBHOOKS}
    confirmed: list[Confirmation] = []
    looked = time.monotonic()
    while waiting and time.monotonic() - begun < CONFIRM_SECONDS:
        asked = sorted(waiting)
        said = dict(zip(asked, await asyncio.gather(*(platform.calls.probe(slug) for slug in asked)), strict=True))
        done = {slug for slug, word in said.items() if word == "off"}
        if None in said.values() and time.monotonic() - looked >= LOGS_SECONDS:
            looked = time.monotonic()
            done |= await _logged(platform, [slug for slug, word in said.items() if word is None], since)
        seconds = round(time.monotonic() - begun, 3)
        confirmed += [Confirmation(slug, seconds) for slug in sorted(done)]
        waiting -= done
        if waiting:
            await asyncio.sleep(PROBE_SECONDS)
    return confirmed, [f"{slug} (it has not said that it is off)" for slug in sorted(waiting)]


async def _logged(platform: SupabasePlatform, slugs: Sequence[str], since: datetime) -> set[str]:
    wanted = LogFilter(slugs=tuple(slugs), event=DISABLED, since=since)
    try:
        return {line.function async for line in platform.logs(wanted, limit=100, follow=False, gap=lambda _words: None)}
    except AgentOpsError:
        return set()  # asked again in ten seconds; what stays unsaid is told as unconfirmed


def _is_entry(found: dict[str, Any]) -> bool:
    match found:
        case {"id": int(), "action": str(), "by": str(), "at": str()}:
            return True
    return False


def _incident(entry: dict[str, Any]) -> Incident:
    restored = entry["restored"]
    return Incident(
        id=entry["id"],
        kind="kill-switch",
        status="restored" if restored else "open",
        reason=entry["reason"],
        features=tuple(flag_alias(name) for name in entry["features"]),
        switched_off=tuple(flag_alias(name) for name in entry["switched_off"]),
        opened_by=entry["by"],
        opened_at=datetime.fromisoformat(entry["at"]),
        restored_by=restored["by"] if restored else None,
        restored_at=datetime.fromisoformat(restored["at"]) if restored else None,
    )
