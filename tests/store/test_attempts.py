"""How often a message is tried: what is not its own fault does not make it dead."""

from __future__ import annotations

import asyncio

import pytest

from agentops.store import inbox
from tests.fakes.chat import chat_stack, states
from tests.fakes.whatsapp import deliver, text


@pytest.mark.parametrize(("begun", "counts", "state"), [(5, False, "queued"), (5, True, "dead"), (12, False, "dead")])
def test_a_failure_that_passes_kills_no_message_whose_workers_died(
    database_url: str, begun: int, state: str, *, counts: bool
) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text("hello"))
            await stack.database.query("update agentops.inbox set attempts = %(n)s", {"n": begun})
            owner = "00000000-0000-4000-8000-000000000001"
            (job,) = await inbox.claim(stack.database, owner, 1)
            failed = await inbox.fail(stack.database, job, "PostgreSQL does not answer", counts=counts)
            assert failed
            assert failed.attempts >= begun
            assert await states(stack) == [state]

    asyncio.run(check())
