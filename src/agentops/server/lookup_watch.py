"""Keeps what a server process knows of customers true: hears which of them changed, and forgets them.

    LISTEN agentops_lookups ── stands → lookups.open ── a notice (+250…) → lookups.forget
                            └─ broken, or silent for 3 s → lookups.close: all forgotten, nothing kept until it stands

A change through agentops sends its notice in the commit itself (a trigger on the ledger; `agentops.customer_changed`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError
from agentops.platforms.local.listen import Line
from agentops.sql import statements
from agentops.store.lookups import CHANNEL

if TYPE_CHECKING:
    from agentops.server.context import ServerContext

# How long a line that broke without a word may go unnoticed: one look, and the time it has for its answer.
LOOK_SECONDS, ANSWER_SECONDS = 1.0, 3.0
RECONNECT_SECONDS = 1.0
_SQL = statements(__file__)


async def run(context: ServerContext) -> None:
    """Follow the changes until cancelled; reconnect for as long as it takes."""
    while True:
        with suppress(AgentOpsError, TimeoutError):
            await _follow(context)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _follow(context: ServerContext) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        line = await Line.open(context.database.url, CHANNEL)
    try:
        while True:
            context.lookups.open()
            for phone in await line.heard(LOOK_SECONDS):
                context.lookups.forget(phone)
            # A query that is broken off takes its time to end; what is known is not told that long.
            late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, context.lookups.close)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await line.query(_SQL["alive"])
            finally:
                late.cancel()
    finally:
        context.lookups.close()
        with suppress(AgentOpsError, OSError):
            await line.close()
