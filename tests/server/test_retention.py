from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agentops.errors import Unavailable
from agentops.events import Events
from agentops.server import retention
from agentops.store import idempotency
from tests.fakes.chat import until
from tests.fakes.servers import operator
from tests.fakes.stacks import Recorded

if TYPE_CHECKING:
    import pytest

    from agentops.platforms.local import LocalPlatform
    from agentops.server.context import ServerContext

_LINE = """
insert into agentops.logs (at, level, event, correlation_id, function) values (%(at)s, 'info', 'x', '', '')
"""
_KEY = """
insert into agentops.idempotency (scope, key, fingerprint, status, body, created_at)
values ('s', %(at)s::text, '', 200, '{}', %(at)s)
"""


async def _fill(platform: LocalPlatform, statement: str, *days: int) -> None:
    for number, age in enumerate(days):
        at = datetime.now(UTC) - timedelta(days=age, seconds=number)
        await platform.query(statement, {"at": at})


async def _count(platform: LocalPlatform, table: str) -> int:
    return int((await platform.query(f"select count(*) as n from agentops.{table}"))[0]["n"])  # noqa: S608


def test_old_lines_are_deleted_batch_by_batch(database_url: str) -> None:
    async def run() -> None:
        async with operator(database_url) as platform:
            await _fill(platform, _LINE, 15, 15, 15, 15, 13, 0)
            assert [await retention.expire_logs(platform, 3) for _ in range(3)] == [3, 1, 0]
            assert await _count(platform, "logs") == 2

    asyncio.run(run())


def test_idempotency_keys_are_kept_for_thirty_days_and_then_deleted_batch_by_batch(database_url: str) -> None:
    async def run() -> None:
        async with operator(database_url) as platform:
            await _fill(platform, _KEY, 31, 40, 31, 400, 29, 0)
            assert [await idempotency.expire(platform, 3) for _ in range(3)] == [3, 1, 0]
            assert await _count(platform, "idempotency") == 2

    asyncio.run(run())


def test_a_worker_deletes_what_is_too_old_and_survives_an_outage(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(retention, "BATCH", 2)
    outages = iter([Unavailable("away")])

    async def run() -> None:
        async with operator(database_url) as platform:

            async def query(*arguments: Any) -> Any:
                for outage in outages:
                    raise outage
                return await platform.query(*arguments)

            await _fill(platform, _LINE, 15, 15, 15, 0)
            await _fill(platform, _KEY, 31, 31, 31, 0)
            recorded = Recorded()
            context = SimpleNamespace(database=SimpleNamespace(query=query), events=Events(recorded, echo=None))
            task = asyncio.create_task(retention.keep(cast("ServerContext", context)))

            async def clean() -> bool:
                return (await _count(platform, "logs"), await _count(platform, "idempotency")) == (1, 1)

            await until(clean)
            assert not task.done()
            task.cancel()
            assert recorded.names == ["ai.server.retention_failed"]

    asyncio.run(run())
