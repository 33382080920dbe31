"""Processes and PostgreSQL are killed at any moment; afterwards the books and the customers' phones are asked."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from agentops import embedded
from tests.attacks.conftest import Attacked, attackable
from tests.fakes.whatsapp import payload, signed, text

if TYPE_CHECKING:
    from collections.abc import Iterator

PHONE = "+250788000001"
VOUCHERS, CALLERS, WEB_KILLS, DATABASE_KILLS = 300, 10, 10, 4
MESSAGES, SENDERS, WORKER_KILLS = 200, 40, 8


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Attacked]:
    """A stack on a PostgreSQL of its own, which may be killed."""
    url = embedded.attach(tmp_path / "state").url
    try:
        with attackable(url, tmp_path) as running:
            yield running
    finally:
        embedded.remove(tmp_path / "state")


@pytest.mark.long
def test_money_that_was_acknowledged_survives_every_crash_and_nothing_is_doubled(crashing: Attacked) -> None:
    with psycopg.connect(crashing.database_url) as connection:
        rows = connection.execute(
            "insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number)"
            " select lpad(n::text, 5, '0'), 1000, %s, 'AI-' || n from generate_series(0, %s) n returning id::text",
            (PHONE, VOUCHERS - 1),
        ).fetchall()
    answers, kills = asyncio.run(_redeem_under_fire(crashing, [row[0] for row in rows]))
    assert kills["web"] >= WEB_KILLS // 2
    assert kills["database"] == DATABASE_KILLS
    won = Counter(voucher for (voucher, _), status in answers.items() if status == 200)
    assert set(answers.values()) == {200, 409}
    assert len(answers) == 2 * VOUCHERS
    assert (len(won), max(won.values())) == (VOUCHERS, 1)
    with psycopg.connect(crashing.database_url) as connection:
        books = connection.execute(
            "select count(*), count(distinct voucher_id) from agentops.ledger where kind = 'redeem'"
        ).fetchone()
        redeemed = connection.execute("select count(*) from vouchers where status = 'redeemed'").fetchone()
    assert books == (VOUCHERS, VOUCHERS)
    assert redeemed == (VOUCHERS,)
    home = Path(crashing.environment["AGENTOPS_HOME"])
    assert [kept for kept in (home, *home.rglob("*")) if kept.lstat().st_mode & 0o077 and not kept.is_symlink()] == []


async def _redeem_under_fire(
    attacked: Attacked, vouchers: list[str]
) -> tuple[dict[tuple[str, str], int], Counter[str]]:
    """Two callers want each voucher, each under a key of their own, and ask until they are told."""
    answers: dict[tuple[str, str], int] = {}
    work = iter([(voucher, side) for voucher in vouchers for side in "ab"])
    over = asyncio.Event()

    async def caller() -> None:
        async with httpx.AsyncClient(timeout=10, headers=attacked.authorization) as client:
            for voucher, side in work:
                body = {"voucher_id": voucher, "customer_msisdn": PHONE}
                deadline = time.monotonic() + 60
                while (voucher, side) not in answers and time.monotonic() < deadline:
                    with suppress(httpx.TransportError):
                        answer = await client.post(
                            f"{attacked.url}/functions/v1/ai-redeem-voucher",
                            json=body,
                            headers={"idempotency-key": f"{voucher}-{side}"},
                        )
                        if answer.status_code != 503:
                            answers[voucher, side] = answer.status_code
                            # An answer that is lost on the way is asked for again: it must be the same.
                            again = await _again(client, attacked, body, f"{voucher}-{side}")
                            assert again in {answer.status_code, 503, None}, (answer.text, again)
                    await asyncio.sleep(0.02)

    shooting = asyncio.create_task(_shoot(attacked, over))
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    over.set()
    return answers, await shooting


async def _again(client: httpx.AsyncClient, attacked: Attacked, body: dict[str, str], key: str) -> int | None:
    try:
        answer = await client.post(
            f"{attacked.url}/functions/v1/ai-redeem-voucher", json=body, headers={"idempotency-key": key}
        )
    except httpx.TransportError:
        return None
    return answer.status_code


async def _shoot(attacked: Attacked, over: asyncio.Event) -> Counter[str]:
    kills: Counter[str] = Counter()
    plan = ["web"] * WEB_KILLS + ["database"] * DATABASE_KILLS
    random.Random(7).shuffle(plan)  # noqa: S311 - the same plan every time
    for target in plan:
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 0.4)
        with suppress(psycopg.Error, ProcessLookupError):
            os.kill(*await asyncio.to_thread(_victim, attacked, target))
            kills[target] += 1
    return kills


def _victim(attacked: Attacked, target: str) -> tuple[int, signal.Signals]:
    deadline = time.monotonic() + 10
    while True:
        try:
            with psycopg.connect(attacked.database_url, connect_timeout=3) as connection:
                if target == "database":
                    [[found]] = connection.execute("select pg_read_file('postmaster.pid', 0, 12)").fetchall()
                    return int(found.split()[0]), signal.SIGQUIT
                rows = connection.execute(
                    "select pid from agentops.servers where role = %s order by heartbeat_at desc", (target,)
                ).fetchall()
                # A row outlives its process by some seconds.
                alive = [pid for (pid,) in rows if Path(f"/proc/{pid}/cmdline").exists()]
                return alive[0], signal.SIGKILL
        except (psycopg.OperationalError, IndexError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.long
def test_every_message_is_answered_once_although_workers_are_killed_at_random(crashing: Attacked) -> None:
    kills = asyncio.run(_deliver_under_fire(crashing))
    _await_empty(crashing, 120)
    sent = Counter(each["biz_opaque_callback_data"] for each in crashing.providers.sent)
    with psycopg.connect(crashing.database_url) as connection:
        rows = connection.execute(
            "select i.state, o.state, o.id::text from agentops.inbox i left join agentops.outbox o on o.inbox_id = i.id"
        ).fetchall()
    assert kills >= WORKER_KILLS // 2
    assert len(rows) == MESSAGES
    assert max(sent.values()) == 1
    assert {(inbox, outbox) for inbox, outbox, _ in rows} <= {("done", "sent"), ("done", "uncertain")}
    lost = [row for row in rows if row[1] == "sent" and row[2] not in sent]
    assert lost == []
    uncertain = [row for row in rows if row[1] == "uncertain"]
    # One is under way for each worker lane at most when it is killed.
    assert len(uncertain) <= kills * 16
    assert len(sent) + len([row for row in uncertain if row[2] not in sent]) == MESSAGES


async def _deliver_under_fire(attacked: Attacked) -> int:
    over = asyncio.Event()
    address = f"{attacked.url}/functions/v1/ai-whatsapp-webhook"

    async def killer() -> int:
        kills = 0
        for _ in range(WORKER_KILLS):
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), random.Random(kills).uniform(0.2, 2.5))  # noqa: S311 - as above
            with suppress(psycopg.Error, ProcessLookupError, IndexError):
                os.kill(*await asyncio.to_thread(_victim, attacked, "worker"))
                kills += 1
        return kills

    killing = asyncio.create_task(killer())
    async with httpx.AsyncClient(timeout=20) as client:
        for number in range(MESSAGES):
            sender = f"+2507880{number % SENDERS:05d}"
            request = signed(payload(text("hello", sender, f"wamid.{uuid.uuid4().hex}")))
            both = [client.post(address, content=request.body, headers=dict(request.headers)) for _ in range(2)]
            assert [answer.status_code for answer in await asyncio.gather(*both)] == [200, 200]
            await asyncio.sleep(0.02)
    return await killing


def _await_empty(attacked: Attacked, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with psycopg.connect(attacked.database_url) as connection:
            [[left]] = connection.execute("select count(*) from agentops.inbox where state = 'queued'").fetchall()
        if not left:
            return
        assert time.monotonic() < deadline, f"{left} messages still wait"
        time.sleep(0.5)
