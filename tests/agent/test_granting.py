"""Limits are never gone over by one unit, and what is above the threshold waits for somebody else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentops.agent import granting
from agentops.agent.tools import Principal, tool
from agentops.errors import Conflict, NotAuthorised, NotFound
from agentops.settings import VOUCHERS
from agentops.store import limits
from tests.fakes.creators import AMOUNT
from tests.fakes.stacks import open_stack, recorded, set_flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from agentops.stack import Stack

PHONE, OTHER = "+250788000001", "+250788000002"
OPERATOR = Principal("http", "service_role", operator=True)
CUSTOMER = Principal("chat", "customer 1", PHONE)
STAFF = Principal("chat", "staff 2", OTHER, staff=True)
VOICE = Principal("voice", "voice", operator=True)
FREE: dict[str, int | None] = {
    "voucher-max": None, "customer-day-count": None, "customer-day-sum": None, "day-count": None, "day-sum": None,
}  # fmt: skip
ROOT = Path(__file__).parents[2]


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]], size: int = 8) -> None:
    async def run() -> None:
        async with open_stack(url, size=size) as stack:
            await act(stack)

    asyncio.run(run())


async def limit(stack: Stack, **values: int | None) -> None:
    named = {name.replace("_", "-"): value for name, value in values.items()}
    await limits.change(stack.database, {**FREE, **named}, [], "tests")


async def create(stack: Stack, amount: int, principal: Principal = CUSTOMER, **more: Any) -> Any:
    key = more.pop("key", None)
    arguments = {"amount": amount, **more}
    if principal.phone is None:
        arguments.setdefault("customer_msisdn", PHONE)
    return await tool("create_voucher").call(arguments, principal, stack, correlation_id="c-1", idempotency_key=key)


async def issued(stack: Stack) -> tuple[int, int]:
    """How many vouchers there are, and what they are worth in major units."""
    rows = await stack.database.query(
        "select count(*) as n, coalesce(sum(amount_minor), 0)::int as total from vouchers"
    )
    return rows[0]["n"], rows[0]["total"] // 100


async def usage(stack: Stack) -> dict[str, tuple[int, int]]:
    rows = await stack.database.query("select scope, count, amount from agentops.usage_days")
    return {row["scope"]: (row["count"], row["amount"] // 100) for row in rows}


def test_each_limit_is_told_in_honest_words_and_gives_back_what_it_had_taken(database_url: str) -> None:
    cases: list[tuple[dict[str, int], int, str]] = [
        ({"voucher_max": 99}, 100, "at most 99 RWF per voucher"),
        ({"customer_day_count": 1}, 1, "at most 1 voucher a day for one customer"),
        ({"customer_day_count": 0}, 1, "at most 0 vouchers a day for one customer"),
        ({"customer_day_sum": 149}, 100, "at most 149 RWF a day for one customer"),
        ({"day_count": 1}, 1, "no more vouchers can be issued today"),
        ({"day_sum": 149}, 100, "no more vouchers can be issued today"),
    ]

    async def act(stack: Stack) -> None:
        await limit(stack)
        assert (await create(stack, 50)).status == 200
        for values, amount, words in cases:
            await limit(stack, **values)
            outcome = await create(stack, amount, key=words)
            assert (outcome.status, outcome.body["error"]) == (403, f"Limit reached: {words}"), values
            assert recorded(stack).names[-1] == "ai.tool.create_voucher.error"
            assert await usage(stack) == {f"customer:{PHONE}": (1, 50), "all": (1, 50)}
        assert await issued(stack) == (1, 50)
        await limit(stack)
        assert (await create(stack, 100, key=cases[-1][2])).status == 200, "a refusal is not kept under its key"

    in_stack(database_url, act)


def test_a_failed_issue_reserves_nothing_and_a_repeated_one_nothing_more(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await set_flag(stack.database, VOUCHERS, enabled=False)
        assert (await create(stack, 100)).body["error"] == "feature_disabled"
        assert await usage(stack) == {}
        await set_flag(stack.database, VOUCHERS, enabled=True)
        for _ in range(3):
            assert (await create(stack, 100, key="k")).status == 200
        assert await usage(stack) == {f"customer:{PHONE}": (1, 100), "all": (1, 100)}

    in_stack(database_url, act)


def test_limits_bind_chat_voice_and_staff_and_operators_only_where_all_customers_limits_are_set(
    database_url: str,
) -> None:
    async def act(stack: Stack) -> None:
        largest = limits.KNOWN["voucher-max"].default or 0
        for principal, named in ((CUSTOMER, {}), (STAFF, {"customer_msisdn": PHONE}), (VOICE, {})):
            assert (await create(stack, largest + 1, principal, **named)).status == 403
            assert (await create(stack, 1, principal, **named)).status == 200
        assert await usage(stack) == {f"customer:{PHONE}": (3, 3), "all": (3, 3)}
        assert (await create(stack, largest + 1, OPERATOR)).status == 200
        assert (await usage(stack))["all"] == (3, 3), "not counted, not limited"
        await limits.change(stack.database, {"day-count": 5}, [], "tests")
        statuses = [(await create(stack, largest + 1, OPERATOR)).status for _ in range(3)]
        assert statuses == [200, 200, 403]

    in_stack(database_url, act)


def test_limits_are_amounts_of_the_stacks_currency_so_chat_issues_no_other(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        refused = await create(stack, 1, currency="KWD")
        assert (refused.status, refused.body["error"], refused.body["hint"]) == (
            400, "Invalid currency", "vouchers here are in RWF",
        )  # fmt: skip
        assert (await create(stack, 1, OPERATOR, currency="KWD")).status == 200

    in_stack(database_url, act)


def test_the_day_is_the_databases_and_begins_where_it_is_set(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await limit(stack, customer_day_count=1)
        assert (await create(stack, 1)).status == 200
        assert (await create(stack, 1)).status == 403
        await stack.database.query("update agentops.usage_days set day = day - 1")
        assert (await create(stack, 1)).status == 200
        row = (await stack.database.query("select (now() at time zone 'utc')::date as today"))[0]
        days = await stack.database.query("select distinct day from agentops.usage_days order by day desc")
        assert days[0]["day"] == row["today"]
        await limit(stack, customer_day_count=1, day_offset_minutes=24 * 60)
        assert (await create(stack, 1)).status == 200, "a day later"

    in_stack(database_url, act)


# The limit, from how many customers, and how many vouchers of 3 each go under it: 3 + 3 + … ≤ 200 → 66 of them.
EDGES: list[tuple[dict[str, int], int, int]] = [
    ({"customer_day_count": 40}, 1, 40),
    ({"customer_day_sum": 200}, 1, 66),
    ({"day_count": 40}, 25, 40),
    ({"day_sum": 200}, 25, 66),
]


@contextmanager
def creating(url: str, processes: int, callers: int, *mutant: str) -> Iterator[Callable[[int], Counter[str]]]:
    """Processes of callers; gives what lets them all create at once, and counts the statuses."""
    command = [sys.executable, "-m", "tests.fakes.creators", url, str(callers // processes), *mutant]
    with ExitStack() as many:
        found = []
        for _ in range(processes):
            process = subprocess.Popen(
                command, cwd=ROOT, env={"PYTHONPATH": "src"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            many.enter_context(process)  # closes its pipes and waits for it
            many.callback(process.kill)
            found.append(process)

        def answers() -> list[str]:
            return [process.stdout.readline() for process in found if process.stdout]

        def race(customers: int) -> Counter[str]:
            for process in found:
                assert process.stdin is not None
                process.stdin.write(json.dumps({"customers": customers}) + "\n")
                process.stdin.flush()
            return sum((Counter(json.loads(answer)) for answer in answers()), Counter())

        assert answers() == ["ready\n"] * processes
        yield race


def check_never_over(url: str, processes: int, callers: int) -> None:
    async def act(stack: Stack) -> None:
        with creating(url, processes, callers) as race:
            for values, customers, fit in EDGES:
                await stack.database.query("truncate vouchers, agentops.ledger, agentops.usage_days")
                await limit(stack, **values)
                counted = await asyncio.to_thread(race, customers)
                assert counted == {"200": fit, "403": callers - fit}, values
                assert await issued(stack) == (fit, fit * AMOUNT), values
                assert (await usage(stack))["all"] == (fit, fit * AMOUNT), values

    in_stack(url, act)


def test_five_hundred_at_once_in_several_processes_never_go_over_a_limit(database_url: str) -> None:
    check_never_over(database_url, 2, 500)


@pytest.mark.long
def test_four_thousand_at_once_in_eight_processes_never_go_over_a_limit(database_url: str) -> None:
    check_never_over(database_url, 8, 4_000)


def test_looking_and_then_adding_would_go_over(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        with creating(database_url, 2, 200, "naive") as race:
            for values, customers, fit in (EDGES[0], EDGES[3]):
                await stack.database.query("truncate vouchers, agentops.ledger, agentops.usage_days")
                await limit(stack, **values)
                counted = await asyncio.to_thread(race, customers)
                assert counted["200"] > fit
                assert (await issued(stack))[0] > fit

    in_stack(database_url, act)


def test_above_the_threshold_a_request_waits_and_there_is_no_voucher(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await limit(stack, voucher_approval_above=1000)
        assert (await create(stack, 1000)).body["status"] == "issued"
        asked = await create(stack, 1001)
        assert asked.body == {
            "success": True, "status": "pending_approval", "approval_id": asked.body["approval_id"],
            "amount": 1001, "currency": "RWF",
        }  # fmt: skip
        assert recorded(stack).events[-1].data["approval_id"] == asked.body["approval_id"]
        assert (await create(stack, 1001)).body == asked.body, "the same again is the same request"
        other = await create(stack, 2000)
        assert (other.status, other.body["error"]) == (409, "Another request of this customer waits for approval")
        assert await issued(stack) == (1, 1000)
        assert (await usage(stack))["all"] == (1, 1000), "limits are reserved by the approval"
        assert (await create(stack, 5000, OPERATOR)).body["status"] == "issued"
        await limit(stack, voucher_approval_above=1000, voucher_max=1500)
        assert (await create(stack, 2000, STAFF)).body["error"] == "Limit reached: at most 1500 RWF per voucher"

    in_stack(database_url, act)


def test_another_actor_approves_once_however_often(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await limit(stack, voucher_approval_above=10)
        number = (await create(stack, 1001)).body["approval_id"]
        with pytest.raises(NotAuthorised):
            await granting.approve(stack.database, number, actor=CUSTOMER.actor)
        assert await issued(stack) == (0, 0)
        ends = await asyncio.gather(*(granting.approve(stack.database, number, actor=f"op {n}") for n in range(20)))
        assert sum(changed for _, changed in ends) == 1
        assert len({approval.voucher_id for approval, _ in ends}) == 1
        assert await issued(stack) == (1, 1001)
        assert await usage(stack) == {f"customer:{PHONE}": (1, 1001), "all": (1, 1001)}
        actions = await stack.database.query("select actor, action, subject from agentops.audit order by id")
        winner = ends[0][0].decided_by
        assert [(row["actor"], row["action"]) for row in actions if not row["action"].startswith("limit")] == [
            (CUSTOMER.actor, "approval.request"), (winner, "voucher.issue"), (winner, "approval.approve"),
        ]  # fmt: skip
        with pytest.raises(Conflict):
            await granting.reject(stack.database, number, actor="op", reason=None)
        with pytest.raises(NotFound):
            await granting.approve(stack.database, number + 1, actor="op")

    in_stack(database_url, act)


def test_an_approval_is_held_to_the_limits_of_its_own_moment(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await limit(stack, voucher_approval_above=10, customer_day_sum=1000)
        number = (await create(stack, 900)).body["approval_id"]
        for _ in range(15):
            assert (await create(stack, 10)).status == 200
        with pytest.raises(Conflict, match="at most 1000 RWF a day"):
            await granting.approve(stack.database, number, actor="op")
        assert await issued(stack) == (15, 150)
        rejected, changed = await granting.reject(stack.database, number, actor="op", reason="too much")
        assert (rejected.status, rejected.reason, changed) == ("rejected", "too much", True)
        assert (await granting.reject(stack.database, number, actor="op", reason=None))[1] is False
        with pytest.raises(Conflict, match="rejected"):
            await granting.approve(stack.database, number, actor="op")
        assert (await create(stack, 800)).body["approval_id"] != number, "another request may wait now"

    in_stack(database_url, act)


def test_vouchers_that_are_switched_off_are_not_even_asked_for(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await limit(stack, voucher_approval_above=10)
        await set_flag(stack.database, VOUCHERS, enabled=False)
        assert (await create(stack, 100)).body["error"] == "feature_disabled"
        assert await stack.database.query("select id from agentops.approvals") == []

    in_stack(database_url, act)
