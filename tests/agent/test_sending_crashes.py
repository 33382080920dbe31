"""Workers are killed at random, and between Graph's accept and our write; the truth is what the peer received."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from agentops.functions import ai_whatsapp_webhook
from agentops.sandbox import peers
from agentops.sandbox.statuses import Statuses
from agentops.web import Request
from tests.fakes import sending_worker
from tests.fakes.chat import chat_stack, states, until
from tests.fakes.sending_worker import Variant
from tests.fakes.sockets import serving
from tests.fakes.whatsapp import APP_SECRET, SLUG, deliver, text

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from starlette.requests import Request as Asked

    from agentops.stack import Stack

# Forked from a process that has imported everything: real processes, started quickly.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.fakes.sending_worker"])
PER_KILL, CUSTOMERS, KILLS, WORKERS = 6, 25, 12, 2
SEED = 7
# Longer than anything here takes: the answer to a send that is held never comes, its worker is killed.
HELD_SECONDS = 60
BLIND = Variant(blind=True, uncertain_seconds=60)


@dataclass
class Campaign:
    """What the peer received, and what we believe."""

    received: Counter[str]
    rows: list[dict[str, Any]]
    inbox: list[str]
    incidents: list[dict[str, Any]]
    # The replies that the peer had accepted, and not answered, when their workers were killed.
    aimed: list[str]

    @property
    def doubled(self) -> list[str]:
        return [body for body, count in self.received.items() if count > 1]

    @property
    def uncertain(self) -> set[str]:
        return {row["body"] for row in self.rows if row["state"] == "uncertain"}

    @property
    def lost(self) -> set[str]:
        """Neither received nor listed."""
        return {f"reply {n}" for n in range(len(self.inbox))} - set(self.received) - self.uncertain

    @property
    def believed_wrongly(self) -> set[str]:
        delivered = {row["body"] for row in self.rows if row["state"] in {"sent", "delivered", "read"}}
        return delivered - set(self.received)


@dataclass
class Home:
    """The stack and the loop that its connections belong to."""

    stack: Stack
    database_loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class Dropping(Statuses):
    """Statuses of which every so many-th reply's never come."""

    silent: int = 4

    def tell(self, phone_id: str, to: str, message_id: str, callback_data: object, failed: int | None = None) -> None:
        if not self.drops(str(callback_data)):
            Statuses.tell(self, phone_id, to, message_id, callback_data, failed)

    def drops(self, outbox_id: str) -> bool:
        return int(outbox_id[:8], 16) % self.silent == 0


def webhook(homes: list[Home]) -> Starlette:
    """The webhook function on a socket, for the peer's statuses; it answers as soon as there is a stack."""

    async def post(asked: Asked) -> Response:
        if not homes:
            return Response(status_code=503)
        headers = dict(asked.headers)
        loop, stack = homes[0].database_loop, homes[0].stack
        request = Request("POST", SLUG, "status", headers, body=await asked.body())
        future = asyncio.run_coroutine_threadsafe(ai_whatsapp_webhook.handle(request, stack), loop)
        return Response(status_code=(await asyncio.wrap_future(future)).status)

    return Starlette(routes=[Route("/", post, methods=["POST"])])


def campaign(database_url: str, variant: Variant, *, kills: int, silent: int) -> Campaign:
    homes: list[Home] = []
    with serving(webhook(homes)) as webhook_port:
        # Statuses come before and after the lease of a killed worker ends, and after we gave them up.
        statuses = Dropping(f"http://127.0.0.1:{webhook_port}/", APP_SECRET, (0.1, 1.5), silent=silent)
        with serving(peers.app(statuses)) as port:
            run = Run(database_url, f"http://127.0.0.1:{port}", statuses, variant)
            return asyncio.run(run.campaign(homes, kills))


class Run:
    """One campaign: its workers, and the peer that they send to."""

    def __init__(self, database_url: str, url: str, statuses: Dropping, variant: Variant) -> None:
        self.database_url, self.url, self.statuses, self.variant = database_url, url, statuses, variant
        self.chance = random.Random(SEED)  # noqa: S311 - as random as a test should be
        self.workers: list[BaseProcess] = []

    async def campaign(self, homes: list[Home], kills: int) -> Campaign:
        async with chat_stack(self.database_url) as stack, httpx.AsyncClient(base_url=self.url) as sink:
            homes.append(Home(stack, asyncio.get_running_loop()))
            try:
                self.workers = [self.start() for _ in range(WORKERS)]
                aimed: list[str] = []
                for kill in range(kills):
                    at_random = kill % 4 == 3
                    if not at_random:
                        await sink.post("/sandbox/faults", json={"fault": "silence", "seconds": HELD_SECONDS})
                    for n in range(kill * PER_KILL, (kill + 1) * PER_KILL):
                        await deliver(stack, text(str(n), f"+2507881{n % CUSTOMERS:05d}"))
                    if at_random:
                        await asyncio.sleep(self.chance.uniform(0.0, 0.3))
                        self.kill(self.chance.choice(self.workers))
                    else:
                        held = await self.held(sink, len(aimed))
                        aimed.append(str(held["body"]))
                        # Graph has the reply, and its worker waits for the answer.
                        (holder,) = (each for each in self.workers if str(each.pid) == held["correlation_id"])
                        for victim in list(self.workers) if kill % 4 == 0 else [holder]:
                            self.kill(victim)
                return await self.outcome(stack, sink, aimed)
            finally:
                homes.clear()
                for worker in self.workers:
                    worker.kill()
                    worker.join()

    def start(self) -> BaseProcess:
        arguments = (self.database_url, f"{self.url}/graph/v26.0", self.variant)
        worker = PROCESSES.Process(target=sending_worker.run, args=arguments)
        worker.start()
        return worker

    def kill(self, victim: BaseProcess) -> None:
        victim.kill()
        victim.join()
        self.workers[self.workers.index(victim)] = self.start()

    async def held(self, sink: httpx.AsyncClient, before: int) -> dict[str, Any]:
        """The reply that the peer holds next, after so many before."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = [each for each in await received(sink) if each["fault"] == "silence"]
            return len(found) > before

        await until(there, 30)
        return found[-1]

    async def outcome(self, stack: Stack, sink: httpx.AsyncClient, aimed: list[str]) -> Campaign:
        """Wait until nothing moves any more: every status has come that comes, and the incident knows of it."""

        async def over() -> bool:
            rows = await stack.database.query("select id::text, state from agentops.outbox")
            told = {each["callback_data"] for each in await received(sink)}
            waits = {row["id"] for row in rows if row["state"] in {"pending", "sending"}}
            told -= {row["id"] for row in rows if self.statuses.drops(row["id"]) or row["state"] == "delivered"}
            uncertain = {row["id"] for row in rows if row["state"] == "uncertain"}
            calm = not (waits or told) and "queued" not in await states(stack)
            return calm and uncertain == listed(await incidents(stack))

        await until(over, 60)
        return Campaign(
            Counter(each["body"] for each in await received(sink)),
            await stack.database.query("select body, state, id::text, error from agentops.outbox"),
            await states(stack),
            await incidents(stack),
            aimed,
        )


async def received(sink: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The texts that the peer has accepted."""
    found = (await sink.get("/sandbox/messages")).json()["messages"]
    return [each for each in found if each["type"] == "text"]


async def incidents(stack: Stack) -> list[dict[str, Any]]:
    return await stack.database.query("select status, detail from agentops.incidents where kind = 'uncertain-reply'")


def listed(found: list[dict[str, Any]]) -> set[str]:
    """The replies in the open incidents."""
    return {each for row in found if row["status"] == "open" for each in row["detail"]["outbox"]}


def test_killed_workers_lose_no_reply_and_say_none_twice(database_url: str) -> None:
    found = campaign(database_url, Variant(), kills=KILLS, silent=4)

    assert len(found.aimed) == KILLS * 3 // 4, "workers were killed between Graph's accept and our write"
    assert found.doubled == []
    assert found.lost == set()
    assert found.believed_wrongly == set()
    assert set(found.inbox) == {"done"}
    assert len(found.inbox) == KILLS * PER_KILL
    assert listed(found.incidents) == {row["id"] for row in found.rows if row["state"] == "uncertain"}
    # The others were `sending` in workers that were killed before the request had left: nobody can know that.
    assert len(found.received) > KILLS * PER_KILL // 3


def test_sending_again_blindly_is_found_by_the_same_campaign(database_url: str) -> None:
    # No status comes, and nobody gives a reply up: so nothing but the sender itself keeps it from being said twice.
    found = campaign(database_url, BLIND, kills=2, silent=1)
    assert found.aimed
    assert set(found.aimed) <= set(found.doubled)
