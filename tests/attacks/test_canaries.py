"""Customers whose every trace is recognised write, in every form and failure; then all that is told is searched.

canaries → webhook → worker → tools → reply, libraries at DEBUG ─→ output, logs, incidents, audit, downloads: none
100 planted leaks ─→ `agentops logs scan` ─→ 100 found, by place and field
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from psycopg import sql

from agentops.server import keys
from tests.fakes.campaign import SECRETS
from tests.fakes.canaries import Person, found, people
from tests.fakes.gossip import FAILURES, Gossip, defective_webhook
from tests.fakes.providers import serving as scripted
from tests.fakes.renderings import RENDERINGS
from tests.fakes.serve import Served, serving, surroundings
from tests.fakes.serve_variant import PROGRAM, variant
from tests.fakes.servers import operator
from tests.fakes.stacks import ALL_ON
from tests.fakes.whatsapp import payload, signed, text, wamid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.conftest import StackKeys

LEAKS, STUCK_SECONDS = 100, 120.0
TABLES = ("logs", "audit", "incidents", "servers")
SLUGS = ("ai-whatsapp-webhook", "ai-create-voucher", "ai-lookup-customer", "ai-void-voucher", "ai-redeem-voucher")
TOOLS = SLUGS[1:]
DEBUG = {"OPENAI_LOG": "debug"}
# Of all that went wrong and right, something is told.
EXPECTED = {
    *(
        f"ai.log.{name}"
        for name in ("httpcore.http11", "openai._base_client", "asyncio", "some.library", "py.warnings")
    ),
    *(f"ai.whatsapp.{name}" for name in ("send.error", "message.error", "send.success", "webhook.exception")),
    *("ai.process.error", "ai.tool.create_voucher.success", "ai.tool.void_voucher.error"),
}
_ROWS = sql.SQL("select to_jsonb(t)::text from {} t")
_EVENT = re.compile(r'"event": ?"([^"]+)"')
_PLANT = """
insert into agentops.logs (at, level, event, correlation_id, function, data)
values (now(), 'info', %(event)s, %(correlation_id)s, %(function)s, %(data)s::jsonb) returning id
"""


@dataclass(frozen=True)
class Run:
    """All that was told, line by line; the scan before and after leaks were planted, and their rows and fields."""

    told: list[str]
    clean: CompletedProcess[str]
    scanned: CompletedProcess[str]
    planted: set[tuple[int, str]]

    @property
    def hits(self) -> list[str]:
        return [f"{hit}: {line[:600]}" for line in self.told for hit in found(line)]


def run(address: str, stack_keys: StackKeys, folder: Path, count: int, *variants: str) -> Run:
    """The conversations of `count` customers with a stack whose libraries tell everything."""
    defective_webhook(folder)
    asyncio.run(_settle(address))
    crowd = people(count)
    with scripted(Gossip()) as providers:
        more = {**providers.environment, **DEBUG, **variant("quick", "debug", *variants)}
        environment = surroundings(address, folder, stack_keys.private, **more)
        with serving(environment, folder, options=(), program=PROGRAM) as process:
            served = Served(process.url, address, asyncio.run(_keys(address, stack_keys)), environment)
            asyncio.run(_live(served, crowd))
            _await_quiet(served)
            assert len({each["to"] for each in providers.sent}) > count * 2 // 3, "they were answered"
            told = list(_told(served, folder))
            clean = served.run("logs", "scan", "--json")
            planted = _plant(served, crowd)
            scanned = served.run("logs", "scan", "--json")
            told += _incident(served, scanned)
        return Run(told + process.log.read_text().splitlines(), clean, scanned, planted)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_nothing_of_any_customer_is_told_and_what_is_planted_is_found(
    database_url: str, stack_keys: StackKeys, tmp_path: Path, count: int
) -> None:
    done = run(database_url, stack_keys, tmp_path, count)
    events = {each[1] for line in done.told if (each := _EVENT.search(line))}
    assert events >= EXPECTED, f"a run in which nothing went wrong proves nothing: {sorted(EXPECTED - events)}"
    assert len(done.told) > 20 * count
    assert done.hits == [], f"{len(done.hits)} hits in {len(done.told)} lines"
    assert (done.clean.returncode, json.loads(done.clean.stdout)) == (0, []), done.clean.stderr
    assert done.scanned.returncode == 3, done.scanned.stderr
    assert {(each["log_id"], each["field"]) for each in json.loads(done.scanned.stdout)} == done.planted


@pytest.mark.long
def test_without_redaction_the_same_run_finds_customers_everywhere(
    database_url: str, stack_keys: StackKeys, tmp_path: Path
) -> None:
    done = run(database_url, stack_keys, tmp_path, 40, "unscrubbed")
    assert len(done.hits) > 40
    assert len(json.loads(done.clean.stdout)) > 10, "the scan finds what slipped through"


@pytest.mark.parametrize("person", people(len(RENDERINGS)), ids=lambda each: each.rendering)
def test_each_form_of_a_canary_is_recognised(person: Person) -> None:
    for line in (person.number, f"to {person.number} failed", json.dumps({"a": person.said()}), repr(person.said())):
        assert found(line), line
    assert found(person.said().replace(person.number, ""))


def test_a_line_of_nobody_is_silent() -> None:
    line = {"at": "2026-11-23T17:25:09.679Z", "id": str(uuid.UUID(int=7890123457890123)), "to": "+2507***004"}
    assert found(json.dumps({**line, "seconds": 1.789012345, "n": 789012345678, "hash": "ab789012345"})) == []


async def _settle(address: str) -> None:
    async with operator(address) as platform:
        await platform.set_secrets({**SECRETS, **dict.fromkeys(ALL_ON, "true")}, check=False)


async def _keys(address: str, stack_keys: StackKeys) -> dict[str, str]:
    async with operator(address) as platform:
        return {"service_role_key": (await keys.shown(platform, stack_keys.private))[keys.SERVICE]}


async def _live(served: Served, crowd: list[Person]) -> None:
    """Each customer's conversation, and what surrounds it: forged deliveries, statuses, operators' calls."""
    work = iter(enumerate(crowd))

    async def visitor() -> None:
        async with httpx.AsyncClient(base_url=f"{served.url}/functions/v1", timeout=60, trust_env=False) as client:
            for place, person in work:
                await _converse(client, served, person, _mark(place))

    await asyncio.gather(*(visitor() for _ in range(8)))


def _mark(place: int) -> int:
    """What goes wrong in a conversation. Trouble with the model is rarer: its breaker would keep the others from it."""
    mark = place % len(FAILURES)
    return mark if place < len(FAILURES) or place % 4 == 0 or not FAILURES[mark].startswith("model") else 1


async def _converse(client: httpx.AsyncClient, served: Served, person: Person, mark: int) -> None:
    contacts = [{"profile": {"name": person.name}, "wa_id": person.digits}]
    said = text(person.said(f"mark-{mark} "), person.phone, wamid(person.phone))
    await _deliver(client, payload(said, contacts=contacts), 200)
    if FAILURES[mark] != "nonsense":
        return
    # Forged, broken and odd deliveries; what Meta tells of a reply; direct calls.
    headers = {"x-correlation-id": person.digits, "x-hub-signature-256": f"sha256={person.number!a}"}
    await client.post(f"/ai-whatsapp-webhook?from={person.digits}", json=payload(said), headers=headers)
    await _deliver(client, json.dumps(payload(said)).encode()[:-1], 400)
    error = {"code": 131026, "title": person.said(), "message": person.number, "error_data": {"details": person.name}}
    odd = {"id": said["id"], "status": "failed", "recipient_id": person.digits, "errors": [error]}
    await _deliver(client, payload(statuses=[odd], errors=[error], contacts=contacts), 200)
    await _deliver(client, payload({**said, "id": person.said(), "type": person.said()}, contacts=contacts), 200)
    await _deliver(client, {person.phone: person.name, "entry": [{"changes": [{"field": person.said()}]}]}, 200)
    for slug in TOOLS:
        body = dict.fromkeys(("msisdn", "customer_msisdn", "voucher_id", "amount", "reason"), person.said())
        kept = {"x-correlation-id": person.digits, "idempotency-key": person.digits}
        await client.post(f"/{slug}", json={**body, "msisdn": person.phone}, headers=served.authorization | kept)
        await client.post(f"/{slug}?q={person.digits}", content=person.said().encode(), headers=served.authorization)
    await client.get(f"/{person.digits}")


async def _deliver(client: httpx.AsyncClient, content: object, status: int) -> None:
    request = signed(content)
    answer = await client.post("/ai-whatsapp-webhook", content=request.body, headers=dict(request.headers))
    assert answer.status_code == status, answer.text


def _await_quiet(served: Served) -> None:
    """Until no message waits; something must become less all the time."""
    least, deadline = 10**9, 0.0
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        while True:
            [[left]] = connection.execute("select count(*) from agentops.inbox where state = 'queued'").fetchall()
            if left < least:
                least, deadline = left, time.monotonic() + STUCK_SECONDS
            if not left:
                break
            assert time.monotonic() < deadline, f"{left} messages still wait"
            time.sleep(0.2)
    time.sleep(0.5)  # the last events are stored every 100 ms


def _told(served: Served, folder: Path) -> Iterator[str]:
    """Stored rows, downloads, and what the commands show."""
    with psycopg.connect(served.database_url) as connection:
        for table in TABLES:
            for (row,) in connection.execute(_ROWS.format(sql.Identifier("agentops", table))).fetchall():
                yield row
    for slug in SLUGS[:2]:
        file = folder / f"{slug}.jsonl"
        served.json("logs", "download", slug, "-o", str(file), "--limit", "1000000")
        yield from file.read_text().splitlines()


def _plant(served: Served, crowd: list[Person]) -> set[tuple[int, str]]:
    """A hundred leaks in all renderings and fields; the row and field of each."""
    chance = random.Random(11)  # noqa: S311 - the same leaks every time
    planted = set()
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        for number, person in zip(range(LEAKS), [*crowd, *crowd, *crowd], strict=False):
            name = list(RENDERINGS)[number % len(RENDERINGS)]
            field, row = _leaking(RENDERINGS[name](person.digits), chance)
            [[log_id]] = connection.execute(_PLANT, row).fetchall()
            planted.add((log_id, field))
    return planted


def _leaking(written: object, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A log row that leaks `written`, and the field in which it does."""
    row = {"event": "ai.e", "correlation_id": str(uuid.uuid4()), "function": "ai-create-voucher"}
    sentence = chance.choice(("{}", "to {} failed", "[{}]", "id {}, 200 OK", "{}."))
    leak = written if isinstance(written, int) else sentence.format(written)
    places: list[tuple[str, dict[str, object]]] = [
        ("data.error", {"error": leak}),
        ("data.a.b[1]", {"a": {"b": ["x", leak]}}),
        ("data.[1](key)", {"ok": 1, str(leak): "x"}),
        ("data.deep[0][0].k", {"deep": [[{"k": leak}]]}),
    ]
    field, data = chance.choice(places)
    if isinstance(leak, str) and chance.random() < 0.4:
        field, data = chance.choice(list(row)), {}
        row[field] = leak
    return field, {**row, "data": json.dumps(data)}


def _incident(served: Served, scanned: CompletedProcess[str]) -> list[str]:
    """What is told of the leaks: the incident, its timeline, the scan's own words, with their values nowhere."""
    with psycopg.connect(served.database_url) as connection:
        query = "select id::text from agentops.incidents where kind = 'pii-leak' and status = 'open'"
        [[number]] = connection.execute(query).fetchall()
        tables = [sql.Identifier("agentops", each) for each in ("incidents", "audit")]
        rows = [row for table in tables for (row,) in connection.execute(_ROWS.format(table)).fetchall()]
    shown = served.run("incident", "show", number)
    assert "pii-leak" in shown.stdout
    assert sum(row.count('"log_id"') for row in rows) >= LEAKS
    return [line for each in (scanned.stdout, scanned.stderr, shown.stdout, *rows) for line in each.splitlines()]
