"""Calls of one moment are one statement; each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentops.errors import AgentOpsError
from agentops.store.database import Database

DOUBLED = """select place, pg_current_xact_id()::text as transaction, 12 / n * 2 as answer
from jsonb_to_recordset(%(items)s::jsonb) as item (place integer, n integer)"""
SLOW = """select place, pg_current_xact_id()::text as transaction
from jsonb_to_recordset(%(items)s::jsonb) as item (place integer), pg_sleep(0.5)"""


def test_calls_of_one_moment_are_one_commit_and_each_gets_its_own_rows(database_url: str) -> None:
    async def check(database: Database) -> None:
        answers = await asyncio.gather(*(database.together(DOUBLED, {"n": n}) for n in (1, 2, 3)))
        assert [rows[0]["answer"] for rows in answers] == [24, 12, 8]
        assert len({rows[0]["transaction"] for rows in answers}) == 1

    _run(database_url, check)


def test_calls_that_come_while_one_is_under_way_go_together_after_it(database_url: str) -> None:
    async def check(database: Database) -> None:
        first = asyncio.create_task(database.together(SLOW, {}))
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(database.together(SLOW, {}) for _ in range(20)))
        assert len({rows[0]["transaction"] for rows in [await first, *answers]}) == 2

    _run(database_url, check)


def test_a_statement_that_fails_is_told_to_all_that_asked_and_to_nobody_after(database_url: str) -> None:
    async def check(database: Database) -> None:
        asked = (database.together(DOUBLED, {"n": n}) for n in (1, 0))
        assert [type(found) for found in await asyncio.gather(*asked, return_exceptions=True)] == [AgentOpsError] * 2
        assert (await database.together(DOUBLED, {"n": 1}))[0]["answer"] == 24

    _run(database_url, check)


def test_who_is_cancelled_takes_nobody_along(database_url: str) -> None:
    async def check(database: Database) -> None:
        gone, stays = (asyncio.create_task(database.together(SLOW, {})) for _ in range(2))
        await asyncio.sleep(0.1)
        late = asyncio.create_task(database.together(SLOW, {}))
        await asyncio.sleep(0)
        for task in (gone, late):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len(await stays) == 1
        assert len(await database.together(SLOW, {})) == 1

    _run(database_url, check)


def _run(database_url: str, check: Any) -> None:
    async def run() -> None:
        database = await Database.open(database_url)
        try:
            await check(database)
        finally:
            await database.close()

    asyncio.run(run())
