"""Stores events behind the requests' backs: a bounded buffer, one INSERT for many, a connection of its own.

Events → write() → buffer ── every 100 ms or 200 events ──> one INSERT on the writer's connection

While the database is away the buffer keeps the newest 10,000 events; what it drops is counted, and the count is stored
as `ai.server.logs_dropped` when the database is back. The connection does not wait for the disk: a crash of PostgreSQL
may cost the last moment's log lines, never a request's time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, NotAuthorised, TimedOut, Unavailable
from agentops.events import Event
from agentops.platforms.local.listen import Line
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Sequence

CAPACITY = 10_000
FLUSH_SECONDS = 0.1
FLUSH_EVENTS = 200
BATCH = 1_000
RETRY_SECONDS = 0.5
CANCEL_SECONDS = 0.1
_SQL = statements(__file__)
# U+0000 cannot be stored in PostgreSQL's jsonb; an even number of backslashes before it means that it is one.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class LogWriter:
    """An `events.Sink` that stores. `write` returns at once; a task does the work from `start` to `close`."""

    def __init__(self, url: str, capacity: int = CAPACITY) -> None:
        self._url = url
        self._capacity = capacity
        self._buffer: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._plenty = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._connection: Line | None = None
        self.dropped = 0

    def write(self, event: Event) -> None:
        """Take the event; the oldest one goes where the buffer is full."""
        if len(self._buffer) >= self._capacity:
            self._buffer.popleft()
            self.dropped += 1
        self._buffer.append(event)
        self._filled.set()
        if len(self._buffer) >= FLUSH_EVENTS:
            self._plenty.set()

    def start(self) -> asyncio.Task[None]:
        """Begin to store what is written. The task ends with `close`, never by itself."""
        self._task = asyncio.create_task(self._run(), name="logs")
        return self._task

    async def close(self, seconds: float = 1.0) -> None:
        """Store what is left, within `seconds`, and close the connection."""
        self._closing = True
        self._filled.set()
        self._plenty.set()
        if self._task:
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            # A database that hangs may keep even the cancellation waiting.
            await asyncio.wait({self._task}, timeout=CANCEL_SECONDS)
        await self._disconnect()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._plenty.wait()
            stored = await self._flush()
            if self._closing and (not stored or not self._buffer):
                return
            if not stored:
                await asyncio.sleep(RETRY_SECONDS)

    async def _flush(self) -> bool:
        """Store what is in the buffer; False where the database is away and the events stay.

        What comes meanwhile waits for the next time, else a busy server would store its events in ones and twos.
        """
        self._filled.clear()
        self._plenty.clear()
        waiting = len(self._buffer)
        while waiting > 0 and self._buffer:
            batch = [self._buffer.popleft() for _ in range(min(BATCH, waiting, len(self._buffer)))]
            waiting -= len(batch)
            try:
                await self._store(batch)
            except BaseException as failure:
                self._keep(batch)
                if isinstance(failure, AgentOpsError):
                    await self._disconnect()
                    return False
                raise
            if self.dropped:
                self._report_drops()
        if self._buffer:
            self._filled.set()
        return True

    def _keep(self, batch: list[Event]) -> None:
        """Put a batch back in front, as far as there is room; the oldest are lost first."""
        room = max(self._capacity - len(self._buffer), 0)
        self.dropped += max(len(batch) - room, 0)
        self._buffer.extendleft(reversed(batch[len(batch) - min(room, len(batch)) :]))
        self._filled.set()

    def _report_drops(self) -> None:
        data: dict[str, object] = {"dropped": self.dropped}
        self._buffer.append(Event(datetime.now(UTC), "warning", "ai.server.logs_dropped", "", "", data))
        self.dropped = 0

    async def _store(self, batch: Sequence[Event]) -> None:
        """Insert a batch. A refused one is halved until the event that PostgreSQL refuses is alone, and dropped."""
        if self._connection is None:
            self._connection = await Line.open(self._url)
        try:
            await self._connection.query(_SQL["insert"], {"rows": _rows(batch)})
        except (Unavailable, TimedOut, NotAuthorised):
            raise
        except AgentOpsError:
            if len(batch) == 1:
                self.dropped += 1
                return
            await self._store(batch[: len(batch) // 2])
            await self._store(batch[len(batch) // 2 :])

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()


def _rows(batch: Sequence[Event]) -> str:
    """The events as one JSON array that PostgreSQL takes: no U+0000 and no lone surrogates."""
    content = [
        {
            "at": event.timestamp.isoformat(),
            "level": event.level,
            "event": event.event,
            "correlation_id": event.correlation_id,
            "function": event.function,
            "data": event.data,
        }
        for event in batch
    ]
    text = json.dumps(content, ensure_ascii=False, default=str)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
