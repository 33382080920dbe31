"""Stops features at once, and knows when they have stopped.

    press ─ one statement: flags off, incident, audit ─→ drain ─ the money lock, alone ─→ confirm ─ every live server

After `press` committed, no new money transaction passes; after `drain`, none that began before can still commit; after
`confirm`, no server works with older settings. It needs the database only: servers may hang, or none may run.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentops.counts import counted
from agentops.errors import AgentOpsError, Conflict, TimedOut
from agentops.settings import CHAT, KNOWN_FLAGS, VOICE, flag_alias
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentops.platforms import Queries, Row

_SQL = statements(__file__)
DEFAULT = (CHAT, VOICE)
EVERYTHING = tuple(KNOWN_FLAGS.values())
LOCK_SECONDS = 5.0
CONFIRM_SECONDS = 10.0
_POLL_SECONDS = 0.02
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A server that works with the new settings, `seconds` after they were committed."""

    server: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Killed:
    """What the kill switch did. Where something may still run, `unconfirmed` says who, or `drained_seconds` is None.

    `incident` is None where it could not be written down.
    """

    incident: int | None
    target: str
    features: list[str]
    changed: bool
    drained_seconds: float | None
    confirmed: list[Confirmation]
    unconfirmed: list[str]

    @property
    def remedy(self) -> str:
        """What to do about those that are unconfirmed."""
        return "stop these processes if need be, then repeat the kill switch"

    def text(self) -> str:
        """What an operator wants to know, a line each."""
        again = "" if self.changed else ", as before"
        lines = [f"OFF on target {self.target}: {', '.join(self.features)} (incident {self.incident}{again})"]
        if self.drained_seconds is not None:
            lines.append(f"no voucher transaction begun before can still commit (waited {self.drained_seconds:.3f} s)")
        if self.confirmed:
            slowest = max(entry.seconds for entry in self.confirmed)
            lines.append(f"confirmed by {_processes(len(self.confirmed))}, the last after {slowest:.3f} s")
        elif not self.unconfirmed:
            lines.append("no server is alive; the next one starts with these flags")
        return "\n".join(lines + [f"NOT CONFIRMED: {name}" for name in self.unconfirmed])


@dataclass(frozen=True, slots=True)
class Plan:
    """What the kill switch would do; `incident` is the open one that it would find."""

    incident: int | None
    target: str
    features: list[str]
    changed: bool

    def text(self) -> str:
        """One line for eyes."""
        names = ", ".join(self.features)
        if not self.changed:
            return f"nothing would change on target {self.target}: {names} off already (incident {self.incident})"
        return f"would switch off on target {self.target}: {names}"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back; `kept` are flags that somebody switched since, which stay as they are.

    `unknown` are flags that stay off, because nobody could tell how they stood before; of a hosted project only.
    """

    incident: int
    target: str
    restored: list[str]
    kept: list[str]
    changed: bool
    unknown: list[str] = field(default_factory=list)

    @property
    def names(self) -> str:
        """What is put back, and what is left off, for eyes."""
        back = ", ".join(self.restored) or ("nothing" if self.unknown else "nothing (nothing was on)")
        if not self.unknown:
            return back
        left, typed = ", ".join(self.unknown), " ".join(self.unknown)
        return f"{back}; left off, for how they stood before could not be read: {left} (agentops flags enable {typed})"

    def text(self) -> str:
        """One line for eyes."""
        if not self.changed:
            return f"incident {self.incident} is restored already"
        kept = f"; left as somebody set them since: {', '.join(self.kept)}" if self.kept else ""
        return f"incident {self.incident} restored on target {self.target}: {self.names}{kept}"


class Restorable(Restored):
    """What a restore would put back."""

    __slots__ = ()

    def text(self) -> str:
        """One line for eyes."""
        if not self.changed:
            return f"incident {self.incident} is restored already"
        return f"would put back on target {self.target}: {self.names} (incident {self.incident})"


async def press(queries: Queries, target: str, names: Sequence[str], *, reason: str, actor: str) -> Killed:
    """Switch features off, wait for money under way, wait for the servers. Never raises after the flags are off.

    Raises:
        TimedOut: the flags could not be switched: somebody keeps them locked. Nothing was done.
        Unavailable, NotAuthorised: the database does not let us. Nothing was done.
    """
    await queries.query(_SQL["bounds"], {"milliseconds": str(round(LOCK_SECONDS * 1000))})
    row = await _commit(queries, {"names": list(names), "reason": reason, "actor": actor})
    committed = time.monotonic()
    drained: float | None = None
    confirmed: list[Confirmation] = []
    missing: list[str] = []
    try:
        generation = int((await queries.query(_SQL["generation"]))[0]["n"])
        drained, missing = await _drain(queries, committed)
        confirmed, silent = await _confirm(queries, generation, committed)
        missing += silent
    except AgentOpsError as failure:
        missing.append(f"the database, while waiting: {failure.message}")
    return Killed(row["id"], target, _short(row["features"]), row["changed"], drained, confirmed, missing)


async def planned(queries: Queries, target: str, names: Sequence[str]) -> Plan:
    """What `press` would do, from reading alone."""
    rows = await queries.query(_SQL["state"], {"names": list(names)})
    return Plan(rows[0]["incident"], target, _short(names), any(row["changes"] for row in rows))


async def restore(queries: Queries, target: str, number: int, *, actor: str) -> Restored:
    """Put back exactly what incident `number` switched off; a second time nothing."""
    rows = await queries.query(_SQL["restore"], {"id": number, "actor": actor})
    if not rows:
        return Restored(number, target, [], [], changed=False)
    return Restored(number, target, _short(rows[0]["restored"]), _short(rows[0]["kept"]), changed=True)


async def restorable(queries: Queries, target: str, number: int) -> Restored:
    """What `restore` would put back, from reading alone."""
    rows = await queries.query(_SQL["restorable"], {"id": number})
    names = _short(row["name"] for row in rows if row["mine"] and row["shown"])
    kept = _short(row["name"] for row in rows if not row["mine"])
    return Restorable(number, target, names, kept, changed=bool(rows))


async def confirm(queries: Queries) -> tuple[list[Confirmation], list[str]]:
    """Wait until every server works with the settings as they are now; who does, and who does not say so."""
    generation = int((await queries.query(_SQL["generation"]))[0]["n"])
    return await _confirm(queries, generation, time.monotonic())


async def _commit(queries: Queries, parameters: dict[str, object]) -> Row:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return (await queries.query(_SQL["press"], parameters))[0]
        except Conflict:
            # Two switches at the same moment may deadlock; PostgreSQL let the other one through, now it is our turn.
            if attempt == _ATTEMPTS:
                raise
        except TimedOut as late:
            who = await _holders(queries, flags=True)
            raise TimedOut(
                f"the flags are locked and were NOT switched off: {'; '.join(who) or late.message}",
                "end those sessions (select pg_terminate_backend(PID) in agentops db psql), then repeat",
            ) from late
    raise AssertionError


async def _drain(queries: Queries, committed: float) -> tuple[float | None, list[str]]:
    from agentops.store.database import MONEY_LOCK

    try:
        await queries.query(_SQL["drain"], {"key": MONEY_LOCK})
    except TimedOut:
        who = await _holders(queries, flags=False)
        return None, who or [f"a money transaction that ran longer than {LOCK_SECONDS:.0f} s"]
    return round(time.monotonic() - committed, 3), []


async def _holders(queries: Queries, *, flags: bool) -> list[str]:
    from agentops.store.database import MONEY_LOCK

    rows = await queries.query(_SQL["holders"], {"key": MONEY_LOCK, "flags": flags})
    return [
        f"PostgreSQL session {row['pid']} ({row['application_name'] or 'unnamed'} from {row['client']}, {row['state']})"
        for row in rows
    ]


async def _confirm(queries: Queries, generation: int, committed: float) -> tuple[list[Confirmation], list[str]]:
    """Wait until every server that is or was alive since the commit reports this generation, or says goodbye."""
    confirmed: dict[str, Confirmation] = {}
    seen: list[str] = []
    while True:
        rows = await queries.query(_SQL["servers"], {"seen": seen})
        seen = [row["id"] for row in rows]
        seconds = round(time.monotonic() - committed, 3)
        for row in rows:
            if row["generation"] >= generation and row["id"] not in confirmed:
                confirmed[row["id"]] = Confirmation(f"{row['host']}:{row['pid']}", seconds)
        waiting = [row for row in rows if row["id"] not in confirmed]
        if not waiting or seconds >= CONFIRM_SECONDS:
            return list(confirmed.values()), [_silent(row) for row in waiting]
        await asyncio.sleep(_POLL_SECONDS)


def _silent(row: Row) -> str:
    state = "alive, but still with older settings" if row["alive"] else "no heartbeat for 10 s"
    return f"{row['host']}:{row['pid']} ({state})"


def _short(names: Iterable[str]) -> list[str]:
    """The names as operators type them, in the order in which flags are always listed."""
    given = {flag_alias(name) for name in names}
    return [alias for alias in KNOWN_FLAGS if alias in given] + sorted(given - KNOWN_FLAGS.keys())


def _processes(count: int) -> str:
    return counted(count, "server process", "server processes")
