"""What the model costs in a day, by one customer and by all: reserved before each request, settled after it.

    reserve(bound) ─ Reservation → request → settle(what it cost)
                   └ Over: which limit; nothing was reserved
    a worker died, no answer came → never settled: the bound stays counted until the day is over

Reserved and spent together never go over a limit, whoever reserves at the same moment (`agentops.reserve_cost`). All
in whole micro-US-dollars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.sql import statements
from agentops.store.limits import EVERYONE, KNOWN

if TYPE_CHECKING:
    from datetime import date

    from agentops.platforms import Queries
    from agentops.store.limits import Rules

_SQL = statements(__file__)
KEEP_DAYS = 92
EXPIRE_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request may cost, on whose account and of which day (the database's, when it was reserved)."""

    scope: str
    day: date
    micros: int


@dataclass(frozen=True, slots=True)
class Over:
    """The limit that a request might have gone over."""

    name: Literal["customer-day-cost", "day-cost"]


@dataclass(frozen=True, slots=True)
class Spent:
    """One day's cost: `spent` is settled, `reserved` what requests under way, or lost, may have cost at most."""

    reserved: int
    spent: int

    @property
    def total(self) -> int:
        """What counts against the limit."""
        return self.reserved + self.spent


async def reserve(queries: Queries, customer: str, micros: int) -> Reservation | Over:
    """Reserve a request's upper bound under its customer's day and everybody's, both or none.

    Args:
        queries: a pool, not a transaction of the turn's own: the reservation must stand before the request is made.
        customer: what the customer's lanes are named by.
        micros: the most that the request can cost.
    """
    scope = f"customer:{customer}"
    parameters = {
        "scope": scope,
        "micros": micros,
        "own": KNOWN["customer-day-cost"].default,
        "everyone": KNOWN["day-cost"].default,
    }
    row = (await queries.query(_SQL["reserve"], parameters))[0]
    return Over(row["refused"]) if row["refused"] else Reservation(scope, row["on_day"], micros)


async def settle(queries: Queries, reservation: Reservation, micros: int) -> None:
    """Put what the request has cost in the place of its reservation. Once: never again where this was interrupted."""
    parameters = {
        "scope": reservation.scope,
        "day": reservation.day,
        "bound": reservation.micros,
        "actual": micros,
    }
    await queries.query(_SQL["settle"], parameters)


async def used(queries: Queries, found: Rules, scope: str = EVERYONE) -> Spent:
    """Today's cost, of everybody or in another scope (`customer:<key>`)."""
    rows = await queries.query(_SQL["used"], {"scope": scope, **found.offset})
    return Spent(rows[0]["reserved"], rows[0]["spent"]) if rows else Spent(0, 0)


async def expire(queries: Queries, batch: int = EXPIRE_BATCH) -> int:
    """Delete one batch of days older than 92; how many. Repeat until 0."""
    return int((await queries.query(_SQL["expire"], {"days": KEEP_DAYS, "batch": batch}))[0]["deleted"])
