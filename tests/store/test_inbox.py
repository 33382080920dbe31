"""Turns of many conversations begin and end in one statement; each is judged by itself, and waits for no other."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from agentops.settings import CHAT
from agentops.store import conversations, inbox
from agentops.store.conversations import LeaseLost
from tests.fakes.chat import states, until
from tests.fakes.stacks import open_stack, set_flag

if TYPE_CHECKING:
    from agentops.stack import Stack

ONE, OTHER = "RW.1", "RW.2"


async def receive(stack: Stack, *customers: str) -> None:
    """A message of each."""
    batch = [
        inbox.Incoming(uuid.uuid4().hex, "P", customer, None, "text", answerable=True, payload={})
        for customer in customers
    ]
    await inbox.receive(stack.database, "f", "corr", CHAT, batch)


async def claim(stack: Stack) -> list[inbox.Job]:
    """All that are due."""
    return await inbox.claim(stack.database, str(uuid.uuid4()), 99)


def test_turns_that_begin_at_the_same_moment_are_one_commit(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await receive(stack, *(f"RW.{number}" for number in range(30)))
            jobs = await claim(stack)
            begun = await asyncio.gather(*(inbox.begin(stack.database, j.lease, j.messages, CHAT) for j in jobs))
            assert [each and each.ids for each in begun] == [[job.messages[0].id] for job in jobs]
            rows = await stack.database.query(
                "select distinct xmin::text, attempts, turn = id as own from agentops.inbox"
            )
            assert [(row["attempts"], row["own"]) for row in rows] == [(1, True)]
            await asyncio.gather(*(inbox.finish(stack.database, j.lease, j.messages, "done") for j in jobs))
            assert set(await states(stack)) == {"done"}
            assert len(await stack.database.query("select distinct xmin::text from agentops.inbox")) == 1

    asyncio.run(check())


def test_of_turns_that_begin_and_end_together_only_the_one_whose_lease_is_lost_is_refused(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await receive(stack, ONE, OTHER)
            lost, kept = await claim(stack)
            await conversations.release(stack.database, lost.lease)
            (mine,) = await claim(stack)
            asked = (inbox.begin(stack.database, job.lease, job.messages, CHAT) for job in (lost, kept))
            refused, begun = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(refused, LeaseLost)
            assert isinstance(begun, inbox.Begun)
            ended = (inbox.finish(stack.database, job.lease, job.messages, "done") for job in (lost, kept))
            refused, well = await asyncio.gather(*ended, return_exceptions=True)
            assert isinstance(refused, LeaseLost)
            assert well is None
            rows = await stack.database.query("select id, state, attempts from agentops.inbox order by id")
            assert rows == [
                {"id": mine.messages[0].id, "state": "queued", "attempts": 0},
                {"id": kept.messages[0].id, "state": "done", "attempts": 1},
            ]

    asyncio.run(check())


def test_of_turns_that_begin_together_only_the_one_from_before_the_flag_was_off_is_not_answered(
    database_url: str,
) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await receive(stack, ONE)
            await set_flag(stack.database, CHAT, enabled=False)
            await set_flag(stack.database, CHAT, enabled=True)
            await receive(stack, OTHER)
            jobs = await claim(stack)
            begun = await asyncio.gather(*(inbox.begin(stack.database, j.lease, j.messages, CHAT) for j in jobs))
            assert [each and each.enabled for each in begun] == [False, True]

    asyncio.run(check())


def test_a_conversation_that_somebody_else_holds_keeps_no_other_from_beginning_or_ending(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await receive(stack, ONE, OTHER)
            held, free = await claim(stack)

            async def answered(job: inbox.Job) -> None:
                await inbox.begin(stack.database, job.lease, job.messages, CHAT)
                await inbox.finish(stack.database, job.lease, job.messages, "done")

            async with stack.database.transaction() as holding:
                await conversations.hold(holding, held.lease)
                waits, goes = (asyncio.create_task(answered(job)) for job in (held, free))
                async with asyncio.timeout(20):
                    await goes
                assert not waits.done()
                assert await states(stack) == ["queued", "done"]
            async with asyncio.timeout(20):
                await waits
            assert await states(stack) == ["done", "done"]

    asyncio.run(check())


def test_a_message_that_is_stored_while_a_claim_runs_is_left_for_the_release_to_find(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await receive(stack, ONE)
            seen: list[int] = []

            async def answer_what_comes() -> None:
                while True:
                    for job in await claim(stack):
                        await inbox.finish(stack.database, job.lease, job.messages, "done") if job.messages else None
                        seen.append(len(job.messages))
                        await conversations.release(stack.database, job.lease)

            answering = asyncio.create_task(answer_what_comes())
            for _ in range(100):
                await receive(stack, ONE)
            await until(lambda: sum(seen) == 101, 30)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    asyncio.run(check())
