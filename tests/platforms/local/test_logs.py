"""Reading and following logs: no line twice, none left out."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from agentops.platforms import LogFilter, LogLine
from agentops.platforms.local import logs
from tests.platforms.local.serving import opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

_INSERT = b"""insert into agentops.logs (at, level, event, correlation_id, function, data)
values (%(at)s, %(level)s, %(event)s, %(correlation_id)s, %(function)s, %(data)s)"""


def row(event: str, **given: Any) -> dict[str, Any]:
    data = json.dumps(given.pop("data", {}), ensure_ascii=False)
    fixed = {"at": datetime.now(UTC), "level": "info", "correlation_id": "abc-123", "function": "ai-create-voucher"}
    return {**fixed, "event": event, "data": data, **given}


def store(url: str, *rows: dict[str, Any]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for entry in rows:
            connection.execute(_INSERT, entry)


def read(url: str, wanted: LogFilter | None = None, limit: int = 100) -> list[LogLine]:
    async def scenario() -> list[LogLine]:
        async with opened(url) as platform:
            lines = platform.logs(wanted or LogFilter(), limit=limit, follow=False, gap=print)
            return [line async for line in lines]

    return asyncio.run(scenario())


def test_the_newest_lines_come_oldest_first(database_url: str) -> None:
    now = datetime.now(UTC)
    store(database_url, *(row(f"e{number}", at=now - timedelta(minutes=number)) for number in range(5)))
    assert [line.event for line in read(database_url, limit=3)] == ["e2", "e1", "e0"]


def test_a_printed_line_is_flat_json_that_the_pages_greps_find(database_url: str) -> None:
    store(database_url, row("ai.tool.create_voucher.error", level="error", data={"error": 'a "b" é', "latency_ms": 7}))
    raw = json.dumps(read(database_url)[0].json(), ensure_ascii=False)
    assert list(json.loads(raw))[:5] == ["timestamp", "level", "event", "correlation_id", "function"]
    assert '"correlation_id": "abc-123"' in raw
    assert "error" in raw
    assert json.loads(raw)["latency_ms"] == 7


FIRST = datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (LogFilter(slugs=("ai-create-voucher",)), "ab"),
        (LogFilter(slugs=("nobody",)), ""),
        (LogFilter(level="warning"), "bc"),
        (LogFilter(event="ai.tool.*.error"), "b"),
        (LogFilter(event="ai.tool.create_voucher.*"), "a"),
        (LogFilter(event="*"), "abc"),
        (LogFilter(correlation_id="other"), "c"),
        (LogFilter(since=NOON), "c"),
        (LogFilter(until=NOON), "ab"),
        (LogFilter(grep='"usage": {"in": 12}'), "a"),
        (LogFilter(grep="USAGE"), ""),
        (LogFilter(grep='"timestamp": "2026-01-01T00:00:00.123Z", "level": "info", "event": "ai.tool'), "a"),
        (LogFilter(grep="100%"), "c"),
        (LogFilter(level="error", grep="ai-create"), "b"),
    ],
)
def test_every_condition_must_hold(database_url: str, wanted: LogFilter, found: str) -> None:
    store(
        database_url,
        row("ai.tool.create_voucher.success", at=FIRST, data={"usage": {"in": 12}}),
        row("ai.tool.createXvoucher.error", at=FIRST, level="error"),
        row(
            "ai.whatsapp.send.error", level="error", correlation_id="other", function="b", data={"text": "100% \\ é\n"}
        ),
    )
    names = {"ai.tool.create_voucher.success": "a", "ai.tool.createXvoucher.error": "b", "ai.whatsapp.send.error": "c"}
    assert {names[line.event] for line in read(database_url, wanted)} == set(found)


def test_what_is_searched_is_what_is_printed(database_url: str) -> None:
    data = {"n": 1, "f": 0.25, "deep": {"a": [True, None, "x"]}, "text": 'tab\t"quote" \\ é 😀 \x01'}
    store(database_url, row("e", data=data, correlation_id='we"ird'), row("empty"))
    for line in read(database_url):
        raw = json.dumps(line.json(), ensure_ascii=False)
        assert [found.event for found in read(database_url, LogFilter(grep=raw))] == [line.event]


@asynccontextmanager
async def following(url: str, gap: Callable[[str], None] = print) -> AsyncIterator[AsyncIterator[LogLine]]:
    """Everything that is stored, as a stream without end."""
    async with opened(url) as platform:
        lines = platform.logs(LogFilter(), limit=10, follow=True, gap=gap)
        try:
            yield lines
        finally:
            await cast("AsyncGenerator[LogLine]", lines).aclose()


async def take(lines: AsyncIterator[LogLine], count: int) -> list[str]:
    return [(await asyncio.wait_for(anext(lines), 10)).event for _ in range(count)]


def test_following_skips_no_row_that_commits_late(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.02)

    async def scenario() -> None:
        early = await psycopg.AsyncConnection.connect(database_url)
        async with early, following(database_url) as lines:
            await early.execute(_INSERT, row("begun first, committed last"))
            store(database_url, row("already there"))
            assert await take(lines, 1) == ["already there"]
            store(database_url, row("second"))
            assert await take(lines, 1) == ["second"]
            await early.commit()
            assert await take(lines, 1) == ["begun first, committed last"]
            store(database_url, row("third"))
            assert await take(lines, 1) == ["third"]

    asyncio.run(scenario())


def test_a_cursor_of_ids_would_skip_it(database_url: str) -> None:
    # The known-bad variant: the highest id seen so far as cursor.
    with psycopg.connect(database_url) as early:
        early.execute(_INSERT, row("begun first"))
        store(database_url, row("second"))
        with psycopg.connect(database_url) as reader:
            seen = reader.execute(b"select max(id) from agentops.logs").fetchone()
        early.commit()
    with psycopg.connect(database_url) as reader:
        later = reader.execute(b"select event from agentops.logs where id > %s", seen).fetchall()
    assert later == []


def test_writers_that_commit_in_any_order_are_followed_exactly_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)
    writers, each = 6, 25

    async def write(writer: int) -> None:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            for number in range(each):
                await connection.execute(_INSERT, row(f"{writer}.{number}"))
                await asyncio.sleep(0.001 * ((writer * 7 + number) % 5))
                await connection.commit()

    async def scenario() -> list[str]:
        async with following(database_url) as lines:
            seeing = asyncio.create_task(take(lines, writers * each))
            await asyncio.gather(*map(write, range(writers)))
            return await seeing

    seen = asyncio.run(scenario())
    assert sorted(seen) == sorted(f"{writer}.{number}" for writer in range(writers) for number in range(each))


def test_a_lost_connection_is_made_again_and_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.02)
    told: list[str] = []

    async def scenario() -> None:
        async with following(database_url, told.append) as lines:
            store(database_url, row("before"))
            assert await take(lines, 1) == ["before"]
            store(database_url, row("meanwhile"))
            cut(database_url)
            assert await take(lines, 1) == ["meanwhile"]

    asyncio.run(scenario())
    assert [words.partition("(")[0] for words in told] == [
        "note: the log stream was interrupted ",
        "note: connected again; the stream goes on where it stopped, no line is lost",
    ]


def cut(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            b"select pg_terminate_backend(pid) from pg_stat_activity "
            b"where datname = current_database() and pid <> pg_backend_pid()"
        )


def test_a_line_for_eyes_is_one_line() -> None:
    line = LogLine(
        datetime(2026, 1, 1, tzinfo=UTC), "error", "ai.x", "0123456789", "ai-y", {"a": "b c", "n": 1, "m": None}
    )
    assert line.text().endswith('ERROR    ai.x  ai-y  01234567  a="b c"  n=1')
    assert "\n" not in line.text()


def test_no_field_of_an_event_hides_a_fixed_one() -> None:
    line = LogLine(datetime(2026, 1, 1, tzinfo=UTC), "info", "ai.x", "id", "f", {"level": "fake", "own": 1})
    assert line.json() == {
        "timestamp": "2026-01-01T00:00:00.000Z",
        "level": "info",
        "event": "ai.x",
        "correlation_id": "id",
        "function": "f",
        "own": 1,
    }
