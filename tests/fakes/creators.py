"""One process of callers who all want vouchers of `AMOUNT`: `python -m tests.fakes.creators URL CALLERS [naive]`.

Prints "ready"; then for every line {"customers": …} on its standard input lets CALLERS create at once, each for one of
so many customers in turn, and prints {status: how many}. `naive` looks whether there is room and then takes it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from agentops.agent.tools import Principal, tool
from agentops.store import limits
from tests.fakes.stacks import open_stack

if TYPE_CHECKING:
    from agentops.platforms import Queries
    from agentops.stack import Stack
    from agentops.store.limits import Rules

AMOUNT = 3
# Connections of one process; the other callers stand behind them.
AT_ONCE = 8
BUSY = 503


async def naive(queries: Queries, found: Rules, *, customer: str | None, amount_minor: int) -> Any:
    """The known-bad way: look whether there is room, then add."""
    for scope, prefix in ((f"customer:{customer}", "customer-day"), ("all", "day")):
        use = await limits.used(queries, found, scope)
        most, total = found.value(f"{prefix}-count"), found.minor(f"{prefix}-sum")
        if most is not None and use.count + 1 > most:
            return limits.Reached("day-count", most)
        if total is not None and use.amount + amount_minor > total:
            return limits.Reached("day-sum", total)
    for scope in (f"customer:{customer}", "all"):
        await queries.query(
            "insert into agentops.usage_days as u values (%(scope)s, now()::date, 1, %(amount)s)"
            " on conflict (scope, day) do update set count = u.count + 1, amount = u.amount + excluded.amount",
            {"scope": scope, "amount": amount_minor},
        )
    return None


async def race(stack: Stack, callers: int, customers: int) -> Counter[int]:
    principals = [Principal("chat", f"customer {n}", f"+25078800{n:04d}") for n in range(customers)]
    create = tool("create_voucher")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> int:
        principal, status = principals[number % customers], BUSY
        async with gate:
            while status == BUSY:  # a slow machine: rolled back, so asking again is no second voucher
                outcome = await create.call({"amount": AMOUNT}, principal, stack, correlation_id="c-1")
                status = outcome.status
        return status

    return Counter(await asyncio.gather(*(one(number) for number in range(callers))))


async def main(url: str, callers: int) -> None:
    async with open_stack(url, size=AT_ONCE, set_flags=False) as stack:
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(json.dumps(await race(stack, callers, json.loads(line)["customers"])))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if "naive" in sys.argv:
        limits.reserve = naive
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
