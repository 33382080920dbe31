"""The logs of a hosted project, from a stream that is late, paged, and sometimes fails in a 200."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from starlette.responses import JSONResponse, Response

from agentops.errors import Unavailable
from agentops.platforms import LogFilter, LogLine
from agentops.platforms.supabase import logs
from agentops.platforms.supabase.management import Management
from tests.fakes.management_api import REF, Deployed, ManagementApi, serving
from tests.fakes.servers import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLUGS = {"ai-one": "11111111-0000-4000-8000-000000000000", "ai-two": "22222222-0000-4000-8000-000000000000"}
LOGS = "/analytics/endpoints/logs"


@pytest.fixture
def api(database_url: str) -> ManagementApi:
    """A project with two functions."""
    rows = [{"id": number, "slug": slug, "version": 1, "status": "ACTIVE"} for slug, number in SLUGS.items()]
    return ManagementApi(database_url, functions={row["slug"]: Deployed(row, {}, "") for row in rows})  # type: ignore[misc]


@dataclass
class Reader:
    """Reads from the fake; `said` are the sentences that a reader was told."""

    management: Management
    said: list[str] = field(default_factory=list)

    async def shown(self, limit: int = 100, **wanted: Any) -> list[LogLine]:
        stream = logs.stream(self.management, LogFilter(**wanted), limit=limit, follow=False, gap=self.said.append)
        return [line async for line in stream]

    def tail(self, **wanted: Any) -> AsyncIterator[LogLine]:
        return logs.stream(
            self.management, LogFilter(**wanted), limit=100, follow=True, gap=self.said.append, poll_seconds=0.02
        )


@asynccontextmanager
async def reading(api: ManagementApi) -> AsyncIterator[Reader]:
    with serving(api):
        management = Management(REF, api.token, base_url=api.url)
        try:
            yield Reader(management)
        finally:
            await management.aclose()


async def following(stream: AsyncIterator[LogLine]) -> LogLine:
    """The next line, as a task can wait for it."""
    return await anext(stream)


def ours(event: str, number: int = 0, correlation: str = "abc-123", level: str = "info") -> str:
    """A console line as our functions print it."""
    fixed = {"timestamp": "2026-01-01T00:00:00.000Z", "level": level, "event": event}
    return json.dumps({**fixed, "correlation_id": correlation, "function": "ai-one", "number": number})


def console(api: ManagementApi, text: str, at: datetime | None = None, slug: str = "ai-one") -> str:
    return api.log("function_logs", text, at, function_id=SLUGS[slug], level="log", event_type="Log")


def called(api: ManagementApi, slug: str, status: int, at: datetime | None = None) -> str:
    attributes = {"request.pathname": f"/functions/v1/{slug}", "request.method": "POST", "execution_time_ms": "12"}
    return api.log("function_edge_logs", "POST", at, **attributes, **{"response.status_code": str(status)})


def test_console_lines_and_invocations_are_one_stream_by_time(api: ManagementApi) -> None:
    now = datetime.now(UTC)
    called(api, "ai-one", 429, now - timedelta(seconds=1))
    console(api, ours("ai.tool.create_voucher.success", 7), now - timedelta(seconds=3))
    console(api, "plain words\n", now - timedelta(seconds=2))

    async def scenario() -> None:
        async with reading(api) as reader:
            lines = await reader.shown()
            assert [(line.event, line.level, line.function) for line in lines] == [
                ("ai.tool.create_voucher.success", "info", "ai-one"),
                ("console", "info", "ai-one"),
                ("invocation", "warning", "ai-one"),
            ]
            assert lines[0].correlation_id == "abc-123"
            assert lines[0].data == {"number": 7}
            assert lines[1].data == {"message": "plain words"}
            assert (lines[2].data["status"], lines[2].data["method"]) == (429, "POST")
            assert (lines[2].data["latency_ms"], lines[2].data["execution_id"]) == (12, None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        (
            {
                "response.status_code": "503",
                "execution_time_ms": "12.5",
                "execution_id": "e-1",
                "request.method": "GET",
            },
            {"method": "GET", "status": 503, "latency_ms": 12.5, "execution_id": "e-1"},
        ),
        ({}, {"method": None, "status": None, "latency_ms": None, "execution_id": None}),
        (
            {"response.status_code": "", "execution_time_ms": "nan"},
            {"method": None, "status": None, "latency_ms": None, "execution_id": None},
        ),
    ],
)
def test_an_invocations_numbers_are_numbers_and_what_it_does_not_say_is_null(
    api: ManagementApi, attributes: dict[str, str], fields: dict[str, object]
) -> None:
    api.log("function_edge_logs", "", None, **{"request.pathname": "/functions/v1/ai-one"}, **attributes)

    async def scenario() -> None:
        async with reading(api) as reader:
            (line,) = await reader.shown()
            assert line.data == fields
            assert line.level == ("error" if fields["status"] else "info")

    asyncio.run(scenario())


def test_what_looks_like_a_phone_number_is_masked_whoever_printed_it(api: ManagementApi) -> None:
    console(api, "plain words of +250788123456")
    console(api, ours("ai.theirs").replace('"number": 0', '"note": "call 0788 123 456"'))

    async def scenario() -> None:
        async with reading(api) as reader:
            shown = json.dumps([line.json() for line in await reader.shown()])
            assert "plain words of" in shown
            assert "123456" not in shown.replace(" ", "")

    asyncio.run(scenario())


PHONE = "+250788123456"


def test_no_field_shows_a_phone_number_whichever_it_stands_in(api: ManagementApi) -> None:
    event = {"event": f"call.{PHONE}", "correlation_id": f"call-{PHONE}", "function": f"fn {PHONE}", PHONE: {PHONE: 1}}
    console(api, json.dumps({**event, "voucher_id": PHONE, "level": PHONE, "n": 250788123456}))
    call = {"request.pathname": f"/functions/v1/{PHONE[1:]}", "request.method": f"GET {PHONE}"}
    api.log("function_edge_logs", "", None, **call, execution_id=PHONE)
    api.log("function_logs", "words", None, function_id=PHONE, level="info", event_type=PHONE)

    async def scenario() -> None:
        async with reading(api) as reader:
            lines = await reader.shown()
            assert sorted(line.event for line in lines) == ["call.+2507***456", "invocation", "runtime.+2507***456"]
            assert {line.function for line in lines} == {"fn +2507***456", "+2507***456", "25078***456"}
            assert "78812" not in json.dumps([line.json() for line in lines])

    asyncio.run(scenario())


def test_what_only_looks_like_one_stays(api: ManagementApi) -> None:
    slug, number = "fn-250788123456", "0b0e7a4e-8b1c-4f5e-9f6d-123456789012"
    api.functions[slug] = Deployed({"id": number, "slug": slug, "version": 1, "status": "ACTIVE"}, {}, "")
    api.log("function_edge_logs", "", None, **{"request.pathname": f"/functions/v1/{slug}"}, execution_id=number)
    api.log("function_logs", ours("ai.one", correlation=number), None, function_id=number)

    async def scenario() -> None:
        async with reading(api) as reader:
            (called,) = await reader.shown(slugs=(slug,), event="invocation")
            assert (called.function, called.data["execution_id"]) == (slug, number)
            (line,) = await reader.shown(correlation_id=number)
            assert line.correlation_id == number

    asyncio.run(scenario())


@pytest.mark.parametrize("wanted", [f"call-{PHONE}", "call-+2507***456"])
def test_a_masked_correlation_id_is_found_as_it_was_sent_and_as_it_is_shown(api: ManagementApi, wanted: str) -> None:
    console(api, ours("ai.one", correlation=f"call-{PHONE}"))
    console(api, ours("ai.two", correlation="call-+250788999999"))

    async def scenario() -> None:
        async with reading(api) as reader:
            (line,) = await reader.shown(correlation_id=wanted)
            assert (line.event, line.correlation_id) == ("ai.one", "call-+2507***456")

    asyncio.run(scenario())


def test_every_filter_holds_for_what_is_shown(api: ManagementApi) -> None:
    now = datetime.now(UTC)
    console(api, ours("ai.one.error", 1, level="error"), now - timedelta(minutes=3))
    console(api, ours("ai.one.success", 2, correlation="it's \\other"), now - timedelta(minutes=2))
    console(api, "two speaks", now - timedelta(minutes=1), slug="ai-two")
    called(api, "ai-two", 500, now)

    async def scenario() -> None:
        async with reading(api) as reader:

            async def events(**wanted: Any) -> list[str]:
                return [line.event for line in await reader.shown(**wanted)]

            assert await events(slugs=("ai-two",)) == ["console", "invocation"]
            assert await events(slugs=("ai-nobody",)) == []
            assert await events(level="error") == ["ai.one.error", "invocation"]
            assert await events(event="ai.*.success") == ["ai.one.success"]
            assert await events(event="ai.one") == []
            assert await events(correlation_id="abc-123") == ["ai.one.error"]
            assert await events(correlation_id="it's \\other") == ["ai.one.success"]
            assert await events(grep='"number": 2') == ["ai.one.success"]
            assert await events(since=now - timedelta(seconds=90)) == ["console", "invocation"]
            assert await events(until=now - timedelta(seconds=150)) == ["ai.one.error"]
            assert await events(limit=1) == ["invocation"]

    asyncio.run(scenario())


def test_pages_of_a_thousand_follow_each_other_without_gap_or_duplicate(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "PAGE", 7)
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(30):  # many of the same millisecond: only the id tells them apart
        console(api, ours("ai.many", number), now - timedelta(seconds=number // 10))

    async def scenario() -> None:
        async with reading(api) as reader:
            lines = await reader.shown(limit=1000)
            assert sorted(line.data["number"] for line in lines) == list(range(30))
            assert [line.timestamp for line in lines] == sorted(line.timestamp for line in lines)
            assert len([each for each in api.requests if each[1] == LOGS]) == 5

    asyncio.run(scenario())


def test_a_long_time_is_asked_for_in_windows_of_a_day(api: ManagementApi) -> None:
    now = datetime.now(UTC)
    for days in (0, 1, 2, 3):
        console(api, ours("ai.daily", days), now - timedelta(days=days, seconds=1))

    async def scenario() -> None:
        async with reading(api) as reader:
            lines = await reader.shown(since=now - timedelta(days=2, hours=12))
            assert [line.data["number"] for line in lines] == [2, 1, 0]
            windows = [parse_qs(query) for _, path, query in api.requests if path == LOGS]
            assert len(windows) == 3
            for window in windows:
                begin, end = (datetime.fromisoformat(window[f"iso_timestamp_{name}"][0]) for name in ("start", "end"))
                assert end - begin <= timedelta(hours=24)

    asyncio.run(scenario())


def test_a_tail_shows_what_comes_late_once(api: ManagementApi) -> None:
    now = datetime.now(UTC)
    console(api, ours("ai.before", 0), now - timedelta(seconds=5))

    async def scenario() -> None:
        async with reading(api) as reader:
            stream = reader.tail(since=now - timedelta(hours=1))
            async with asyncio.timeout(30):
                assert (await anext(stream)).event == "ai.before"
                await asyncio.to_thread(console, api, ours("ai.new", 1))
                assert (await anext(stream)).event == "ai.new"
                await asyncio.to_thread(console, api, ours("ai.late", 2), now - timedelta(seconds=20))
                assert (await anext(stream)).event == "ai.late"
                await asyncio.to_thread(console, api, ours("ai.end", 3))
                assert (await anext(stream)).event == "ai.end"

    asyncio.run(scenario())


def test_a_tail_outlives_an_outage_and_says_so(api: ManagementApi) -> None:
    async def scenario() -> None:
        async with reading(api) as reader:
            stream = reader.tail()
            asked = 0

            def down(_method: str, path: str) -> Response | None:
                nonlocal asked
                asked += path == LOGS
                if path != LOGS or not 1 < asked <= 3:
                    return None
                return JSONResponse({"result": None, "error": {"code": 500, "message": "Backend error!"}})

            api.refuse = down
            waiting = asyncio.create_task(following(stream))
            async with asyncio.timeout(30):
                await eventually(lambda: asked >= 4)
                await asyncio.to_thread(console, api, ours("ai.after"))
                assert (await waiting).event == "ai.after"
            assert [said.partition("(")[0] for said in reader.said] == [
                "note: the logs cannot be read for now ",
                "note: the logs can be read again",
            ]
            assert "Backend error!" in reader.said[0]

    asyncio.run(scenario())


def test_a_burst_that_is_too_large_is_said(api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PAGE", 3)
    monkeypatch.setattr(logs, "PAGES", 2)

    async def scenario() -> None:
        async with reading(api) as reader:
            stream = reader.tail()
            now = datetime.now(UTC)
            waiting = asyncio.create_task(following(stream))
            # The first look at the logs is over: what comes now is for the tail's polls.
            await eventually(lambda: [path for _, path, _ in api.requests].count(LOGS) > 1)

            hold, empty = True, 0

            def held(_method: str, path: str) -> Response | None:
                nonlocal empty
                if path != LOGS or not hold:
                    return None
                empty += 1
                return JSONResponse({"result": [], "error": None})

            api.refuse = held
            # A poll that was under way before would see the first lines alone.
            await eventually(lambda: empty > 0)
            for number in range(10):
                await asyncio.to_thread(console, api, ours("ai.burst", number), now)
            hold = False
            async with asyncio.timeout(30):
                await waiting
            assert any("more than 6 lines at once" in said for said in reader.said)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", ["Unknown column", {"code": 400, "message": "Unknown column"}])
def test_an_error_inside_a_200_is_an_error(api: ManagementApi, error: object) -> None:
    api.refuse = lambda _method, path: JSONResponse({"result": None, "error": error}) if path == LOGS else None

    async def scenario() -> None:
        async with reading(api) as reader:
            with pytest.raises(Unavailable, match="Unknown column"):
                await reader.shown()

    asyncio.run(scenario())


def test_a_used_up_allowance_is_said(api: ManagementApi) -> None:
    api.refuse = lambda _method, path: JSONResponse({"message": "quota"}, 402) if path == LOGS else None

    async def scenario() -> None:
        async with reading(api) as reader:
            with pytest.raises(Unavailable, match="plan does not allow more"):
                await reader.shown()

    asyncio.run(scenario())
