"""All limits, and the days' vouchers that are reserved under them, one conditional statement each (`limits.sql`).

    rules() → reserve() → voucher → commit          inside one `Database.money()` transaction
              └ Reached: which limit; the caller rolls back, and with it whatever was reserved before

Limits and amounts for people are major units; `amount_minor` and usage are minor units (× 100). What the model costs is
reserved in `store.costs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agentops.platforms import Queries

_SQL = statements(__file__)
EVERYONE = "all"
_MINOR = 100
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Known:
    """A limit this program knows: what holds where nobody has set it (None: no limit), of what, for eyes.

    `scale` is how many of what is stored, counted and meant by `default` make one of the unit that people read.
    """

    default: int | None
    unit: str
    what: str
    scale: int = 1

    def shown(self, value: int | None) -> int | float | None:
        """A stored value in the unit that people read."""
        if value is None or value % self.scale == 0:
            return None if value is None else value // self.scale
        return value / self.scale


KNOWN: Mapping[str, Known] = {
    "voucher-max": Known(50_000, "amount", "one voucher"),
    "customer-day-count": Known(5, "vouchers", "one customer in a day"),
    "customer-day-sum": Known(100_000, "amount", "one customer in a day, all vouchers together"),
    "day-count": Known(1_000, "vouchers", "all customers in a day"),
    "day-sum": Known(10_000_000, "amount", "all customers in a day, all vouchers together"),
    "customer-day-cost": Known(1 * MICRO, "USD", "one customer in a day, what the model costs", MICRO),
    "day-cost": Known(50 * MICRO, "USD", "all customers in a day, what the model costs", MICRO),
    "voucher-approval-above": Known(None, "amount", "above this a voucher waits for agentops vouchers approve"),
    "day-offset-minutes": Known(0, "minutes", "the day begins this long before midnight UTC (Kigali: 120)"),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A limit as somebody has set it."""

    value: int | None
    updated_by: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits in force: those stored, else (`defaults`) the program's own."""

    stored: Mapping[str, Stored]
    defaults: bool = True

    def value(self, name: str) -> int | None:
        """A limit as it is stored; None is no limit."""
        found = self.stored.get(name)
        if found is not None:
            return found.value
        return KNOWN[name].default if self.defaults else None

    @property
    def offset(self) -> dict[str, int]:
        """When the day begins, as the statements want it."""
        return {"offset_minutes": self.value("day-offset-minutes") or 0}

    def minor(self, name: str) -> int | None:
        """A limit of an amount in minor units."""
        value = self.value(name)
        return None if value is None else value * _MINOR


@dataclass(frozen=True, slots=True)
class Reached:
    """The limit that a voucher would have gone over, and its value."""

    name: Literal["voucher-max", "customer-day-count", "customer-day-sum", "day-count", "day-sum"]
    value: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What was issued on one day; `amount` in minor units."""

    count: int
    amount: int


async def rules(queries: Queries) -> Rules:
    """The limits in force."""
    rows = await queries.query(_SQL["stored"])
    return Rules({row["name"]: Stored(row["value"], row["updated_by"], row["updated_at"]) for row in rows})


async def reserve(queries: Queries, found: Rules, *, customer: str | None, amount_minor: int) -> Reached | None:
    """Count a voucher under its customer's day and then under everybody's; or say which limit is reached.

    Always in this order, so that no two transactions wait for each other. Without a customer only what all customers
    have together is counted and limited. Call it in the voucher's own transaction, and roll that back where a limit is
    reached.
    """
    if customer is not None:
        most = found.minor("voucher-max")
        if most is not None and amount_minor > most:
            return Reached("voucher-max", most // _MINOR)
        scope = f"customer:{customer}"
        if not await _raised(queries, found, scope, "customer-day", amount_minor):
            return await _reached(queries, found, scope, "customer-day")
    if not await _raised(queries, found, EVERYONE, "day", amount_minor):
        return await _reached(queries, found, EVERYONE, "day")
    return None


async def used(queries: Queries, found: Rules, scope: str = EVERYONE) -> Usage:
    """What was reserved today, by everybody or in another scope (`customer:+250…`)."""
    rows = await queries.query(_SQL["used"], {"scope": scope, **found.offset})
    return Usage(rows[0]["count"], rows[0]["amount"]) if rows else Usage(0, 0)


async def change(queries: Queries, values: Mapping[str, int | None], cleared: Sequence[str], actor: str) -> set[str]:
    """Set limits (None: no limit) and put others back to their defaults, all or none; the names that changed."""
    parameters = {
        "names": list(values),
        "values": list(values.values()),
        "cleared": list(cleared),
        "actor": actor,
    }
    return {row["name"] for row in await queries.query(_SQL["change"], parameters)}


async def _raised(queries: Queries, found: Rules, scope: str, prefix: str, amount_minor: int) -> bool:
    parameters = {
        "scope": scope,
        "amount": amount_minor,
        "most": found.value(f"{prefix}-count"),
        "sum": found.minor(f"{prefix}-sum"),
        **found.offset,
    }
    return bool(await queries.query(_SQL["reserve"], parameters))


async def _reached(queries: Queries, found: Rules, scope: str, prefix: Literal["customer-day", "day"]) -> Reached:
    count = found.value(f"{prefix}-count")
    if count is not None and (await used(queries, found, scope)).count >= count:
        return Reached("customer-day-count" if prefix == "customer-day" else "day-count", count)
    total = found.value(f"{prefix}-sum") or 0
    return Reached("customer-day-sum" if prefix == "customer-day" else "day-sum", total)
