"""Looks after replies whose fate nobody waits for any more, every few seconds in each worker process.

    sending for 10 minutes, or uncertain → incident `uncertain-reply` · settled since → out of it; empty, it is closed
    blocked number whose settings changed → its replies are due

Each look is a few statements that several processes may run side by side.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError
from agentops.store import outbox, pacing

if TYPE_CHECKING:
    from agentops.server.context import ServerContext
    from agentops.stack import Stack

EVERY_SECONDS = 3.0
# How long Meta's status webhook is waited for. `AGENT_UNCERTAIN_SECONDS` is the setting.
UNCERTAIN_SECONDS = 600.0
SETTING = "AGENT_UNCERTAIN_SECONDS"
# No less: until then the request may still be under way (`agent.sending.LEAVE_SECONDS`, and Graph's answer after it).
LEAST_SECONDS = 30.0
SLUG = "ai-whatsapp-webhook"


async def run(context: ServerContext, *, every: float = EVERY_SECONDS) -> None:
    """Look until cancelled. A database that fails is the worker's to tell; here it only means a look later."""
    while True:
        with suppress(AgentOpsError):
            await look(context.stack())
        await asyncio.sleep(every)


async def look(stack: Stack) -> None:
    """One look.

    Raises:
        AgentOpsError: the database failed.
    """
    for reply in await outbox.report(stack.database, _seconds(stack)):
        stack.events.bind(reply.correlation_id or "", SLUG).error(
            "ai.whatsapp.send.uncertain",
            outbox=reply.outbox,
            incident=reply.incident,
            error=outbox.UNCERTAIN,
            hint=f"agentops outbox show {reply.outbox}",
        )
    for reply in await outbox.tidy(stack.database):
        stack.events.bind(reply.outbox, SLUG).info(
            "ai.whatsapp.send.settled", outbox=reply.outbox, incident=reply.incident, state=reply.state
        )
    for phone_id in await pacing.lift(stack.database):
        stack.events.bind(phone_id, SLUG).info("ai.whatsapp.send.unblocked", phone_id=phone_id)


def _seconds(stack: Stack) -> float:
    text = stack.secret(SETTING) or ""
    return max(float(text), LEAST_SECONDS) if text.isascii() and text.isdigit() else UNCERTAIN_SECONDS
