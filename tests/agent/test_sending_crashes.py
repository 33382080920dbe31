"""Workers are killed at random, and between Graph's accept and our write; the truth is what the peer received."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
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
from tests.fakes.whatsapp import APP_SECRET, SLUG, deliver, text
from tests.sandbox.serving import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.process import BaseProcess

    from starlette.requests import Request as Asked

    from agentops.stack import Stack

# Forked from a process that has imported everything: real processes, started quickly.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.fakes.sending_worker"])
MESSAGES, CUSTOMERS, KILLS, WORKERS = 100, 25, 20, 2
SEED = 7
# Every so many-th reply's statuses never come.
SILENT = 4


@dataclass
class Campaign:
    """What the peer received, and what we believe."""

    received: Counter[str]
    rows: list[dict[str, Any]]
    inbox: list[str]
    incidents: list[dict[str, Any]]
    aimed: int

    @property
    def doubled(self) -> list[str]:
        return [body for body, count in self.received.items() if count > 1]

    @property
    def uncertain(self) -> set[str]:
        return {row["body"] for row in self.rows if row["state"] == "uncertain"}

    @property
    def lost(self) -> set[str]:
        """Neither received nor listed."""
        return {f"reply {n}" for n in range(MESSAGES)} - set(self.received) - self.uncertain

    @property
    def believed_wrongly(self) -> set[str]:
        delivered = {row["body"] for row in self.rows if row["state"] in {"sent", "delivered", "read"}}
        return delivered - set(self.received)


@dataclass
class Home:
    """The stack and the loop that its connections belong to."""

    stack: Stack
    database_loop: asyncio.AbstractEventLoop


class Dropping(Statuses):
    """Statuses of which some never come."""

    def tell(self, phone_id: str, to: str, message_id: str, callback_data: object) -> None:
        if int(str(callback_data)[:8], 16) % SILENT:
            super().tell(phone_id, to, message_id, callback_data)


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


def campaign(database_url: str, *, blind: bool = False, kills: int = KILLS) -> Campaign:
    homes: list[Home] = []
    with (
        serving(webhook(homes)) as webhook_port,
        # Statuses come before and after the lease of a killed worker ends, and after we gave them up.
        serving(peers.app(Dropping(f"http://127.0.0.1:{webhook_port}/", APP_SECRET, (0.1, 2.5)))) as port,
    ):
        return asyncio.run(_campaign(database_url, f"http://127.0.0.1:{port}", homes, blind=blind, kills=kills))


async def _campaign(database_url: str, url: str, homes: list[Home], *, blind: bool, kills: int) -> Campaign:
    chance = random.Random(SEED)  # noqa: S311 - as random as a test should be
    workers: list[BaseProcess] = []

    def start() -> BaseProcess:
        worker = PROCESSES.Process(target=sending_worker.run, args=(database_url, f"{url}/graph/v26.0", blind))
        worker.start()
        return worker

    async with chat_stack(database_url) as stack, httpx.AsyncClient(base_url=url) as sink:
        homes.append(Home(stack, asyncio.get_running_loop()))

        async def received() -> list[dict[str, Any]]:
            found = (await sink.get("/sandbox/messages")).json()["messages"]
            return [each for each in found if each["type"] == "text"]

        try:
            workers += [start() for _ in range(WORKERS)]
            await sink.post("/sandbox/faults", json={"fault": "silence", "seconds": 0.15, "sends": 2 * MESSAGES})
            aimed = 0
            for kill in range(kills):
                for n in range(kill * MESSAGES // KILLS, (kill + 1) * MESSAGES // KILLS):
                    await deliver(stack, text(str(n), f"+2507881{n % CUSTOMERS:05d}"))
                before = len(await received())
                with suppress(TimeoutError):
                    await until(partial(_more, received, before))
                    aimed += 1  # Graph has a reply and has not answered yet
                if kill % 2:
                    await asyncio.sleep(chance.uniform(0.0, 0.3))
                for victim in range(WORKERS) if kill % 4 == 0 else [kill % WORKERS]:
                    workers[victim].kill()
                    workers[victim].join()
                    workers[victim] = start()

            async def over() -> bool:
                pending = await stack.database.query(
                    "select count(*) as n from agentops.outbox where state in ('pending', 'sending')"
                )
                return "queued" not in await states(stack) and pending[0]["n"] == 0

            await until(over, 60)
            await asyncio.sleep(3.0)  # late statuses, and the look after them
            return Campaign(
                Counter(each["body"] for each in await received()),
                await stack.database.query("select body, state, id::text, error from agentops.outbox"),
                await states(stack),
                await stack.database.query(
                    "select status, detail from agentops.incidents where kind = 'uncertain-reply'"
                ),
                aimed,
            )
        finally:
            homes.clear()
            for worker in workers:
                worker.kill()
                worker.join()


async def _more(received: Callable[[], Awaitable[list[dict[str, Any]]]], before: int) -> bool:
    return len(await received()) > before


def test_killed_workers_lose_no_reply_and_say_none_twice(database_url: str) -> None:
    found = campaign(database_url)

    assert found.aimed >= KILLS // 2, "workers were killed between Graph's accept and our write"
    assert found.doubled == []
    assert found.lost == set()
    assert found.believed_wrongly == set()
    assert set(found.inbox) == {"done"}
    open_ids = {each for row in found.incidents if row["status"] == "open" for each in row["detail"]["outbox"]}
    assert open_ids == {row["id"] for row in found.rows if row["state"] == "uncertain"}
    assert len(found.received) > MESSAGES * 3 // 4


def test_sending_again_blindly_is_found_by_the_same_campaign(database_url: str) -> None:
    assert campaign(database_url, blind=True, kills=5).doubled != []
