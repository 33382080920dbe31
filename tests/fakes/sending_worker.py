"""A worker to be killed or stopped: `run(database_url, graph_url, variant)`, in a process of its own.

Each variant but the first is made to show something, or is known to be bad.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Variant:
    """How a worker behaves.

    `blind` sends a reply again that was being sent when its worker died. `stops`: it stops itself (SIGSTOP) once, when
    its first reply is `sending` and nothing has left yet. A request leaves within `leave_seconds` after that.
    """

    blind: bool = False
    stops: bool = False
    leave_seconds: float = sending.LEAVE_SECONDS
    lease_seconds: float = 1.0
    uncertain_seconds: int = 2


async def answer(job: inbox.Job, stack: Stack, variant: Variant) -> None:
    """The sending half of a turn: the reply to "n" is "reply n", one turn per message, no model."""
    for message in job.messages:
        begun = await inbox.begin(stack.database, job.lease, [message], CHAT)
        if begun is None:
            continue
        # The correlation id is this process's: so Graph's side knows whom it answers.
        named = replace(message, correlation_id=str(os.getpid()))
        to = sending.Addressed(job.lease, named, job.lease.customer, stack)
        if begun.outbox_id is None:
            async with stack.database.transaction() as transaction:
                await conversations.hold(transaction, job.lease)
                body = f"reply {message.payload['text']['body']}"
                begun_id = await outbox.put(transaction, job.lease, message, body)
            await sending.send(to, begun_id, body)
        elif begun.outbox_state == "pending":
            await sending.send(to, begun.outbox_id, begun.body or "")
        elif begun.outbox_state == "sending" and variant.blind:
            await stack.database.query(
                "update agentops.outbox set state = 'pending' where id = %(id)s::uuid", {"id": begun.outbox_id}
            )
            await sending.send(to, begun.outbox_id, begun.body or "")
        elif begun.outbox_state == "sending":
            await sending.interrupted(to, begun.outbox_id)
        else:
            await inbox.finish(stack.database, job.lease, [message], "done")


def run(database_url: str, graph_url: str, variant: Variant) -> None:
    """Work and reconcile until killed."""
    reconcile.LEAST_SECONDS = 0.0  # the campaign has no minutes
    sending.LEAVE_SECONDS = variant.leave_seconds
    if variant.stops:
        _stop_after_taking()
    asyncio.run(_run(database_url, graph_url, variant))


def _stop_after_taking() -> None:
    """Stop this process at the one moment that matters, the first time it comes."""
    taking = outbox.sending

    async def stopping(*arguments: Any, **more: Any) -> outbox.Taken:
        taken = await taking(*arguments, **more)
        outbox.sending = taking
        os.kill(os.getpid(), signal.SIGSTOP)
        return taken

    outbox.sending = stopping


async def _run(database_url: str, graph_url: str, variant: Variant) -> None:
    clients = Clients({"WHATSAPP_API_URL": graph_url})
    secrets = {**SECRETS, reconcile.SETTING: str(variant.uncertain_seconds)}
    async with open_stack(database_url, secrets=secrets, clients=clients, set_flags=False) as stack:
        server = context(stack)
        work = partial(answer, variant=variant)
        server.loader.get = {SLUG: SimpleNamespace(work=work)}.get  # type: ignore[method-assign,assignment]
        looking = asyncio.create_task(reconcile.run(server, every=0.3))
        await worker.run(
            server,
            asyncio.Event(),
            lanes=4,
            lease_seconds=variant.lease_seconds,
            burst_seconds=0.0,
            wait=lambda _: 0.1,
        )
        looking.cancel()
