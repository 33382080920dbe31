"""Messages per second through the queue (claim and finish), beside procrastinate on the same PostgreSQL, same run.

    plain     one no-op each for many senders          in order   50 conversations × 20 messages of 2 ms
    start     from the commit of a message to the first line of its handler
    backlog   many senders, one no-op each, while 10,000 messages of one sender wait behind his first; and without

Burst window 0, one worker of 16 lanes, one process, uvloop; both are measured in turns. The comparator is skipped with
a note where `procrastinate` is not installed (pip install 'procrastinate==3.10.*').
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import uvloop

from benchmarks.figures import Figure, percentile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agentops.store.inbox import Job

LANES, ROUNDS = 16, 2
SENDERS, EACH = 1_000, 1
CONVERSATIONS, MESSAGES, WORK_SECONDS = 50, 20, 0.002
STARTS, START_PAUSE = 300, 0.01
BACKLOG = 10_000
GOAL, START_GOAL_MS, BACKLOG_GOAL = 3.0, 10.0, 0.8
# Whose messages are in nobody's way, and how long the answer to one of them takes: as long as a model's.
LONG, LONG_SECONDS = "behind", 1.0
_MISSING = "procrastinate is not installed"


@dataclass
class Handled:
    """What the handlers saw: when each job began, in which order within its sender, and when all had ended."""

    expected: int
    seconds: float = 0.0
    began: dict[int, float] = field(default_factory=dict)
    order: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    under_way: set[str] = field(default_factory=set)
    all: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, sender: str, number: int) -> None:
        """One job: note it, work for the time that it takes."""
        if sender.endswith(LONG):
            await asyncio.sleep(LONG_SECONDS)
            return
        self.began[number] = time.perf_counter()
        self.order[sender].append(number)
        if self.seconds:
            assert sender not in self.under_way, "two jobs of one sender at the same time"
            self.under_way.add(sender)
            await asyncio.sleep(self.seconds)
            self.under_way.discard(sender)

    def ended(self, sender: str) -> None:
        """One job has ended."""
        self.expected -= not sender.endswith(LONG)
        if self.expected == 0:
            self.all.set()


def measure() -> list[Figure]:
    """All figures; the ratio is of medians of interleaved rounds."""
    from agentops import embedded

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "queue"
        url = embedded.attach(state).url
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_figures(url))
        finally:
            embedded.remove(state)


async def _figures(url: str) -> list[Figure]:
    await _prepare(url)
    rivals = [_Ours(url)] + ([_Procrastinate(url)] if importlib.util.find_spec("procrastinate") else [])
    plain: dict[str, list[float]] = defaultdict(list)
    ordered: dict[str, list[float]] = defaultdict(list)
    starts: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS):
        for rival in rivals:
            jobs = [(f"{turn}-{sender}", number) for number in range(EACH) for sender in range(SENDERS)]
            plain[rival.name].append(await _drained(rival, jobs, 0.0))
            jobs = [(f"{turn}-o{sender}", number) for number in range(MESSAGES) for sender in range(CONVERSATIONS)]
            ordered[rival.name].append(await _drained(rival, jobs, WORK_SECONDS))
            starts[rival.name] += await _started(rival, turn)
    free: dict[str, list[float]] = defaultdict(list)
    behind: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS):
        for rival in rivals:
            free[rival.name].append(await _drained(rival, [(f"{turn}-f{n}", n) for n in range(rival.others)], 0.0))
            await rival.put([(f"{turn}-{LONG}", number) for number in range(BACKLOG)], Handled(BACKLOG))
            behind[rival.name].append(await _drained(rival, [(f"{turn}-b{n}", n) for n in range(rival.others)], 0.0))
            await rival.forget()
    return [
        _throughput(f"queue, {SENDERS * EACH} senders", plain),
        _throughput(f"queue, {CONVERSATIONS} × {MESSAGES} in order", ordered),
        _latency(starts),
        _backlog(free, behind),
    ]


def _throughput(name: str, rates: dict[str, list[float]]) -> Figure:
    ours, other = statistics.median(rates["ours"]), rates.get("procrastinate")
    if other is None:
        return Figure(name, f"{ours:,.0f}/s", _MISSING, f"≥ {GOAL:g} ×", None)
    ratio = ours / statistics.median(other)
    beside = f"procrastinate {statistics.median(other):,.0f}/s"
    return Figure(name, f"{ours:,.0f}/s ({ratio:.1f} ×)", beside, f"≥ {GOAL:g} ×", ratio >= GOAL)


def _latency(starts: dict[str, list[float]]) -> Figure:
    p50, p99 = percentile(starts["ours"], 0.5), percentile(starts["ours"], 0.99)
    other = starts.get("procrastinate")
    beside = f"procrastinate p99 {percentile(other, 0.99):.1f} ms" if other else _MISSING
    value = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return Figure("queue, enqueue → start", value, beside, f"p99 ≤ {START_GOAL_MS:g} ms", p99 <= START_GOAL_MS)


def _backlog(free: dict[str, list[float]], behind: dict[str, list[float]]) -> Figure:
    def told(name: str) -> tuple[float, str]:
        before, after = statistics.median(free[name]), statistics.median(behind[name])
        return after / before, f"{before:,.0f} → {after:,.0f}/s"

    share, value = told("ours")
    beside = f"procrastinate {told('procrastinate')[1]}" if "procrastinate" in free else _MISSING
    name = f"queue, {BACKLOG:,} behind one sender"
    return Figure(name, value, beside, f"≥ {BACKLOG_GOAL:g} × without", share >= BACKLOG_GOAL)


async def _drained(rival: Rival, jobs: Sequence[tuple[str, int]], seconds: float) -> float:
    """Jobs per second: all are stored first, then a worker takes them."""
    handled = Handled(len(jobs), seconds)
    numbered = [(sender, place) for place, (sender, _) in enumerate(jobs)]
    await rival.put(numbered, handled)
    begun = time.perf_counter()
    async with rival.working(handled):
        async with asyncio.timeout(240):
            await handled.all.wait()
        taken = time.perf_counter() - begun
    assert len(handled.began) == len(jobs), "every job was done"
    assert all(order == sorted(order) for order in handled.order.values()), "in order"
    return len(jobs) / taken


async def _started(rival: Rival, turn: int) -> list[float]:
    """Milliseconds from the commit of a job to the start of its handler, one job at a time, the worker idle."""
    handled = Handled(STARTS)
    found = []
    async with rival.working(handled):
        await asyncio.sleep(1.0)
        for number in range(STARTS):
            await rival.put([(f"{turn}-s{number}", number)], handled)
            stored = time.perf_counter()
            while number not in handled.began:  # noqa: ASYNC110 - an event per job would measure the event
                await asyncio.sleep(0.0005)
            found.append(max(handled.began[number] - stored, 0.0) * 1000)
            await asyncio.sleep(START_PAUSE)
    return found


class Rival:
    """A queue to be measured. `others` are how many senders it is measured with beside a backlog."""

    name: str
    others: int

    async def put(self, jobs: Sequence[tuple[str, int]], handled: Handled) -> None:
        """Store jobs: sender and number."""
        raise NotImplementedError

    async def forget(self) -> None:
        """Drop what is queued."""
        raise NotImplementedError

    def working(self, handled: Handled) -> Any:  # noqa: ANN401 - an asynchronous context manager
        """A worker that runs until the block ends."""
        raise NotImplementedError


class _Ours(Rival):
    name, others = "ours", 1_000

    def __init__(self, url: str) -> None:
        self._url = url

    async def put(self, jobs: Sequence[tuple[str, int]], handled: Handled) -> None:
        from agentops.settings import CHAT
        from agentops.store import inbox

        del handled
        database = await self._database()
        batch = [
            inbox.Incoming(
                message_id=uuid.uuid4().hex,
                phone_id="1",
                user_id=f"RW.{sender}",
                phone=None,
                kind="text",
                answerable=True,
                payload={"sender": sender, "number": number},
            )
            for sender, number in jobs
        ]
        for place in range(0, len(batch), 500):
            await inbox.receive(database, "bench", "c", CHAT, batch[place : place + 500])

    @asynccontextmanager
    async def working(self, handled: Handled) -> AsyncIterator[None]:
        from agentops.events import Events
        from agentops.server import worker
        from agentops.settings import CHAT
        from agentops.store import inbox

        database = await self._database()

        async def work(job: Job, _stack: object) -> None:
            for turn in job.turns:
                if job.stopping():
                    return
                begun = await inbox.begin(database, job.lease, turn, CHAT)
                assert begun is not None
                for message in turn:
                    await handled.handle(message.payload["sender"], message.payload["number"])
                await inbox.finish(database, job.lease, turn, "done")
                for message in turn:
                    handled.ended(message.payload["sender"])

        function = SimpleNamespace(work=work)
        context = SimpleNamespace(
            server_id=uuid.uuid4(),
            database=database,
            loader=SimpleNamespace(get=lambda _: function),
            events=Events(SimpleNamespace(write=lambda _: None), echo=None),
            stack=lambda: None,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(cast("Any", context), stop, lanes=LANES, burst_seconds=0.0))
        try:
            yield
        finally:
            stop.set()
            await task

    async def forget(self) -> None:
        await (await self._database()).query(
            "update agentops.inbox set state = 'skipped', finished_at = now() where state = 'queued'"
        )

    async def _database(self) -> Any:  # noqa: ANN401 - agentops is imported when it is measured
        from agentops.store.database import Database

        if not hasattr(self, "_open"):
            self._open = await Database.open(self._url)
        return self._open


class _Procrastinate(Rival):
    # A thousand would take it minutes.
    name, others = "procrastinate", 50

    def __init__(self, url: str) -> None:
        self._url = url
        self._handled: Handled | None = None
        self._app: Any = None

    async def put(self, jobs: Sequence[tuple[str, int]], handled: Handled) -> None:
        app = await self._opened()
        self._handled = handled
        task = app.tasks["bench"]
        if len(jobs) == 1:
            ((sender, number),) = jobs
            await task.configure(lock=sender).defer_async(sender=sender, number=number)
            return
        if len({sender for sender, _ in jobs}) == 1:
            numbered = [{"sender": sender, "number": number} for sender, number in jobs]
            await task.configure(lock=jobs[0][0]).batch_defer_async(*numbered)
            return
        for sender, number in jobs:
            await task.configure(lock=sender).defer_async(sender=sender, number=number)

    @asynccontextmanager
    async def working(self, handled: Handled) -> AsyncIterator[None]:
        app = await self._opened()
        self._handled = handled
        running = app.run_worker_async(
            concurrency=LANES, install_signal_handlers=False, listen_notify=True, update_heartbeat_interval=3600
        )
        task = asyncio.create_task(running)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def forget(self) -> None:
        await (await self._opened()).connector.execute_query_async("truncate procrastinate_jobs cascade")

    async def _opened(self) -> Any:  # noqa: ANN401 - procrastinate is no dependency
        if self._app is None:
            import procrastinate

            app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self._url, max_size=8))

            @app.task(name="bench")
            async def bench(sender: str, number: int) -> None:
                assert self._handled is not None
                await self._handled.handle(sender, number)
                self._handled.ended(sender)

            await app.open_async()
            await app.schema_manager.apply_schema_async()
            self._app = app
        return self._app


async def _prepare(url: str) -> None:
    from agentops.platforms.local import LocalPlatform
    from agentops.settings import CHAT
    from agentops.store import schema

    platform = await LocalPlatform.open(url, label="benchmark", actor="benchmark", home=Path("unused"))
    try:
        await schema.migrate(platform)
        await platform.set_flags([CHAT], enabled=True, seconds=None, check=False)
    finally:
        await platform.close()
