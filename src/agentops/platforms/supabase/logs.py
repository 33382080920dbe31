"""A project's logs: console lines and invocations of its functions, merged by time.

    show: newest pages backwards through windows of 24 h          tail: one query every 10 s, with 60 s of overlap
    row of function_logs      → our JSON line, or any console line as event `console`
    row of function_edge_logs → event `invocation` (by path, so that 429 and 5xx show)

Functions of one's own may print anything, in any field: what looks like a phone number is masked here too.

The stream is late by seconds to minutes, so a follower looks back and forgets nothing it has shown. An error of the
query comes in a 200. SQL is ClickHouse's; times are given beside it, always both.

Source: https://supabase.com/docs/guides/telemetry/logs
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agentops.errors import Unavailable
from agentops.events import LEVELS
from agentops.platforms import LogLine
from agentops.platforms.supabase import deployments
from agentops.redact import scrub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agentops.platforms import LogFilter
    from agentops.platforms.supabase.management import Management

    Row = dict[str, Any]

PATH = "/analytics/endpoints/logs"
PAGE = 1000
# Windows are rounded to the minute: one less than a day survives it.
WINDOW = timedelta(minutes=1439)
POLL_SECONDS = 10.0
OVERLAP = timedelta(seconds=60)
PAGES = 5
REMEMBERED = 20_000
_LATE_SECONDS = 120


async def stream(
    api: Management,
    wanted: LogFilter,
    *,
    limit: int,
    follow: bool,
    gap: Callable[[str], None],
    poll_seconds: float = POLL_SECONDS,
) -> AsyncIterator[LogLine]:
    """The newest `limit` matches in time order; with `follow`, then new ones as they come in.

    Without a begin the last 24 hours are looked through. `gap` is told what a reader should know of the stream.
    """
    slugs = {row["id"]: slug for slug, row in (await deployments.rows(api)).items()}
    reader = _Reader(api, wanted, slugs, gap)
    end = wanted.until or datetime.now(UTC)
    newest: list[Row] = []
    async for row in reader.backwards(wanted.since or end - WINDOW, end):
        newest.append(row)
        if len(newest) >= limit:
            break
    for row in reversed(newest):
        yield _line(row, slugs)
    if follow:
        async for row in reader.forwards(newest, end, poll_seconds):
            yield _line(row, slugs)


@dataclass(frozen=True, slots=True)
class _Reader:
    """One reader of the stream; `slugs` are the functions by id."""

    api: Management
    wanted: LogFilter
    slugs: Mapping[str, str]
    gap: Callable[[str], None]

    async def backwards(self, begin: datetime, end: datetime) -> AsyncIterator[Row]:
        """Matching rows from `end` back to `begin`, newest first, window by window and page by page."""
        while end > begin:
            start = max(begin, end - WINDOW)
            cursor: Row | None = None
            while True:
                page = await self._page(start, end, before=cursor)
                for row in page:
                    if begin <= _time(row) <= end and self._matches(row):
                        yield row
                if len(page) < PAGE:
                    break
                cursor = page[-1]
            # Bounds are inclusive, and so is the window's begin.
            end = start - timedelta(milliseconds=1)

    async def forwards(self, shown: Sequence[Row], since: datetime, poll_seconds: float) -> AsyncIterator[Row]:
        """New matching rows as they come in; one that comes late, within the overlap, is shown, each once."""
        seen: OrderedDict[str, None] = OrderedDict((row["id"], None) for row in reversed(shown))
        latest, broken, late = since, False, False
        while True:
            await asyncio.sleep(poll_seconds)
            now = datetime.now(UTC)
            try:
                fresh, more = await self._fresh(max(latest - OVERLAP, now - WINDOW), now, seen)
            except Unavailable as failure:
                if not broken:
                    self.gap(f"note: the logs cannot be read for now ({failure.message}); going on when they can")
                broken = True
                continue
            if broken:
                self.gap("note: the logs can be read again")
            if more:
                self.gap(f"note: more than {PAGE * PAGES:,} lines at once: the oldest of them are not shown")
            broken = False
            for row in reversed(fresh):
                seen[row["id"]] = None
                latest = max(latest, _time(row))
                if self._matches(row):
                    yield row
            while len(seen) > REMEMBERED:
                seen.popitem(last=False)
            behind = (now - latest).total_seconds()
            if fresh and behind > _LATE_SECONDS and not late:
                self.gap(f"note: Supabase's logs are {behind:.0f} s behind")
            late = bool(fresh) and behind > _LATE_SECONDS

    async def _fresh(self, begin: datetime, end: datetime, seen: Mapping[str, None]) -> tuple[list[Row], bool]:
        """Rows that were not seen yet, newest first, and whether there were more than a poll takes."""
        fresh: list[Row] = []
        cursor: Row | None = None
        for _ in range(PAGES):
            page = await self._page(begin, end, before=cursor)
            new = [row for row in page if row["id"] not in seen and _time(row) >= begin]
            fresh += new
            if len(page) < PAGE or not new:
                return fresh, False
            cursor = page[-1]
        return fresh, True

    async def _page(self, begin: datetime, end: datetime, *, before: Row | None) -> list[Row]:
        window = {"iso_timestamp_start": _iso(begin, up=False), "iso_timestamp_end": _iso(end, up=True)}
        answer = await self.api.get(PATH, {"sql": self._statement(before), **window})
        match answer:
            case {"error": error} if error:
                words = error if isinstance(error, str) else error.get("message") if isinstance(error, dict) else None
                raise Unavailable(f"Supabase's logs answer: {' '.join(str(words or error).split())[:300]}", "try again")
            case {"result": [*rows]}:
                return [row for row in rows if isinstance(row, dict) and {"id", "ts_ms"} <= row.keys()]
        return []

    def _statement(self, before: Row | None) -> str:
        """One query over both sources, newest first. Every value in it is quoted by `_quoted`, or a number."""
        wanted = self.wanted
        console, calls = ["source = 'function_logs'"], ["source = 'function_edge_logs'"]
        if wanted.slugs:
            ids = ", ".join(_quoted(number) for number, slug in self.slugs.items() if slug in wanted.slugs) or "''"
            console.append(f"log_attributes['function_id'] in ({ids})")
            paths = "|".join(re.escape(slug).replace("\\-", "-") for slug in wanted.slugs)
            calls.append(f"match(log_attributes['request.pathname'], {_quoted(f'^/functions/v1/({paths})(/|$)')})")
        where = [f"(({' and '.join(console)}) or ({' and '.join(calls)}))"]
        # A first sieve only: the program looks at the parsed line again.
        # As it was shown: the stream has what the mask stands for.
        masked = wanted.correlation_id is not None and "***" in wanted.correlation_id
        if wanted.correlation_id and wanted.correlation_id.isascii() and not masked:
            where.append(_holds(wanted.correlation_id))
        if wanted.customers:
            where.append(f"({' or '.join(map(_holds, wanted.customers))})")
        if before is not None:
            stamp, at, key = "toUnixTimestamp64Milli(timestamp)", int(before["ts_ms"]), _quoted(str(before["id"]))
            where.append(f"({stamp} < {at} or ({stamp} = {at} and id < {key}))")
        fields = "id, toUnixTimestamp64Milli(timestamp) as ts_ms, source, event_message, severity_text, log_attributes"
        conditions = " and ".join(where)
        return f"select {fields} from logs where {conditions} order by ts_ms desc, id desc limit {PAGE}"  # noqa: S608

    def _matches(self, row: Row) -> bool:
        line, wanted = _line(row, self.slugs), self.wanted
        pattern = re.escape(wanted.event).replace(r"\*", ".*") if wanted.event is not None else None
        conditions = (
            not wanted.slugs or line.function in wanted.slugs,
            wanted.level is None or LEVELS.index(line.level) >= LEVELS.index(wanted.level),
            pattern is None or re.fullmatch(pattern, line.event, re.DOTALL) is not None,
            wanted.correlation_id is None or line.correlation_id == _clean(wanted.correlation_id),
            wanted.grep is None or wanted.grep in json.dumps(line.json(), ensure_ascii=False),
            wanted.since is None or line.timestamp >= wanted.since,
            wanted.until is None or line.timestamp < wanted.until,
            not wanted.customers or not _named(line).isdisjoint(wanted.customers),
        )
        return all(conditions)


def _iso(at: datetime, *, up: bool) -> str:
    whole = at.astimezone(UTC).replace(second=0, microsecond=0)
    return (whole + timedelta(minutes=1) if up else whole).strftime("%Y-%m-%dT%H:%M:%SZ")


def _holds(text: str) -> str:
    """The condition that a row's text holds this one, in whatever case."""
    return f"positionCaseInsensitiveUTF8(event_message, {_quoted(text)}) > 0"


def _named(line: LogLine) -> set[str]:
    """The pseudonyms of all customers that an event names."""
    several = line.data.get("customers")
    found = [line.data.get("customer"), line.data.get("about"), *(several if isinstance(several, list) else [])]
    return {each for each in found if isinstance(each, str)}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _time(row: Row) -> datetime:
    return datetime.fromtimestamp(int(row["ts_ms"]) / 1000, UTC)


def _line(row: Row, slugs: Mapping[str, str]) -> LogLine:
    attributes = row.get("log_attributes") or {}
    if row.get("source") == "function_edge_logs":
        return _invocation(row, attributes, slugs)
    number = str(attributes.get("function_id", ""))
    slug = slugs.get(number) or _clean(number)
    text = str(row.get("event_message") or "").rstrip("\n")
    ours = _ours(text)
    if ours is not None:
        level = _level(ours.pop("level", ""))
        event, correlation = (_clean(ours.pop(name, "")) for name in ("event", "correlation_id"))
        function = _named_function(str(ours.pop("function", "")), slugs)
        ours.pop("timestamp", None)
        data = {_clean(name): scrub(item) for name, item in ours.items()}
        return LogLine(_time(row), level, event, correlation, function, data)
    kind = attributes.get("event_type") or "Log"
    event = "console" if kind == "Log" else f"runtime.{_clean(kind).lower()}"
    return LogLine(_time(row), _level(attributes.get("level", "")), event, "", slug, {"message": _clean(text)})


def _invocation(row: Row, attributes: Mapping[str, Any], slugs: Mapping[str, str]) -> LogLine:
    status = _number(attributes.get("response.status_code"))
    path = str(attributes.get("request.pathname", ""))
    level = "error" if (status or 0) >= 500 else "warning" if (status or 0) >= 400 else "info"  # noqa: PLR2004 - HTTP's classes
    # What the row does not say is unknown; the stream itself knows texts only.
    data = {
        "method": _clean(attributes.get("request.method") or "") or None,
        "status": status,
        "latency_ms": _number(attributes.get("execution_time_ms")),
        "execution_id": _clean(attributes.get("execution_id") or "") or None,
    }
    slug = _named_function(path.removeprefix("/functions/v1/").partition("/")[0], slugs)
    return LogLine(_time(row), level, "invocation", "", slug, data)


def _named_function(text: str, slugs: Mapping[str, str]) -> str:
    """A function's name; what is none may be anything."""
    return text if text in slugs.values() else _clean(text)


def _clean(text: object) -> str:
    return str(scrub(str(text)))


def _number(text: object) -> int | float | None:
    """The number that a text holds; None where it holds none."""
    try:
        number = float(str(text))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def _ours(text: str) -> dict[str, Any] | None:
    """A console line that is an event of ours."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def _level(text: object) -> str:
    word = str(text).lower()
    word = {"warn": "warning", "fatal": "error", "log": "info"}.get(word, word)
    return word if word in LEVELS else "info"
