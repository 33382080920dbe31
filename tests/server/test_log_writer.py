from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import Any

from agentops.events import Event, Events
from agentops.server.log_writer import LogWriter
from tests.fakes.servers import operator

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def _event(number: int, **data: Any) -> Event:
    return Event(datetime.now(UTC), "info", f"ai.test.{number}", "abc", "echo", data)


async def _stored(url: str) -> list[dict[str, Any]]:
    async with operator(url) as platform:
        return await platform.query("select event, data, correlation_id from agentops.logs order by id")


def test_events_are_stored_in_order_and_the_last_ones_at_the_end(database_url: str) -> None:
    async def run() -> None:
        writer = LogWriter(database_url)
        writer.start()
        events = Events(writer, echo=None).bind("abc-123", "echo")
        for number in range(2_500):
            events.info("ai.test.line", number=number)
        await writer.close(5)
        rows = await _stored(database_url)
        assert [row["data"]["number"] for row in rows] == list(range(2_500))
        assert {row["correlation_id"] for row in rows} == {"abc-123"}

    asyncio.run(run())


def test_an_event_is_stored_soon_without_being_asked(database_url: str) -> None:
    async def run() -> None:
        writer = LogWriter(database_url)
        writer.start()
        writer.write(_event(1))
        await asyncio.sleep(0.4)
        assert len(await _stored(database_url)) == 1
        await writer.close()

    asyncio.run(run())


def test_what_postgresql_cannot_store_costs_nobody_else_a_line(database_url: str) -> None:
    async def run() -> None:
        writer = LogWriter(database_url)
        for number in range(20):
            writer.write(_event(number))
        writer.write(_event(20, text="nul \0 and a lone \ud800, and a real backslash-u \\u0000"))
        writer.write(_event(21, share=math.nan))
        writer.write(_event(22))
        writer.start()
        await writer.close(5)
        rows = await _stored(database_url)
        told = rows.pop()
        assert (told["event"], told["data"]) == ("ai.server.logs_dropped", {"dropped": 1})
        assert [row["event"] for row in rows] == [f"ai.test.{number}" for number in (*range(21), 22)]
        assert rows[20]["data"]["text"] == "nul � and a lone ?, and a real backslash-u \\u0000"

    asyncio.run(run())


def test_without_a_database_writing_costs_nothing_and_the_oldest_go(database_url: str) -> None:
    async def run() -> None:
        writer = LogWriter(NOWHERE, capacity=100)
        writer.start()
        begun = time.monotonic()
        for number in range(250):
            writer.write(_event(number))
        assert time.monotonic() - begun < 0.1
        await asyncio.sleep(0.3)
        writer._url = database_url  # it is back
        await asyncio.sleep(1.0)
        await writer.close()
        rows = await _stored(database_url)
        names = [row["event"] for row in rows if row["event"] != "ai.server.logs_dropped"]
        dropped = sum(row["data"]["dropped"] for row in rows if row["event"] == "ai.server.logs_dropped")
        assert names[-1] == "ai.test.249"
        assert names == sorted(names, key=lambda name: int(name.rpartition(".")[2]))
        assert len(names) + dropped == 250

    asyncio.run(run())
