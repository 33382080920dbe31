"""Reads stored events, and follows them: no line twice, none left out, whatever order transactions commit in.

    unseen('1:1:', limit) → lines, snapshot ─→ every 0.5 s: unseen(snapshot) → lines, snapshot ─→ …

The cursor is a PostgreSQL snapshot, so it also survives a lost connection: what committed meanwhile comes next.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, TimedOut, Unavailable
from agentops.events import LEVELS
from agentops.platforms import LogLine
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentops.platforms import LogFilter, Row
    from agentops.platforms.local import LocalPlatform

_SQL = statements(__file__)
POLL_SECONDS = 0.5
_LONGEST_WAIT = 10.0
# The snapshot that has seen nothing.
_NOTHING = "1:1:"


async def stream(
    platform: LocalPlatform, wanted: LogFilter, *, limit: int, follow: bool, gap: Callable[[str], None]
) -> AsyncIterator[LogLine]:
    """The newest `limit` matches in time order; with `follow`, then new ones as they commit, without an end.

    While following, a lost connection is made again for as long as it takes, and `gap` is told.

    Raises:
        Unavailable: PostgreSQL does not answer (without `follow`, or at the start).
    """
    conditions = _parameters(wanted)
    lines, snapshot = _read(await platform.query(_SQL["unseen"], {**conditions, "seen": _NOTHING, "limit": limit}))
    if follow and len(lines) == limit:
        gap(f"note: only the newest {limit:,} lines of before are shown; --since takes a shorter time")
    for line in lines:
        yield line
    while follow:
        await asyncio.sleep(POLL_SECONDS)
        lines, snapshot = _read(await _unseen(platform, {**conditions, "seen": snapshot, "limit": None}, gap))
        for line in lines:
            yield line


async def _unseen(platform: LocalPlatform, parameters: dict[str, Any], gap: Callable[[str], None]) -> list[Row]:
    """Ask until there is an answer, on a new connection whenever the one at hand is lost."""
    wait, told = POLL_SECONDS, False
    while True:
        try:
            if told:
                await platform.reconnect()
            rows = await platform.query(_SQL["unseen"], parameters)
        except (Unavailable, TimedOut) as failure:
            if not told:
                gap(f"note: the log stream was interrupted ({failure.message}); connecting again")
            told = True
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
        except AgentOpsError:
            if not told:
                raise
            # A server that is coming up refuses in many ways; after a stream once ran, only time tells them apart.
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
        else:
            if told:
                gap("note: connected again; the stream goes on where it stopped, no line is lost")
            return rows


def _read(rows: list[Row]) -> tuple[list[LogLine], str]:
    return [_line(row) for row in rows if row["id"] is not None], str(rows[0]["snapshot"])


def _line(row: Row) -> LogLine:
    return LogLine(row["at"], row["level"], row["event"], row["correlation_id"], row["function"], row["data"])


def _parameters(wanted: LogFilter) -> dict[str, Any]:
    return {
        "slugs": list(wanted.slugs) or None,
        "levels": list(LEVELS[LEVELS.index(wanted.level) :]) if wanted.level else None,
        "event": _like(wanted.event) if wanted.event else None,
        "correlation": wanted.correlation_id,
        "grep": wanted.grep,
        "since": wanted.since,
        "until": wanted.until,
        "customers": list(wanted.customers) or None,
    }


def _like(pattern: str) -> str:
    """`ai.tool.*.error` as a LIKE pattern: `*` is any text, everything else means itself."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
