"""Figures by which the database's and the queue's health are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.sql import statements

if TYPE_CHECKING:
    from agentops.platforms import Queries

_SQL = statements(__file__)
CODES = 100_000


@dataclass(frozen=True, slots=True)
class Connections:
    """Client connections in use, and how many the server allows."""

    used: int
    allowed: int


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """A money transaction that takes longer than it should."""

    pid: int
    application_name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Queue:
    """Messages that wait for a worker, the age of the oldest, and those given up."""

    waiting: int
    oldest_seconds: float
    dead: int


@dataclass(frozen=True, slots=True)
class Replies:
    """Replies of which nobody knows whether they arrived, and those that wait long for WhatsApp's word."""

    uncertain: int
    waiting: int


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that nobody has restored or closed yet."""

    id: int
    kind: str
    reason: str


async def connections(queries: Queries) -> Connections:
    """How many connections are in use."""
    row = (await queries.query(_SQL["connections"]))[0]
    return Connections(int(row["used"]), int(row["allowed"]))


async def live_codes(queries: Queries) -> int:
    """How many of the 100,000 five-digit codes are taken by live vouchers."""
    return int((await queries.query(_SQL["voucher_codes"]))[0]["live"])


async def long_money_transactions(queries: Queries, seconds: float) -> list[LongTransaction]:
    """Money transactions older than `seconds`."""
    from agentops.store.database import MONEY_LOCK

    rows = await queries.query(_SQL["long_money"], {"key": MONEY_LOCK, "seconds": seconds})
    return [LongTransaction(**row) for row in rows]


async def queue(queries: Queries) -> Queue:
    """The state of the message queue."""
    return Queue(**(await queries.query(_SQL["queue"]))[0])


async def replies(queries: Queries) -> Replies:
    """The state of the replies under way."""
    return Replies(**(await queries.query(_SQL["replies"]))[0])


async def open_incidents(queries: Queries) -> list[OpenIncident]:
    """Incidents still open, oldest first."""
    return [OpenIncident(**row) for row in await queries.query(_SQL["open_incidents"])]


async def simulated(queries: Queries) -> bool:
    """Whether this stack's providers are simulations (a sandbox)."""
    rows = await queries.query(_SQL["kind"])
    return bool(rows) and rows[0]["kind"] == "sandbox"
