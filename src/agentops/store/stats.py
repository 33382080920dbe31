"""Voucher figures: how many and how much, by status or by day (runbook, "Database Maintenance").

A hosted project's API may send numbers as text; they are read either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.sql import statements

if TYPE_CHECKING:
    from agentops.platforms import Queries

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class StatusCount:
    """Vouchers of one status and currency; `sum` is in major units (francs, not cents)."""

    status: str
    count: int
    sum: int | float
    currency: str


@dataclass(frozen=True, slots=True)
class DayCount:
    """Vouchers that the agent issued on one day (`YYYY-MM-DD`, in the database's time zone)."""

    date: str | None
    count: int


async def vouchers(queries: Queries, days: int) -> list[StatusCount]:
    """Vouchers created in the last `days` days."""
    rows = await queries.query(_SQL["vouchers"], {"days": days})
    return [StatusCount(row["status"], int(row["count"]), _plain(float(row["sum"])), row["currency"]) for row in rows]


async def ai_vouchers(queries: Queries, days: int) -> list[DayCount]:
    """The last `days` dates on which the agent issued vouchers, newest first."""
    rows = await queries.query(_SQL["ai_vouchers"], {"days": days})
    return [DayCount(row["date"], int(row["count"])) for row in rows]


def _plain(amount: float) -> int | float:
    return int(amount) if amount.is_integer() else amount
