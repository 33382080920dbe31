"""A hosted project and the agentops server behind its forwarders as one target: flags and the kill switch act on both.

    off: server ─→ (it is done, has failed, or takes longer than HEAD_START) ─→ project, whatever became of the server
    on:  server ─→ project, where the server's is on

The server goes first, for it does the work, and gets so many seconds: a database that took the connection and says
nothing more is given up then. Whatever fails is a value here: the one never keeps the other from being switched off,
and the result names both. Who is interrupted says first what has been done. Each side has an incident of its own; the
project's book notes which one of the server belongs to it, so that a restore finds both.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from agentops.errors import AgentOpsError, TimedOut
from agentops.incidents.kill_switch import Confirmation, Killed, Plan, Restored
from agentops.platforms import Flag
from agentops.settings import flag_alias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentops.incidents.book import Book

# A server that answers is done by then; one that hangs is not waited for.
HEAD_START = 3.0
# What the server gets: longer than one that works may take. The kill switch connects, locks, drains and hears from
# every process (kill_switch.py); everything else is a statement.
KILL_SECONDS = 30.0
SECONDS = 15.0
# One that is cancelled asks its server first to end the statement; cancelled again it lets go.
_CANCEL_SECONDS = 1.0

# The entry of a project's book that names the server's incident.
PAIRED = "kill-switch.server"


class Outcome(Protocol):
    """What was done on one of the two."""

    def text(self) -> str:
        """It, for eyes."""


_T = TypeVar("_T", bound=Outcome)


@dataclass(frozen=True, slots=True)
class FlagThere(Flag):
    """A flag on one of the two; `enabled` is null and `finding` says why where it could not be switched."""

    target: str = ""
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What the kill switch did on one of the two; `finding` says why where it failed, with `incident` null."""

    target: str
    incident: int | None
    changed: bool
    finding: str | None


@dataclass(frozen=True, slots=True)
class KilledBoth:
    """What the kill switch did on both: the fields of one, taken together; `incident` is the project's."""

    incident: int | None
    target: str
    features: list[str]
    changed: bool
    drained_seconds: float | None
    confirmed: list[Confirmation]
    unconfirmed: list[str]
    targets: list[Side]
    words: str = field(metadata={"json": False})

    def text(self) -> str:
        """What an operator wants to know, of the one and then of the other."""
        return self.words


@dataclass(frozen=True, slots=True)
class Pair:
    """The server that was switched off together with a project, and its own incident."""

    server: str
    incident: int


@dataclass(frozen=True, slots=True)
class Back:
    """What a restore did, or would do, on one of the two; `finding` says why where it failed."""

    target: str
    incident: int
    restored: list[str]
    kept: list[str]
    unknown: list[str]
    changed: bool
    finding: str | None


@dataclass(frozen=True, slots=True)
class RestoredBoth:
    """What a restore did, or would do, on both: the fields of one, taken together; `incident` is the project's."""

    incident: int
    target: str
    restored: list[str]
    kept: list[str]
    unknown: list[str]
    changed: bool
    targets: list[Back]
    words: str = field(metadata={"json": False})

    def text(self) -> str:
        """A line for each of the two."""
        return self.words


@dataclass(frozen=True, slots=True)
class Both:
    """How the two are acted on.

    Args:
        labels: the server's and the project's names, for eyes.
        seconds: what the server gets.
        told: is given a sentence where it is interrupted.
    """

    labels: tuple[str, str]
    seconds: float
    told: Callable[[str], None]

    async def off(
        self, server: Callable[[], Awaitable[_T]], project: Callable[[], Awaitable[_T]]
    ) -> tuple[_T | AgentOpsError, _T | AgentOpsError]:
        """Do both, the server first; what fails is a value, and keeps nothing else from being done."""
        began = time.monotonic()
        first = asyncio.ensure_future(_valued(server))
        second: asyncio.Task[_T | AgentOpsError] | None = None
        try:
            await asyncio.wait([first], timeout=HEAD_START)
            second = asyncio.ensure_future(_valued(project))
            await asyncio.wait([second])
            await asyncio.wait([first], timeout=max(began + self.seconds - time.monotonic(), 0.0))
        except asyncio.CancelledError:
            await self._interrupted(first, second)
            raise
        return await self._ended(first), second.result()

    async def on(
        self, server: Callable[[], Awaitable[_T]], project: Callable[[], Awaitable[_T]]
    ) -> tuple[_T | AgentOpsError, _T | AgentOpsError]:
        """Do both, the server first; the project is left alone where the server failed."""
        first = asyncio.ensure_future(_valued(server))
        second: asyncio.Task[_T | AgentOpsError] | None = None
        try:
            await asyncio.wait([first], timeout=self.seconds)
            done = await self._ended(first)
            if isinstance(done, AgentOpsError):
                return done, _alike(done, "left as it is, because the server behind it failed")
            second = asyncio.ensure_future(_valued(project))
            await asyncio.wait([second])
        except asyncio.CancelledError:
            await self._interrupted(first, second)
            raise
        return done, second.result()

    async def _ended(self, server: asyncio.Task[_T | AgentOpsError]) -> _T | AgentOpsError:
        """What became of the server by now; one that is still at it is given up."""
        if not server.done():
            await _cancelled(server)
        if not server.done() or server.cancelled():
            words = f"it gave no answer within {self.seconds:g} s; whether it was carried out is not known"
            return TimedOut(words, "agentops health database")
        return server.result()

    async def _interrupted(
        self, server: asyncio.Task[_T | AgentOpsError], project: asyncio.Task[_T | AgentOpsError] | None
    ) -> None:
        """Say what each of the two has done by now, and let go of what is not done."""
        tasks = [server] if project is None else [server, project]
        done = [task.done() for task in tasks]
        await asyncio.gather(*(_cancelled(task) for task in tasks))
        for label, task, finished in zip(self.labels, tasks, done, strict=False):
            outcome = task.result() if finished and not task.cancelled() else None
            if outcome is None:
                words = f"interrupted on target {label}: whether it was carried out is not known"
            elif isinstance(outcome, AgentOpsError):
                words = f"FAILED on target {label}: {outcome.message}"
            else:
                words = outcome.text()
            self.told(f"note: {words}")
        if project is None:
            self.told(f"note: interrupted before anything was sent to target {self.labels[1]}")


def flags(target: str, names: Sequence[str], outcome: Sequence[Flag] | AgentOpsError) -> list[FlagThere]:
    """One side's flags; `names` are the stored ones."""
    if isinstance(outcome, AgentOpsError):
        return [
            FlagThere(flag_alias(name), name, enabled=None, target=target, finding=outcome.message) for name in names
        ]
    return [FlagThere(**asdict(flag), target=target) for flag in outcome]


def killed(
    labels: tuple[str, str], names: Sequence[str], outcomes: tuple[Killed | AgentOpsError, Killed | AgentOpsError]
) -> KilledBoth:
    """Both sides' results as one."""
    done = [outcome for outcome in outcomes if isinstance(outcome, Killed)]
    failed = {
        label: outcome for label, outcome in zip(labels, outcomes, strict=True) if isinstance(outcome, AgentOpsError)
    }
    sides = [
        Side(label, None, changed=False, finding=outcome.message)
        if isinstance(outcome, AgentOpsError)
        else Side(label, outcome.incident, outcome.changed, None)
        for label, outcome in zip(labels, outcomes, strict=True)
    ]
    texts = [
        f"FAILED on target {label}: {outcome.message}" if isinstance(outcome, AgentOpsError) else outcome.text()
        for label, outcome in zip(labels, outcomes, strict=True)
    ]
    return KilledBoth(
        incident=sides[1].incident,
        target=" and ".join(labels),
        features=done[0].features if done else [flag_alias(name) for name in names],
        changed=any(each.changed for each in done),
        drained_seconds=next((each.drained_seconds for each in done if each.drained_seconds is not None), None),
        confirmed=[entry for each in done for entry in each.confirmed],
        unconfirmed=[name for each in done for name in each.unconfirmed]
        + [f"target {label}: {failure.message}" for label, failure in failed.items()],
        targets=sides,
        words="\n".join(texts),
    )


def planned(
    labels: tuple[str, str], names: Sequence[str], outcomes: tuple[Plan | AgentOpsError, Plan | AgentOpsError]
) -> Plan:
    """Both sides' plans as one; what could not be read may change."""
    changed = any(isinstance(outcome, AgentOpsError) or outcome.changed for outcome in outcomes)
    incident = outcomes[1].incident if isinstance(outcomes[1], Plan) else None
    return Plan(incident, " and ".join(labels), [flag_alias(name) for name in names], changed)


def pair(book: Book, number: int) -> Pair | None:
    """The server's incident that belongs to incident `number` of the project; None where none was noted."""
    found = None
    for entry in book.entries():
        match entry:
            case {"action": action, "id": id_, "server": str(server), "server_incident": int(incident)} if (
                action == PAIRED and id_ == number
            ):
                found = Pair(server, incident)
    return found


async def remember(book: Book, number: int, found: Pair, *, actor: str) -> None:
    """Note which incident of the server belongs to incident `number` of the project; once.

    Raises:
        AgentOpsError: it cannot be written.
    """
    if pair(book, number) != found:
        entry = {"action": PAIRED, "by": actor, "server": found.server, "server_incident": found.incident}
        await book.write(entry, number=number)


def restored(
    labels: tuple[str, str],
    numbers: tuple[int, int],
    outcomes: tuple[Restored | AgentOpsError, Restored | AgentOpsError],
) -> RestoredBoth:
    """Both sides' results, or plans, as one."""
    done = [outcome for outcome in outcomes if isinstance(outcome, Restored)]
    sides = [
        Back(label, number, [], [], [], changed=False, finding=outcome.message)
        if isinstance(outcome, AgentOpsError)
        else Back(label, number, outcome.restored, outcome.kept, outcome.unknown, outcome.changed, None)
        for label, number, outcome in zip(labels, numbers, outcomes, strict=True)
    ]
    texts = [
        f"FAILED on target {label}: {outcome.message}"
        if isinstance(outcome, AgentOpsError)
        else outcome.text() + ("" if outcome.changed else f" on target {label}")
        for label, outcome in zip(labels, outcomes, strict=True)
    ]
    return RestoredBoth(
        incident=numbers[1],
        target=" and ".join(labels),
        restored=list(dict.fromkeys(name for each in done for name in each.restored)),
        kept=list(dict.fromkeys(name for each in done for name in each.kept)),
        unknown=list(dict.fromkeys(name for each in done for name in each.unknown)),
        changed=any(each.changed for each in done),
        targets=sides,
        words="\n".join(texts),
    )


def worst(labels: Sequence[str], outcomes: Sequence[object], *more: AgentOpsError) -> AgentOpsError | None:
    """All failures in one, each with its target, as the kind of the highest exit code; None where there is none.

    What to type next names the target of the failure, which may be the one that the command line does not name.
    """
    found = [(label, each) for label, each in zip(labels, outcomes, strict=True) if isinstance(each, AgentOpsError)]
    failures = [failure for _, failure in found] + list(more)
    if not failures:
        return None
    words = [f"target {label}: {failure.message}" for label, failure in found] + [each.message for each in more]
    chief = max(failures, key=lambda failure: failure.kind.exit_code)
    worst = _alike(chief, "\n  ".join(words))
    where = next((label for label, each in found if each is chief), None)
    if where and worst.hint:
        worst.hint = re.sub(r"\bagentops (?=[a-z])", lambda _: f"agentops --target {shlex.quote(where)} ", worst.hint)
    return worst


def _alike(failure: AgentOpsError, words: str) -> AgentOpsError:
    other = AgentOpsError(words, failure.hint)
    other.kind = failure.kind
    return other


async def _cancelled(task: asyncio.Task[object]) -> None:
    """End a task that may not want to; what does not end is left to the loop's own end."""
    for _ in range(2):
        if task.done():
            return
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)


async def _valued(act: Callable[[], Awaitable[_T]]) -> _T | AgentOpsError:
    try:
        return await act()
    except AgentOpsError as failure:
        return failure
    except Exception as defect:  # noqa: BLE001 - the last wall: a defect on the one side must not spare the other
        return AgentOpsError(f"internal error: {type(defect).__name__}: {defect}", "switch it off there by itself")
