"""A chat stack over a test's database and scripted providers, and workers that run in the test's own loop."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agentops.clients import Clients
from agentops.functions import ai_whatsapp_webhook
from agentops.server import worker
from agentops.store import inbox
from tests.fakes.stacks import ALL_ON, open_stack
from tests.fakes.whatsapp import APP_SECRET, CUSTOMER, deliver, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agentops.server.context import ServerContext
    from agentops.stack import Stack
    from agentops.store.conversations import Lease
    from agentops.store.inbox import Message
    from tests.fakes.providers import Providers

SECRETS = {
    "WA_APP_SECRET": APP_SECRET,
    "WA_VERIFY_TOKEN": "a-verify-token",
    "WA_TOKEN": "a-token",
    "WA_PHONE_ID": "106540352242922",
    "OPENAI_API_KEY": "a-key",
}


@asynccontextmanager
async def chat_stack(
    database_url: str,
    providers: Providers | None = None,
    flags: Mapping[str, bool] = ALL_ON,
    **secrets: str,
) -> AsyncIterator[Stack]:
    """A stack that talks to `providers`."""
    clients = Clients(providers.environment if providers else {})
    try:
        async with open_stack(database_url, flags, {**SECRETS, **secrets}, clients=clients) as stack:
            yield stack
    finally:
        await clients.aclose()


@asynccontextmanager
async def working(stack: Stack, **settings: Any) -> AsyncIterator[asyncio.Event]:
    """A worker on this stack, stopped when the block ends; gives the event that stops it."""
    stop = asyncio.Event()
    task = asyncio.create_task(
        worker.run(context(stack), stop, **{"wait": lambda _: 0.05, "burst_seconds": 0.0, **settings})
    )
    try:
        yield stop
    finally:
        stop.set()
        await task


def context(stack: Stack) -> ServerContext:
    """A server process with this stack, in which the chat function is loaded."""
    function = SimpleNamespace(work=ai_whatsapp_webhook.work)
    loader = SimpleNamespace(get={"ai-whatsapp-webhook": function}.get)
    found = SimpleNamespace(
        server_id=uuid.uuid4(), database=stack.database, loader=loader, events=stack.events, stack=lambda: stack
    )
    return cast("ServerContext", found)


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until the condition (or what it awaits) is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


async def states(stack: Stack) -> list[str]:
    """The states of all messages, in their order."""
    return [row["state"] for row in await stack.database.query("select state from agentops.inbox order by id")]


async def settled(stack: Stack) -> bool:
    """Whether nothing waits in the inbox."""
    return "queued" not in await states(stack)


async def leased(stack: Stack, sender: str = CUSTOMER) -> tuple[Lease, Message]:
    """A message of `sender`, and the lease of their conversation, which no worker holds."""
    await deliver(stack, text("hello", sender))
    (job,) = await inbox.claim(stack.database, str(uuid.uuid4()), 1)
    return job.lease, job.messages[0]
