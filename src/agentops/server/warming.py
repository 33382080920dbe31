"""Makes the first reply as quick as the others: imports OpenAI's SDK (over a second of CPU) before it is needed.

    keep(context) ── the stack has a key and chat is on ──> clients.openai(secrets).warm(), once

Only then: a worker that nobody talks to through a model does without the SDK's memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError
from agentops.settings import CHAT

if TYPE_CHECKING:
    from agentops.server.context import ServerContext

LOOK_SECONDS = 0.5


async def keep(context: ServerContext) -> None:
    """Look until it is wanted, warm it, and then have nothing to do until cancelled."""
    while not context.settled or not _wanted(context):  # noqa: ASYNC110 - a look at settings, which nobody announces
        await asyncio.sleep(LOOK_SECONDS)
    stack = context.stack()
    with suppress(AgentOpsError):  # a key or address that is none is told when a message meets it
        await stack.clients.openai(stack.secrets).warm()
    await asyncio.Event().wait()


def _wanted(context: ServerContext) -> bool:
    stack = context.stack()
    return stack.flag(CHAT) and stack.secret("OPENAI_API_KEY") is not None
