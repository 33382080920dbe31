"""A worker that is stopped while it sends, and goes on when an operator has had the reply sent again."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentops.server import reconcile
from agentops.store import outbox
from tests.fakes import sending_worker
from tests.fakes.chat import chat_stack, settled, until
from tests.fakes.providers import Providers, serving
from tests.fakes.sending_worker import Variant
from tests.fakes.whatsapp import deliver, text

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from agentops.stack import Stack

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.fakes.sending_worker"])
OTHER = "+250788000002"


def started(database_url: str, providers: Providers, variant: Variant) -> BaseProcess:
    graph = providers.environment["WHATSAPP_API_URL"]
    worker = PROCESSES.Process(target=sending_worker.run, args=(database_url, graph, variant))
    worker.start()
    return worker


def replies_to_the_customer(database_url: str, variant: Variant) -> int:
    """How often the customer reads the one reply, when its first sender is stopped and an operator sends it again."""
    with serving(Providers()) as providers:
        return asyncio.run(_sent_again(database_url, providers, variant))


async def _sent_again(database_url: str, providers: Providers, variant: Variant) -> int:
    workers: list[BaseProcess] = []
    async with chat_stack(database_url, providers) as stack:
        try:
            workers.append(started(database_url, providers, variant))
            await deliver(stack, text("1"))
            await until(lambda: is_stopped(workers[0]), 30)
            assert providers.sent == []

            # Its lease ends. (It has not to be renewed for so long that it hears nothing of that when it goes on.)
            await stack.database.query("update agentops.conversations set lease_until = now() - interval '1 second'")
            # Another worker takes the conversation over and leaves the reply to its status, which never comes.
            workers.append(started(database_url, providers, Variant()))
            await until(lambda: settled(stack), 30)
            await stack.database.query("update agentops.outbox set sending_since = now() - interval '11 minutes'")
            await reconcile.look(stack)
            (reply,) = await outbox.listed(stack.database, "uncertain", 2)
            assert await outbox.resolve(stack.database, reply.id, "pending", among=["uncertain"], actor="me")
            await until(lambda: state(stack, reply.id, "sent"), 30)
            assert providers.texts == ["reply 1"]
            workers.pop().kill()

            await asyncio.sleep(0.5)  # so that the deadline of the shortest variant has passed for certain
            os.kill(workers[0].pid or 0, signal.SIGCONT)
            await deliver(stack, text("2", OTHER))
            await until(lambda: "reply 2" in providers.texts, 30)
            await until(lambda: settled(stack), 30)
            assert await state(stack, reply.id, "sent")
            return providers.texts.count("reply 1")
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def is_stopped(worker: BaseProcess) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def state(stack: Stack, outbox_id: str, expected: str) -> bool:
    return (await outbox.one(stack.database, outbox_id)).state == expected


def test_a_stopped_worker_that_goes_on_sends_nothing_that_was_sent_again(database_url: str) -> None:
    assert replies_to_the_customer(database_url, Variant(stops=True, leave_seconds=0.5, lease_seconds=300.0)) == 1


def test_without_the_deadline_the_customer_reads_it_twice(database_url: str) -> None:
    assert replies_to_the_customer(database_url, Variant(stops=True, leave_seconds=3600.0, lease_seconds=300.0)) == 2


@pytest.mark.parametrize(("setting", "seconds"), [("0", 30.0), ("45", 45.0), ("soon", 600.0), ("", 600.0)])
def test_a_reply_is_never_given_up_while_its_request_may_still_be_under_way(
    database_url: str, setting: str, seconds: float
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, AGENT_UNCERTAIN_SECONDS=setting) as stack:
            assert reconcile._seconds(stack) == seconds

    asyncio.run(check())
