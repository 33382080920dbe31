"""The kill switch of a hosted project: one request, read back, and written down in the project's books.

    press ─ read what is on ─→ one POST ─→ read back, and meanwhile write it down
                                        ─→ with `wait`: ask each function until it says off (confirming.py)

Nothing but the POST is waited for: what is on is read once, for the record, and where that fails or takes long the
switch goes on; the books are asked and written after it, within a bound. How a flag stood that could not be read is
noted as unknown: a restore leaves it off, and says how to switch it on. One incident is open at a time: a second press
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
    from collections.abc import Mapping, Sequence

    from agentops.incidents.book import Book
    from agentops.platforms import SecretChange
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.platforms.supabase.audit import Act
    from agentops.store.incidents import Incident


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
        number = "no incident noted" if self.incident is None else f"incident {self.incident}"
        lines = [f"OFF on target {self.target}: {', '.join(self.features)} ({number}{again})"]
        lines += [f"confirmed by {each.server} after {each.seconds:.1f} s" for each in self.confirmed]
        lines += [f"NOT CONFIRMED: {name}" for name in self.unconfirmed]
        if not self.confirmed and not self.unconfirmed:
            lines.append("warm isolates may keep the old value for minutes; to see them stop: --wait")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Was:
    """How a flag stood: on, or set to off. One that is not set may be on all the same: it may follow another one.

    `unknown`: it could not be read.
    """

    on: bool
    set_off: bool
    unset: bool
    unknown: bool = False


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
        await flags.put_off(platform.api, moving)
    except (TimedOut, Unavailable, asyncio.CancelledError) as failure:
        # It may have been carried out: what is noted and was not done is skipped by a restore.
        noting.here(failure.kind if isinstance(failure, AgentOpsError) else Kind.INTERRUPTED)
        raise
    written = asyncio.create_task(noting.everywhere())
    try:
        await flags.read_back(platform.api, [flags.state(name, None) for name in names], enabled=False)
    except Unverified as failure:
        number, _ = await written
        about = "no incident noted" if number is None else f"incident {number}"
        raise Unverified(f"{failure.message} ({about})", failure.hint) from failure
    number, changed = await written
    confirmed, missing = await confirm(platform, names, begun, began) if wait else ([], [])
    short = [flag_alias(name) for name in names]
    return HostedKilled(number, platform.target, short, changed, None, confirmed, missing)


async def planned(platform: SupabasePlatform, book: Book, names: Sequence[str]) -> Plan:
    """What `press` would do, from reading alone."""
    states = await _states(platform, names)
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
    states = await _states(platform, list(was))
    off = [name for name in was if states[name].set_off]
    mine = [flag_alias(name) for name in off if was[name].on]
    unknown = [flag_alias(name) for name in off if was[name].unknown]
    kept = [flag_alias(name) for name in was if name not in off]
    return Restorable(number, platform.target, mine, kept, changed=True, unknown=unknown)


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
    return Restored(number, platform.target, plan.restored, plan.kept, changed=True, unknown=plan.unknown)


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
    digests = await flags.glanced(platform.api)
    return None if digests is None else _standing(names, digests)


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
        number: int | None = None
        try:
            whole = self._whole()
            number = self.book.note(whole, number=None).content["id"]
            self._tell_unknown(whole)
        except AgentOpsError as failure:
            self._unwritten(failure)
        audit.write(self.platform, audit.failed(self._acts(number), kind))

    async def everywhere(self) -> tuple[int | None, bool]:
        """In the books; the incident's number (None: it could not be written), and whether anything changed.

        One that changes nothing and finds an open incident is the same incident, and leaves an entry only where it
        gives another reason.
        """
        known: Incident | None = None
        if self.before is None or not self.moving:
            try:
                await self.book.read()
            except asyncio.CancelledError:
                self.here(Kind.INTERRUPTED)
                raise
            known = self._open()
            if known is not None and not self.moving and _has_reason(known, self.entry["reason"]):
                return known.id, False
        number: int | None = None
        try:
            whole = self._whole()
            number = await self.book.write(whole, number=None)
            self._tell_unknown(whole)
        except AgentOpsError as failure:
            self._unwritten(failure)
        audit.write(self.platform, self._acts(number))
        await self.platform.books.send()
        self.platform.books.remark()
        return number, bool(self.moving) or known is None

    def _whole(self) -> dict[str, Any]:
        """With how it was before. Unread, an open incident knows it of its own features; of others nobody does."""
        names: list[str] = self.entry["features"]
        if self.before is None:
            known = self._open()
            unknown = [name for name in names if known is None or flag_alias(name) not in known.features]
            about = {"unknown": unknown} if unknown else {}
            return {**self.entry, "switched_off": [], "unset": [], **about}
        return {
            **self.entry,
            "switched_off": [name for name in names if self.before[name].on],
            "unset": [name for name in names if self.before[name].unset],
        }

    def _tell_unknown(self, whole: dict[str, Any]) -> None:
        names = [flag_alias(name) for name in whole.get("unknown", [])]
        if names:
            words = f"how {', '.join(names)} stood before could not be read, so a restore leaves them off"
            self.platform.told(f"note: {words}; to switch them on: agentops flags enable {' '.join(names)}")

    def _open(self) -> Incident | None:
        """The open incident; none where the book cannot be read, which holds nothing up."""
        try:
            return self.book.open()
        except AgentOpsError:
            return None

    def _acts(self, number: int | None) -> list[Act]:
        about = {"features": self.entry["features"], "reason": self.entry["reason"]}
        switched = [audit.Act("flag.disable", name, {"incident": number}) for name in self.moving]
        return [*switched, audit.Act("incident.kill-switch", "" if number is None else str(number), about)]

    def _unwritten(self, failure: AgentOpsError) -> None:
        """Say how else it is put back: no incident knows it."""
        on = [name for name in self.moving if self.before is None or self.before[name].on]
        names = " ".join(flag_alias(name) for name in on)
        known = "to put it back" if self.before is not None else "how they stood before could not be read; to put back"
        back = f"{known}: agentops flags enable {names}" if on else "none of them was on"
        self.platform.told(f"note: {failure.message}; {back}")


def _has_reason(incident: Incident, reason: str) -> bool:
    """Whether it says so already: it joins the reasons of all presses."""
    return not reason or f"; {reason}; " in f"; {incident.reason}; "


def _was(book: Book, number: int) -> dict[str, _Was]:
    """How the flags that an incident switched off stood before; what was written first counts, and known is more."""
    found: dict[str, _Was] = {}
    for entry in book.entries():
        if entry["id"] == number and entry["action"] == SWITCHED:
            unset = entry.get("unset", [])
            for name in dict.fromkeys([*entry["switched_off"], *unset]):
                if name not in found or found[name].unknown:
                    found[name] = _Was(name in entry["switched_off"], set_off=False, unset=name in unset)
            for name in _texts(entry.get("unknown")):
                found.setdefault(name, _Was(on=False, set_off=False, unset=False, unknown=True))
    return found


def _texts(found: object) -> list[str]:
    """The texts of a list, nothing where it is none: others write to the project's database, too."""
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


async def _states(platform: SupabasePlatform, names: Sequence[str]) -> dict[str, _Was]:
    return _standing(names, await secrets.digests(platform.api))


def _standing(names: Sequence[str], digests: Mapping[str, str]) -> dict[str, _Was]:
    effective = {flag.secret: flag for flag in flags.found(digests)}
    return {
        name: _Was(
            on=name in effective and effective[name].enabled is True,
            set_off=name in digests and flags.state(name, digests[name]).enabled is False,
            unset=name not in digests,
        )
        for name in names
    }
