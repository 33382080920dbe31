"""A worker to be killed: `run(database_url, graph_url, blind)`, in a process of its own.

With `blind` it is the known-bad variant: a reply that was being sent when its worker died is sent again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from agentops.agent import sending
from agentops.clients import Clients
from agentops.server import reconcile, worker
from agentops.settings import CHAT
from agentops.store import conversations, inbox, outbox
from tests.fakes.chat import SECRETS, context
from tests.fakes.stacks import open_stack
from tests.fakes.whatsapp import SLUG

if TYPE_CHECKING:
    from agentops.stack import Stack

UNCERTAIN_SECONDS = "2"


async def answer(job: inbox.Job, stack: Stack, blind: bool) -> None:  # noqa: FBT001 - a test's switch
    """The sending half of a turn: the reply to "n" is "reply n", one turn per message, no model."""
    for message in job.messages:
        begun = await inbox.begin(stack.database, job.lease, [message], CHAT)
        if begun is None:
            continue
        to = sending.Addressed(job.lease, message, job.lease.customer, stack)
        if begun.outbox_id is None:
            async with stack.database.transaction() as transaction:
                await conversations.hold(transaction, job.lease)
                body = f"reply {message.payload['text']['body']}"
                begun_id = await outbox.put(transaction, job.lease, message, body)
            await sending.send(to, begun_id, body)
        elif begun.outbox_state == "pending":
            await sending.send(to, begun.outbox_id, begun.body or "")
        elif begun.outbox_state == "sending" and blind:
            await stack.database.query(
                "update agentops.outbox set state = 'pending' where id = %(id)s::uuid", {"id": begun.outbox_id}
            )
            await sending.send(to, begun.outbox_id, begun.body or "")
        elif begun.outbox_state == "sending":
            await sending.interrupted(to, begun.outbox_id)
        else:
            await inbox.finish(stack.database, job.lease, [message], "done")


def run(database_url: str, graph_url: str, blind: bool) -> None:  # noqa: FBT001 - a test's switch
    """Work and reconcile until killed."""
    asyncio.run(_run(database_url, graph_url, blind))


async def _run(database_url: str, graph_url: str, blind: bool) -> None:  # noqa: FBT001 - a test's switch
    clients = Clients({"WHATSAPP_API_URL": graph_url})
    secrets = {**SECRETS, reconcile.SETTING: UNCERTAIN_SECONDS}
    async with open_stack(database_url, secrets=secrets, clients=clients, set_flags=False) as stack:
        server = context(stack)
        server.loader.get = {SLUG: SimpleNamespace(work=partial(answer, blind=blind))}.get  # type: ignore[method-assign,assignment]
        looking = asyncio.create_task(reconcile.run(server, every=0.3))
        await worker.run(server, asyncio.Event(), lanes=4, lease_seconds=1.0, burst_seconds=0.0, wait=lambda _: 0.1)
        looking.cancel()
