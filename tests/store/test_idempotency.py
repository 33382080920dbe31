from __future__ import annotations

import asyncio

import pytest

from agentops.errors import AgentOpsError
from agentops.store import idempotency
from agentops.store.idempotency import Stored
from tests.fakes.stacks import open_stack


def test_a_key_is_claimed_once_and_keeps_its_answer_in_order(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            async with stack.database.money() as money:
                assert await idempotency.claim(money, "s", "k", "f") is None
                await idempotency.settle(money, "s", "k", 200, {"success": True, "a": 1})
            async with stack.database.money() as money:
                stored = await idempotency.claim(money, "s", "k", "other")
                assert stored == Stored("f", 200, {"success": True, "a": 1})
                assert list(stored.body) == ["success", "a"]
                assert await idempotency.claim(money, "another scope", "k", "f") is None

    asyncio.run(run())


def test_a_transaction_that_fails_gives_its_key_back(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:

            async def failing() -> None:
                async with stack.database.money() as money:
                    await idempotency.claim(money, "s", "k", "f")
                    await money.query("select 1 / 0")

            with pytest.raises(AgentOpsError):
                await failing()
            async with stack.database.money() as money:
                assert await idempotency.claim(money, "s", "k", "f") is None

    asyncio.run(run())
