"""What the model costs in a day is never above a limit, not by one unit, whoever reserves at the same moment."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentops.store import costs, limits
from agentops.store.costs import Over, Reservation, Spent
from agentops.store.database import Database
from tests.fakes.cost_racers import CUSTOMERS, MICROS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[2]
# Five customers may spend more than all together: either limit is reached at some time.
OWN, EVERYONE = 25 * MICROS + 1, 90 * MICROS + 999
# The database itself notes the highest that a row ever came to.
HIGHEST = """
create table public.highest (scope text primary key, total bigint not null);
create function public.note_highest() returns trigger language plpgsql as $$
begin
    insert into public.highest as h values (new.scope, new.reserved + new.spent)
    on conflict (scope) do update set total = greatest(h.total, excluded.total);
    return null;
end $$;
create trigger highest after insert or update on agentops.cost_days for each row execute function public.note_highest();
"""


def in_database(url: str, act: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = await Database.open(url)
        try:
            await act(database)
        finally:
            await database.close()

    asyncio.run(run())


async def limit(database: Database, *, own: int | None, everyone: int | None) -> None:
    await limits.change(database, {"customer-day-cost": own, "day-cost": everyone}, [], "tests")


async def reserve(database: Database, customer: str, micros: int) -> Reservation:
    found = await costs.reserve(database, customer, micros)
    assert isinstance(found, Reservation)
    return found


async def today(database: Database, scope: str = "all") -> Spent:
    return await costs.used(database, await limits.rules(database), scope)


def test_a_reservation_is_settled_by_what_was_spent(database_url: str) -> None:
    async def act(database: Database) -> None:
        first, second = await reserve(database, "a", 700), await reserve(database, "b", 300)
        assert await today(database) == Spent(1000, 0)
        await costs.settle(database, first, 40)
        assert await today(database) == Spent(300, 40)
        assert await today(database, "customer:a") == Spent(0, 40)
        await costs.settle(database, second, 0)
        assert await today(database) == Spent(0, 40)

    in_database(database_url, act)


def test_over_either_limit_nothing_is_reserved_under_both(database_url: str) -> None:
    async def act(database: Database) -> None:
        await limit(database, own=1000, everyone=1500)
        await reserve(database, "a", 1000)
        assert await costs.reserve(database, "a", 1) == Over("customer-day-cost")
        assert await costs.reserve(database, "b", 501) == Over("day-cost")
        assert await today(database, "customer:b") == Spent(0, 0)
        await reserve(database, "b", 500)
        assert await today(database) == Spent(1500, 0)
        await limit(database, own=1000, everyone=None)
        await reserve(database, "b", 500)
        await limit(database, own=None, everyone=2000)
        assert await costs.reserve(database, "c", 10**12) == Over("day-cost")
        await limit(database, own=0, everyone=0)
        assert await costs.reserve(database, "d", 1) == Over("customer-day-cost")

    in_database(database_url, act)


def test_limits_that_nobody_has_set_hold_too(database_url: str) -> None:
    async def act(database: Database) -> None:
        own, everyone = (limits.KNOWN[name].default or 0 for name in ("customer-day-cost", "day-cost"))
        await reserve(database, "a", own)
        assert await costs.reserve(database, "a", 1) == Over("customer-day-cost")
        for number in range(everyone // own - 1):
            await reserve(database, str(number), own)
        assert await costs.reserve(database, "z", 1) == Over("day-cost")

    in_database(database_url, act)


def test_a_lost_reservation_stays_counted_until_its_day_is_over_and_is_settled_in_it(database_url: str) -> None:
    async def act(database: Database) -> None:
        await limit(database, own=1000, everyone=1000)
        await reserve(database, "a", 600)
        late = await reserve(database, "a", 400)
        await database.query("update agentops.cost_days set day = day - 1")
        assert await today(database) == Spent(0, 0)
        await reserve(database, "a", 1000)
        rows = await database.query("select distinct day from agentops.cost_days order by day")
        await costs.settle(database, replace(late, day=rows[0]["day"]), 5)
        assert await today(database) == Spent(1000, 0)
        rows = await database.query("select reserved, spent from agentops.cost_days where scope = 'all' order by day")
        assert (rows[0]["reserved"], rows[0]["spent"]) == (600, 5)
        assert await costs.expire(database) == 0
        await database.query("update agentops.cost_days set day = day - 93")
        assert [await costs.expire(database, 3), await costs.expire(database)] == [3, 1]

    in_database(database_url, act)


@dataclass(frozen=True)
class Raced:
    """How many requests each customer was allowed, the highest that each row ever came to, and the end."""

    made: Counter[str]
    highest: dict[str, int]
    end: Spent


def raced(url: str, processes: int, callers: int, *mutant: str) -> Raced:
    """Processes full of callers, all at once."""
    found: list[Raced] = []

    async def act(database: Database) -> None:
        await limit(database, own=OWN, everyone=EVERYONE)
        await database.query(HIGHEST)
        made = await asyncio.to_thread(race, url, processes, callers, *mutant)
        rows = await database.query("select scope, total from public.highest")
        found.append(Raced(made, {row["scope"]: row["total"] for row in rows}, await today(database)))

    in_database(url, act)
    return found[0]


def race(url: str, processes: int, callers: int, *mutant: str) -> Counter[str]:
    arguments = [sys.executable, "-m", "tests.fakes.cost_racers", url, str(callers)]
    racers = [
        subprocess.Popen(
            [*arguments, str(number), *mutant],
            cwd=ROOT,
            env={"PYTHONPATH": "src"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    made: Counter[str] = Counter()
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for racer in racers:
            out, _ = racer.communicate(timeout=300)
            made.update(json.loads(out))
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    return made


def check_never_over(found: Raced, callers: int) -> None:
    assert found.highest.pop("all") <= EVERYONE
    assert found.end.total <= EVERYONE
    assert len(found.highest) == CUSTOMERS
    assert max(found.highest.values()) <= OWN
    assert EVERYONE // MICROS <= found.made.total() < callers, "what fits was allowed, and not all fitted"


def test_processes_that_reserve_at_once_never_go_over_a_limit_by_one_unit(database_url: str) -> None:
    check_never_over(raced(database_url, 2, 250), 500)


@pytest.mark.long
def test_eight_processes_that_reserve_at_once_never_go_over_a_limit_by_one_unit(database_url: str) -> None:
    check_never_over(raced(database_url, 8, 2_500), 20_000)


def test_looking_and_then_taking_would_go_over(database_url: str) -> None:
    found = raced(database_url, 2, 100, "naive")
    assert found.highest["all"] > EVERYONE
