"""The worker: leases conversations, lets their function work through the queued messages, lets go.

    notice (LISTEN agentops_inbox), a finished lane, or a second passes → claim free lanes → queued messages → Job
      → functions.<slug>.work(job, stack) ── well ──→ release (due again if more came)
                                          └─ failed → attempts, backoff, after five dead → release

Leases are renewed while work goes on. A killed worker's leases end by themselves and another takes over; one that
was only stopped finds its fence gone and can write nothing. Asked to stop, it begins nothing and ends what it can.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Conflict, TimedOut, Unavailable
from agentops.platforms.local.listen import Line
from agentops.store import conversations, inbox
from agentops.store.conversations import LeaseLost
from agentops.store.outbox import NotYet

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentops.server.context import ServerContext
    from agentops.store.conversations import Lease
    from agentops.store.inbox import Job

LANES = 16
# Messages of one customer that come with pauses no longer than this are answered as one turn.
BURST_SECONDS = 1.2
# What a timer here may be early by.
_LATE_SECONDS = 0.003
POLL_SECONDS = 1.0
# Less than what the process grants before it ends, so that the leases of unfinished lanes are let go in time.
DRAIN_SECONDS = 6.0
RELEASE_SECONDS = 0.8
LONGEST_BACKOFF = 300.0
NOT_DEPLOYED_SECONDS = 5.0
# A failure of these before the turn began is not the message's: it costs no attempt.
_PASSING = (Unavailable, TimedOut, Conflict)


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: full jitter, doubling, five minutes at most."""
    return random.uniform(0.0, min(LONGEST_BACKOFF, 2.0**attempts))  # noqa: S311 - spreads load, guards nothing


async def run(
    context: ServerContext,
    stop: asyncio.Event,
    *,
    lanes: int = LANES,
    lease_seconds: float = conversations.LEASE_SECONDS,
    wait: Callable[[int], float] = backoff,
    burst_seconds: float = BURST_SECONDS,
) -> None:
    """Work until `stop` is set, then end what is under way within `DRAIN_SECONDS`.

    Args:
        context: the server process.
        stop: set it to end.
        lanes: how many conversations are worked on at the same time.
        lease_seconds: how long a lease holds without being renewed; it is renewed three times as often.
        wait: seconds before the next attempt, by the attempts so far.
        burst_seconds: how long a pause ends what a customer writes in one go; 0 answers each message by itself.
    """
    worker = _Worker(context, stop, lanes, lease_seconds, wait, burst_seconds)
    helpers = [asyncio.create_task(each) for each in (worker.listen(), worker.renew(), worker.heed_stop())]
    try:
        while not stop.is_set():
            worker.wake.clear()
            await worker.claim()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await worker.wake.wait()
            for helper in helpers:
                # Without the one that renews, leases end under running lanes: no worker is better than such a one.
                if helper.done():
                    helper.result()
        await worker.drain()
    finally:
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await worker.abandon()


@dataclass(slots=True)
class _Worker:
    context: ServerContext
    stop: asyncio.Event
    lanes: int
    lease_seconds: float
    wait: Callable[[int], float]
    burst_seconds: float
    # Leases of lanes that ended well and are not released yet.
    ended: list[Lease] = field(default_factory=list)
    running: dict[asyncio.Task[None], Job] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    # The database has failed and not answered since: told once, not every second.
    failing: bool = False
    # Functions that are not here: told once each, however many conversations wait for them.
    absent: set[str] = field(default_factory=set)

    @property
    def owner(self) -> str:
        return str(self.context.server_id)

    async def claim(self) -> None:
        """Let go of what has ended, and fill the free lanes."""
        await asyncio.gather(self.let_go(), self._fill())

    async def _fill(self) -> None:
        free = self.lanes - len(self.running)
        if free <= 0:
            return
        database = self.context.database
        try:
            jobs = await inbox.claim(
                database, self.owner, free, seconds=self.lease_seconds, burst_seconds=self.burst_seconds
            )
        except AgentOpsError as failure:
            self._trouble(failure)
            return
        self.failing = False
        for job in jobs:
            task = asyncio.create_task(
                self._lane(replace(job, stopping=self.stop.is_set, burst_seconds=self.burst_seconds))
            )
            self.running[task] = job
            task.add_done_callback(self._ended)

    async def let_go(self) -> None:
        """Release the conversations in which all went well, together: that is a third of the queue's statements."""
        leases, self.ended = self.ended, []
        try:
            if await conversations.release_all(self.context.database, leases):
                self.wake.set()
        except AgentOpsError as failure:
            self.ended += leases
            self._trouble(failure)

    async def listen(self) -> None:
        """Wake the claims when a message comes; without the connection, the poll is the floor."""
        while True:
            with suppress(AgentOpsError):
                line = await Line.open(self.context.database.url, inbox.CHANNEL)
                try:
                    self.wake.set()
                    while True:
                        if await line.wait(60.0):
                            self._wake_after_the_pause()
                finally:
                    await line.close()
            await asyncio.sleep(POLL_SECONDS)

    async def renew(self) -> None:
        """Keep the leases of running lanes; stop a lane whose lease another worker has."""
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            held = dict(self.running)
            try:
                leases = [job.lease for job in held.values()]
                kept = await conversations.renew(self.context.database, leases, seconds=self.lease_seconds)
            except AgentOpsError as failure:
                self._trouble(failure)
                continue
            for task, job in held.items():
                if job.lease.conversation_id not in kept:
                    task.cancel()

    def _wake_after_the_pause(self) -> None:
        """A message has come: its lane is due when its customer pauses."""
        if self.burst_seconds:
            asyncio.get_running_loop().call_later(self.burst_seconds + _LATE_SECONDS, self.wake.set)
        else:
            self.wake.set()

    async def heed_stop(self) -> None:
        """Wake the claims to hear that it is over."""
        await self.stop.wait()
        self.wake.set()

    async def drain(self) -> None:
        """Let lanes end their current message."""
        if self.running:
            await asyncio.wait(self.running, timeout=DRAIN_SECONDS)

    async def abandon(self) -> None:
        """Break off what still runs; each lane lets go of its lease."""
        tasks = list(self.running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.let_go()

    async def _lane(self, job: Job) -> None:
        """One conversation, from its lease to its release."""
        due_in = None
        try:
            due_in = await self._work(job)
        except LeaseLost:
            return
        except NotYet as later:
            due_in = later.seconds
        except asyncio.CancelledError:
            with suppress(AgentOpsError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await conversations.release(self.context.database, job.lease)
            raise
        except Exception as failure:  # noqa: BLE001 - one lane's failure is no other lane's
            due_in = await self._failed(job, failure)
        if due_in is None:
            self.ended.append(job.lease)
            return
        try:
            if await conversations.release(self.context.database, job.lease, due_in=due_in):
                asyncio.get_running_loop().call_later(due_in, self.wake.set)
        except AgentOpsError as failure:
            self._trouble(failure)

    async def _work(self, job: Job) -> float | None:
        if not job.messages:
            return None
        function = self.context.loader.get(job.slug)
        if function is None or function.work is None:
            if job.slug not in self.absent:
                self.absent.add(job.slug)
                self.context.events.bind(job.messages[0].correlation_id, job.slug).error(
                    "ai.worker.not_deployed", error=f"{job.slug} does not run here", hint=f"agentops deploy {job.slug}"
                )
            return NOT_DEPLOYED_SECONDS
        self.absent.discard(job.slug)
        await function.work(job, self.context.stack())
        return None

    async def _failed(self, job: Job, failure: Exception) -> float | None:
        words = failure.message if isinstance(failure, AgentOpsError) else _where(failure)
        counts = not isinstance(failure, _PASSING)
        try:
            message = await inbox.fail(self.context.database, job, words, counts=counts)
        except AgentOpsError as trouble:
            self._trouble(trouble)
            return None
        if message is None:
            return None
        dead = message.attempts >= inbox.dead_after(counts=counts)
        pause = 0.0 if dead else self.wait(max(message.attempts, 1))
        self.context.events.bind(message.correlation_id, message.slug).error(
            "ai.whatsapp.message.error",
            error=words,
            hint=getattr(failure, "hint", None),
            attempt=message.attempts,
            state="dead" if dead else "queued",
            retry_in_ms=None if dead else round(pause * 1000),
        )
        return pause

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.pop(task, None)
        self.wake.set()

    def _trouble(self, failure: AgentOpsError) -> None:
        if not self.failing:
            self.failing = True
            self.context.events.error("ai.worker.error", error=failure.message, hint=failure.hint)


def _where(defect: Exception) -> str:
    """A defect's type and place; its words are left out, they may quote a customer."""
    frames = traceback.extract_tb(defect.__traceback__)[-2:]
    return " < ".join(
        [type(defect).__name__, *(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))]
    )
