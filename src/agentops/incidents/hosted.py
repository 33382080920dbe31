"""The kill switch of a hosted project: one request, read back, and written down in the project's books.

    press ─ read what is on ─→ one POST ─→ read back, and meanwhile write it down
                                        ─→ with `wait`: ask each function until it says off (confirming.py)

Nothing but the POST is waited for: what is on is read once, for the record, and where that fails or takes long the
switch goes on; the books are asked and written after it, within a bound. One incident is open at a time: a second press
is the same one. Warm isolates may keep the old value for minutes, so without `wait` nothing is called confirmed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, Kind, TimedOut, Unavailable, Unverified
from agentops.incidents.book import RESTORED, SWITCHED
from agentops.incidents.confirming import confirm
from agentops.incidents.kill_switch import Killed, Plan, Restorable, Restored
from agentops.platforms.supabase import audit, flags, secrets
from agentops.settings import flag_alias, flag_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.incidents.book import Book
    from agentops.platforms import SecretChange
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.platforms.supabase.audit import Act
    from agentops.store.incidents import Incident

READ_SECONDS = 3.0


class HostedKilled(Killed):
    """What the kill switch did on a hosted project: there is no database lock to wait for (`drained_seconds` null)."""

    __slots__ = ()

    @property
    def remedy(self) -> str:
        """What runs there is no process to stop: fresh isolates read the flags, what is taken off runs no more."""
        settings = " ".join(f"{flag_name(name)}=false" for name in self.features)
        return f"agentops secrets set {settings} --redeploy   (or, surest: agentops deploy delete SLUG)"

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
    entry = {"action": SWITCHED, "by": actor, "reason": reason, "features": list(names)}
    noting = _Noting(platform, book, before, moving, entry)
    began, begun = datetime.now(UTC), time.monotonic()
    try:
        await secrets.put(platform.api, dict.fromkeys(moving, "false"))
    except (TimedOut, Unavailable, asyncio.CancelledError) as failure:
        # It may have been carried out: what is noted and was not done is skipped by a restore.
        noting.here(failure.kind if isinstance(failure, AgentOpsError) else Kind.INTERRUPTED)
        raise
    written = asyncio.create_task(noting.everywhere())
    try:
        await flags.read_back(platform.api, [flags.state(name, None) for name in names], enabled=False)
    except Unverified as failure:
        raise Unverified(f"{failure.message} (incident {(await written)[0]})", failure.hint) from failure
    number, changed = await written
    confirmed, missing = await confirm(platform, names, begun, began) if wait else ([], [])
    short = [flag_alias(name) for name in names]
    return HostedKilled(number, platform.target, short, changed, None, confirmed, missing)


async def planned(platform: SupabasePlatform, book: Book, names: Sequence[str]) -> Plan:
    """What `press` would do, from reading alone."""
    states = await _states(platform, names, attempts=4)
    await book.read()
    known = book.open()
    changed = known is None or any(not was.set_off for was in states.values())
    return Plan(known.id if known else None, platform.target, [flag_alias(name) for name in names], changed)


async def restorable(platform: SupabasePlatform, book: Book, number: int) -> Restored:
    """What `restore` would put back; what somebody switched since stays as it is."""
    await book.read()
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
        AgentOpsError: (partial) some are put back, the others could not be unset.
    """
    plan = await restorable(platform, book, number)
    if not plan.changed:
        return plan
    was = {name: flag for name, flag in _was(book, number).items() if flag_alias(name) not in plan.kept}
    texts = {name: None if flag.unset else "true" for name, flag in was.items() if flag.unset or flag.on}
    acts = [audit.Act("flag.restore", name, {"incident": number}) for name in texts]
    acts.append(audit.Act("incident.restore", str(number), {"restored": [name for name in was if was[name].on]}))
    async with audit.auditing(platform, acts) as done:
        _require_all(await secrets.changed(platform.api, texts, check=False), number)
        on = [flags.state(name, None) for name, text in texts.items() if text]
        if on:
            await flags.read_back(platform.api, on, enabled=True)
        book.note({"action": RESTORED, "by": actor}, number=number)
        done.extend(acts)
    return Restored(number, platform.target, plan.restored, plan.kept, changed=True)


def _require_all(changes: Sequence[SecretChange], number: int) -> None:
    """Raises where some were put back and others not; the next restore goes on with these."""
    failed = [change for change in changes if change.status == "failed"]
    if failed:
        done = ", ".join(flag_alias(change.name) for change in changes if change.changed)
        words = [f"put back: {done}", *(f"not put back: {flag_alias(each.name)} ({each.finding})" for each in failed)]
        failure = AgentOpsError("\n  ".join(words), f"agentops incident restore {number}")
        failure.kind = Kind.PARTIAL
        raise failure


async def _before(platform: SupabasePlatform, names: Sequence[str]) -> dict[str, _Was] | None:
    """How the flags stand; None where that cannot be read at once: it is for the record only."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _states(platform, names, attempts=1)
    except (AgentOpsError, TimeoutError):
        return None


@dataclass(frozen=True, slots=True)
class _Noting:
    """Writes a press down. The flags are off by then, so whatever fails is only said."""

    platform: SupabasePlatform
    book: Book
    before: dict[str, _Was] | None
    moving: Sequence[str]
    entry: dict[str, Any]

    def here(self, kind: Kind) -> None:
        """On this machine alone, sent with a later command: the switch may have been carried out, or not."""
        try:
            number = self.book.note(self._whole(), number=None).content["id"]
        except AgentOpsError as failure:
            number = self._unwritten(failure)
        audit.write(self.platform, audit.failed(self._acts(number), kind))

    async def everywhere(self) -> tuple[int, bool]:
        """In the books; the incident's number (0: none could be written), and whether anything changed.

        One that changes nothing and finds an open incident is the same incident, and leaves no entry.
        """
        if self.before is None or not self.moving:
            try:
                await self.book.read()
            except asyncio.CancelledError:
                self.here(Kind.INTERRUPTED)
                raise
            known = self._open()
            if known is not None and not self.moving:
                return known.id, False
        try:
            number = await self.book.write(self._whole(), number=None)
        except AgentOpsError as failure:
            number = self._unwritten(failure)
        audit.write(self.platform, self._acts(number))
        await self.platform.books.send()
        self.platform.books.remark()
        return number, True

    def _whole(self) -> dict[str, Any]:
        """With how it was before. Unread, an open incident knows it; without one all were on, to be safe."""
        names: list[str] = self.entry["features"]
        if self.before is None:
            return {**self.entry, "switched_off": [] if self._open() else names, "unset": []}
        return {
            **self.entry,
            "switched_off": [name for name in names if self.before[name].on],
            "unset": [name for name in names if self.before[name].unset],
        }

    def _open(self) -> Incident | None:
        """The open incident; none where the book cannot be read, which holds nothing up."""
        try:
            return self.book.open()
        except AgentOpsError:
            return None

    def _acts(self, number: int) -> list[Act]:
        about = {"features": self.entry["features"], "reason": self.entry["reason"]}
        switched = [audit.Act("flag.disable", name, {"incident": number}) for name in self.moving]
        return [*switched, audit.Act("incident.kill-switch", str(number), about)]

    def _unwritten(self, failure: AgentOpsError) -> int:
        names = " ".join(flag_alias(name) for name in self._whole()["switched_off"])
        self.platform.told(f"note: {failure.message}; to put it back: agentops flags enable {names}")
        return 0


def _was(book: Book, number: int) -> dict[str, _Was]:
    """How the flags that an incident switched off stood before; what was written first counts."""
    found: dict[str, _Was] = {}
    for entry in book.entries():
        if entry["id"] == number and entry["action"] == SWITCHED:
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
