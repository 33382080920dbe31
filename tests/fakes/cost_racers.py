"""One process of callers who reserve and settle the cost of requests, as hot as it gets.

    python -m tests.fakes.cost_racers URL CALLERS NUMBER [naive]      prints "ready", then {customer: requests made}

Each of CALLERS makes one request of `MICROS`, for one of `CUSTOMERS` in turn from NUMBER on. Half of the requests are
settled at half of what was reserved, the others are lost. `naive` looks whether there is room and then takes it. It
begins when its standard input says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

from agentops.store import costs, limits
from agentops.store.database import Database

if TYPE_CHECKING:
    from agentops.platforms import Queries

MICROS = 1_000
CUSTOMERS = 5
_ADD = """
insert into agentops.cost_days as c (scope, day, reserved)
values (%(scope)s, (now() at time zone 'utc')::date, %(micros)s)
on conflict (scope, day) do update set reserved = c.reserved + excluded.reserved
returning day
"""


async def naive(queries: Queries, customer: str, micros: int) -> costs.Reservation | costs.Over:
    """The known-bad way: look whether there is room, then take it."""
    rules, scope = await limits.rules(queries), f"customer:{customer}"
    for place, name in ((scope, "customer-day-cost"), ("all", "day-cost")):
        most = rules.value(name)
        if most is not None and (await costs.used(queries, rules, place)).total + micros > most:
            return costs.Over("day-cost")
    for place in (scope, "all"):
        rows = await queries.query(_ADD, {"scope": place, "micros": micros})
    return costs.Reservation(scope, rows[0]["day"], micros)


async def race(url: str, callers: int, first: int) -> Counter[str]:
    database = await Database.open(url, size=12, wait_seconds=60)
    made: Counter[str] = Counter()
    try:

        async def call(number: int) -> None:
            customer = str((first + number) % CUSTOMERS)
            found = await costs.reserve(database, customer, MICROS)
            if isinstance(found, costs.Reservation):
                made[customer] += 1
                if number % 2:
                    await costs.settle(database, found, MICROS // 2)

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(call(number) for number in range(callers)))
    finally:
        await database.close()
    return made


if __name__ == "__main__":
    if "naive" in sys.argv:
        costs.reserve = naive
    sys.stdout.write(json.dumps(asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))) + "\n")
