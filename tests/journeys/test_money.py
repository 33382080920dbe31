"""Money over real sockets: many callers, two server processes, the books afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import psycopg

from agentops.incidents import kill_switch
from agentops.platforms.local import LocalPlatform
from agentops.settings import KNOWN_FLAGS
from tests.fakes.wire import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.fakes.serve import Served

PHONE = "+250788000000"
VOUCHERS, ATTEMPTS, CALLERS = 1_000, 10, 50
KILLS, BATCH, WRITERS = 200, 20, 12


def test_ten_thousand_redemptions_of_a_thousand_vouchers_succeed_a_thousand_times(served: Served) -> None:
    with psycopg.connect(served.database_url) as connection:
        rows = connection.execute(
            "insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number)"
            " select lpad(n::text, 5, '0'), 1000, %s, 'AI-' || n from generate_series(0, %s) n returning id",
            (PHONE, VOUCHERS - 1),
        ).fetchall()
    # The attempts on one voucher stand together, so that the callers meet on it.
    attempts = iter([str(row[0]) for row in rows for _ in range(ATTEMPTS)])
    statuses = asyncio.run(_redeem(served, attempts))
    assert statuses == {200: VOUCHERS, 409: VOUCHERS * (ATTEMPTS - 1)}
    with psycopg.connect(served.database_url) as connection:
        ledger = connection.execute("select count(*), count(distinct voucher_id) from agentops.ledger").fetchone()
        redeemed = connection.execute("select count(*) from vouchers where status = 'redeemed'").fetchone()
    assert ledger == (VOUCHERS, VOUCHERS)
    assert redeemed == (VOUCHERS,)


async def _redeem(served: Served, attempts: Any) -> Counter[int]:
    async def caller() -> Counter[int]:
        statuses: Counter[int] = Counter()
        connection = await Caller.to(served.url, served.authorization)
        for voucher in attempts:
            body = {"voucher_id": voucher, "customer_msisdn": PHONE}
            statuses[(await connection.post("/functions/v1/ai-redeem-voucher", body))[0]] += 1
        connection.close()
        return statuses

    return sum(await asyncio.gather(*(caller() for _ in range(CALLERS))), Counter())


def test_no_voucher_commits_after_a_kill_switch_has_returned(served: Served, tmp_path: Path) -> None:
    quiet, refused = asyncio.run(_kill_again_and_again(served, tmp_path, _with_barrier, KILLS))
    assert _late(served, quiet) == 0
    # A run in which nothing was written, or nothing refused, would prove nothing.
    assert len(quiet) == KILLS
    assert refused > KILLS


def test_without_the_barrier_vouchers_commit_late_so_the_test_above_can_fail(served: Served, tmp_path: Path) -> None:
    for _ in range(0, KILLS, BATCH):
        quiet, _ = asyncio.run(_kill_again_and_again(served, tmp_path, _flags_alone, BATCH))
        if _late(served, quiet):
            return
    raise AssertionError("no late commit was seen: the load is too weak to prove anything")


def _late(served: Served, quiet: list[tuple[Any, Any]]) -> int:
    """How many vouchers were committed, by PostgreSQL's own record, in a time in which none may."""
    statement = "select pg_xact_commit_timestamp(xmin) from agentops.ledger where kind = 'issue'"
    with psycopg.connect(served.database_url) as connection:
        commits = [row[0] for row in connection.execute(statement)]
    return sum(any(begin < at < end for begin, end in quiet) for at in commits)


async def _with_barrier(platform: LocalPlatform) -> int:
    names = list(KNOWN_FLAGS.values())
    killed = await kill_switch.press(platform, "test", names, reason="drill", actor="tester@here")
    assert killed.unconfirmed == []
    assert killed.incident is not None
    return killed.incident


async def _flags_alone(platform: LocalPlatform) -> int:
    """The known-bad kill switch: commits the flags, and does not wait for the money under way."""
    statement = kill_switch._SQL["press"]
    parameters = {"names": list(KNOWN_FLAGS.values()), "reason": "drill", "actor": "tester@here"}
    return int((await platform.query(statement, parameters))[0]["id"])


async def _kill_again_and_again(
    served: Served, home: Path, kill: Callable[[LocalPlatform], Awaitable[int]], times: int
) -> tuple[list[tuple[Any, Any]], int]:
    """Kill and restore under load; the times in which nothing may commit, and how many requests were refused."""
    platform = await LocalPlatform.open(served.database_url, label="test", actor="tester@here", home=home)
    quiet, over = [], asyncio.Event()
    load = asyncio.create_task(_create_until(served, over))
    try:
        for _ in range(times):
            incident = await kill(platform)
            begin = await _clock(platform)
            # Requests that were under way when it returned have this long to do harm.
            await asyncio.sleep(0.005)
            quiet.append((begin, await _clock(platform)))
            await kill_switch.restore(platform, "test", incident, actor="tester@here")
            await _until_something_commits(platform)
    finally:
        over.set()
        refused = await load
        await platform.close()
    return quiet, refused


async def _clock(platform: LocalPlatform) -> Any:
    return (await platform.query("select clock_timestamp() as now"))[0]["now"]


async def _until_something_commits(platform: LocalPlatform) -> None:
    """The next kill meets writers at work, not servers that have not heard of the restoring yet."""
    count = "select count(*) as n from agentops.ledger"
    before, deadline = (await platform.query(count))[0]["n"], time.monotonic() + 10
    while (await platform.query(count))[0]["n"] == before:
        assert time.monotonic() < deadline, "no voucher was made after flags were restored"
        await asyncio.sleep(0.001)


async def _create_until(served: Served, over: asyncio.Event) -> int:
    async def writer() -> int:
        refused = 0
        connection = await Caller.to(served.url, served.authorization)
        while not over.is_set():
            body = {"customer_msisdn": PHONE, "amount": 100}
            status, answer = await connection.post("/functions/v1/ai-create-voucher", body)
            # On a busy machine a money transaction may run into its own bound; then nothing was written.
            assert status in {200, 403, 503}, answer
            refused += status == HTTPStatus.FORBIDDEN
        connection.close()
        return refused

    return sum(await asyncio.gather(*(writer() for _ in range(WRITERS))))
