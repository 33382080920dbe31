"""A turn of which an operator ends a part, after its worker died: it stays that turn, and acts and answers once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentops.settings import CHAT
from agentops.store import conversations, inbox, inbox_admin, outbox, turns
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, call, say, serving
from tests.fakes.whatsapp import deliver, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.stack import Stack

ROOT = Path(__file__).parents[2]
ACTOR = "tester@here"
BURST = 0.3
# What the operator does about the two messages of each customer's turn, after the crash.
FIRST_ENDED, LAST_ENDED, FIRST_REVIVED, STEP_LOST = (f"+25078800000{number}" for number in range(1, 5))
CUSTOMERS = (FIRST_ENDED, LAST_ENDED, FIRST_REVIVED, STEP_LOST)


def test_a_turn_of_which_an_operator_ends_a_part_after_a_crash_makes_no_second_voucher_and_one_reply(
    database_url: str,
) -> None:
    def think(body: dict[str, Any]) -> dict[str, Any]:
        return say("Here it is.") if made(body) else call(("create_voucher", '{"amount": 900}'))

    async def check(process: subprocess.Popen[bytes]) -> None:
        async with chat_stack(database_url, providers) as stack:
            for customer in CUSTOMERS:
                await deliver(stack, text("create voucher 900", customer), text("please", customer))
            await until(lambda: sum(map(made, providers.asked)) == len(CUSTOMERS), 30)
            process.send_signal(signal.SIGKILL)
            process.wait()
            providers.hold.set()
            assert await vouchers(stack) == dict.fromkeys(CUSTOMERS, 1)
            await die(stack, FIRST_REVIVED)
            for customer, place in ((FIRST_ENDED, 0), (LAST_ENDED, 1), (FIRST_REVIVED, 1), (STEP_LOST, 1)):
                await discard(stack, (await numbers(stack, customer))[place])
            await inbox_admin.revive(stack.database, (await numbers(stack, FIRST_REVIVED))[:1], ACTOR)
            # As a crash of the database can: the model is asked anew, about what is left of the turn.
            lost = (await numbers(stack, STEP_LOST))[1]
            await stack.database.query("delete from agentops.turn_steps where inbox_id = %(turn)s", {"turn": lost})
            # Some replies are taken up again too.
            providers.refusals = [131016, 131016]
            async with working(stack, burst_seconds=BURST):
                await until(lambda: settled(stack), 30)
            assert await vouchers(stack) == dict.fromkeys(CUSTOMERS, 1)
            assert sorted(each["to"] for each in providers.sent) == sorted(CUSTOMERS)
            assert set(providers.texts) == {"Here it is."}
            assert sorted(await states(stack)) == ["done"] * 4 + ["skipped"] * 4

    with serving(Providers(think=think, holds=made)) as providers:
        providers.hold.clear()
        arguments = [sys.executable, "-m", "tests.fakes.worker_process", database_url, providers.url, str(BURST)]
        with subprocess.Popen(arguments, cwd=ROOT, env={"PYTHONPATH": "src"}) as process:
            try:
                asyncio.run(check(process))
            finally:
                process.kill()


def test_what_a_turn_has_decided_goes_with_its_last_message_that_could_be_answered(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text("one"), text("two"))
            (job,) = await taken(stack)
            begun = await inbox.begin(stack.database, job.lease, job.messages, CHAT)
            assert begun is not None
            await turns.record(stack.database, job.lease, begun.turn, 0, turns.Step([], "hi", {}, "m"))
            reply = await outbox.put(stack.database, job.lease, replace(job.messages[0], turn=begun.turn), "hi")
            await conversations.release(stack.database, job.lease)
            for number, steps, state in ((2, 1, "pending"), (1, 0, "failed")):
                await inbox_admin.discard(stack.database, [number], ACTOR)
                assert len(await turns.recorded(stack.database, begun.turn)) == steps
                assert (await outbox.one(stack.database, reply)).state == state

    asyncio.run(check())


def made(body: dict[str, Any]) -> bool:
    """Whether the model is told of its voucher."""
    return "output" in body["input"][-1]


async def vouchers(stack: Stack) -> dict[str, int]:
    """How many vouchers each customer has."""
    rows = await stack.database.query("select whatsapp_e164 as customer, count(*) from public.vouchers group by 1")
    return {row["customer"]: row["count"] for row in rows}


async def numbers(stack: Stack, customer: str) -> list[int]:
    """The numbers of a customer's messages, in order."""
    statement = """select i.id from agentops.inbox i join agentops.conversations c on c.id = i.conversation_id
        where c.customer = %(customer)s order by i.id"""
    return [row["id"] for row in await stack.database.query(statement, {"customer": customer})]


async def taken(stack: Stack, count: int = 1) -> Sequence[inbox.Job]:
    """Jobs of so many conversations, as soon as they are to be had."""
    jobs: list[inbox.Job] = []
    owner = str(uuid.uuid4())

    async def claimed() -> bool:
        jobs.extend(await inbox.claim(stack.database, owner, count - len(jobs)))
        return len(jobs) == count

    await until(claimed, 20)
    return jobs


async def die(stack: Stack, customer: str) -> None:
    """Let a customer's turn fail for the last time, once nobody has it any more."""
    jobs = await taken(stack, len(CUSTOMERS))
    for job in jobs:
        if job.lease.customer == customer:
            tried = tuple(replace(message, attempts=inbox.ATTEMPTS) for message in job.messages)
            await inbox.fail(stack.database, replace(job, messages=tried), "the model is down")
        await conversations.release(stack.database, job.lease)
    rows = await stack.database.query("select count(*) from agentops.inbox where state = 'dead'")
    assert rows == [{"count": 2}]


async def discard(stack: Stack, number: int) -> None:
    """End a message as soon as nobody has it any more."""

    async def possible() -> bool:
        return (await inbox_admin.planned(stack.database, [number], "discard"))[0].changed

    await until(possible, 20)
    await inbox_admin.discard(stack.database, [number], ACTOR)
