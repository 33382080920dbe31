"""What is too old goes, once an hour, in every worker process: nothing here grows for ever that nobody asks for again.

    keep(context) ── now, then every hour ──> log rows, settled messages, keys, costs, heartbeats of the long dead

In batches, so that no transaction is long. Several workers share the work: what one is deleting, another passes over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError
from agentops.server import heartbeat
from agentops.sql import statements
from agentops.store import costs, idempotency, inbox

if TYPE_CHECKING:
    from agentops.platforms import Queries
    from agentops.server.context import ServerContext

EVERY_SECONDS = 3600.0
LOG_DAYS = 14
BATCH = 5_000
# A breath between two batches, in which whoever waits for a connection or the disk gets it.
PAUSE_SECONDS = 0.05
_SQL = statements(__file__)


async def keep(context: ServerContext) -> None:
    """Delete what is too old, every hour, until cancelled. A database that is away is asked again the next hour."""
    while True:
        try:
            for expire in (expire_logs, idempotency.expire, inbox.expire, costs.expire):
                while await expire(context.database, BATCH):  # noqa: ASYNC110 - it waits for nobody, it lets others go first
                    await asyncio.sleep(PAUSE_SECONDS)
            await heartbeat.forget(context.database)
        except AgentOpsError as failure:
            context.events.warning("ai.server.retention_failed", error=failure.message)
        await asyncio.sleep(EVERY_SECONDS)


async def expire_logs(queries: Queries, batch: int = BATCH) -> int:
    """Delete one batch of log rows older than 14 days; how many. Repeat until 0."""
    rows = await queries.query(_SQL["expire_logs"], {"days": LOG_DAYS, "batch": batch})
    return int(rows[0]["deleted"])
