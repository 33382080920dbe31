"""A process of many turns at once: `python -m tests.fakes.turns_process DATABASE_URL PROVIDERS_URL TURNS [naive]`.

It leases TURNS conversations, prints "ready", and when its standard input says so answers their first messages all
together; each reply becomes a row of `public.replies`. `naive` looks whether the budget has room and then takes it.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from agentops.agent import loop, policy
from agentops.clients import Clients, openai
from agentops.store import costs, inbox
from agentops.store.database import Database
from tests.fakes.chat import SECRETS
from tests.fakes.cost_racers import naive
from tests.fakes.providers import Providers
from tests.fakes.stacks import open_stack

if TYPE_CHECKING:
    from agentops.stack import Stack

# A slow machine gives up nothing that it began: a second try would be a second reservation.
PATIENCE = 600.0


async def main(database_url: str, providers_url: str, turns: int) -> None:
    clients = Clients(Providers(url=providers_url).environment)
    database = await Database.open(database_url, size=16, wait_seconds=PATIENCE)
    async with open_stack(database_url, secrets=SECRETS, clients=clients, set_flags=False) as opened:
        stack = replace(opened, database=database)
        jobs = await inbox.claim(stack.database, str(uuid.uuid4()), turns, seconds=600)
        model = clients.openai(stack.secrets)
        model._timeout = PATIENCE
        await model.warm()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(answer(job, stack) for job in jobs))
    await clients.aclose()
    await database.close()


async def answer(job: inbox.Job, stack: Stack) -> None:
    message, lease = job.messages[0], job.lease
    asked = loop.Asked(
        text=str(message.payload["text"]["body"]),
        history=[],
        principal=policy.sender(lease.customer, stack),
        message_id=message.message_id,
        turn=message.id,
        lease=lease,
        correlation_id=message.correlation_id,
    )
    turn = await loop.turn(asked, stack)
    await stack.database.query("insert into public.replies values (%(text)s)", {"text": turn.text})


if __name__ == "__main__":
    loop.TURN_SECONDS = openai.CONNECT_SECONDS = PATIENCE
    if "naive" in sys.argv:
        costs.reserve = naive
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
