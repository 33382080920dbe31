"""A connection of one's own, shared with no request: it may listen on a channel, and its small writes are quick.

Line.open(url, channel) → query(…) … → wait(seconds): was there a notice? heard(seconds): which?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentops.platforms.local.connection import connect, run, translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import AsyncConnection

    from agentops.platforms import Row

# Heartbeats and log lines are worth no wait for the disk.
_QUICK = "set synchronous_commit = off"


class Line:
    """One connection for one purpose: a settings watch, a log writer."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str, channel: str | None = None) -> Line:
        """Connect, and listen where a channel is given; whatever is read after this misses no notice.

        Raises:
            UsageError, NotAuthorised, Unavailable: as `connection.connect`.
        """
        connection = await connect(url)
        try:
            await run(connection, f'{_QUICK}; listen "{channel}"' if channel else _QUICK)
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement; its rows as dictionaries. A notice that comes meanwhile is kept for `wait`."""
        return await run(self._connection, statement, parameters)

    async def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for a notice; whether one came. Several at once count as one.

        Raises:
            Unavailable: the connection is lost.
        """
        return bool(await self.heard(seconds))

    async def heard(self, seconds: float) -> list[str]:
        """Wait at most `seconds` for a notice; what each of those that came at once says.

        Raises:
            Unavailable: the connection is lost.
        """
        with translated():
            waiting = self._connection.notifies(timeout=max(seconds, 0.0), stop_after=1)
            return [notice.payload async for notice in waiting]

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
