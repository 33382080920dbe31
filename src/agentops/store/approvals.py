"""Vouchers that wait for somebody's approval: requested in a chat's own transaction, decided by another actor.

request() → pending → decide(approved: the voucher is issued in the same transaction | rejected)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.redact import mask_phone
from agentops.sql import statements

if TYPE_CHECKING:
    from datetime import datetime

    from agentops.platforms import Queries, Row
    from agentops.store.vouchers import By

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Approval:
    """A request. `customer` is their phone (E.164); amounts are minor units."""

    id: int
    status: Literal["pending", "approved", "rejected"]
    customer: str
    amount_minor: int
    currency: str
    channel: str
    correlation_id: str
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    voucher_id: str | None


async def request(
    queries: Queries, by: By, *, customer: str, amount_minor: int, currency: str
) -> int | Literal["disabled", "waiting", "busy"]:
    """Ask for a voucher: the request's id. The same again is the one that waits; another one is `waiting`."""
    detail = {
        "channel": by.channel,
        "correlation_id": by.correlation_id,
        "customer_masked": mask_phone(customer),
        "amount_minor": amount_minor,
        "currency": currency,
    }
    parameters = {
        "customer": customer,
        "amount_minor": amount_minor,
        "currency": currency,
        "channel": by.channel,
        "actor": by.actor,
        "correlation_id": by.correlation_id,
        "detail": json.dumps(detail),
    }
    rows = await queries.query(_SQL["request"], parameters)
    if rows:
        return int(rows[0]["id"])
    standing = (await queries.query(_SQL["waiting"], {"channel": by.channel, "customer": customer}))[0]
    if not standing["enabled"]:
        return "disabled"
    if standing["id"] is None:
        return "busy"
    same = (standing["amount_minor"], standing["currency"]) == (amount_minor, currency)
    return int(standing["id"]) if same else "waiting"


async def one(queries: Queries, number: int) -> Approval | None:
    """A request by its number."""
    return _first(await queries.query(_SQL["one"], {"id": number}))


async def locked(queries: Queries, number: int) -> Approval | None:
    """A request by its number, kept for this transaction."""
    return _first(await queries.query(_SQL["locked"], {"id": number}))


async def pending(queries: Queries, *, customer: str | None, limit: int) -> list[Approval]:
    """Requests that wait, newest first."""
    rows = await queries.query(_SQL["listed"], {"customer": customer, "limit": limit})
    return [Approval(**row) for row in rows]


async def decide(
    queries: Queries, number: int, *, actor: str, voucher_id: str | None = None, reason: str | None = None
) -> bool:
    """Close a request that waits: approved with the voucher that was issued for it, else rejected; with audit row."""
    parameters = {
        "id": number,
        "status": "approved" if voucher_id else "rejected",
        "actor": actor,
        "voucher_id": voucher_id,
        "reason": reason,
    }
    return bool(await queries.query(_SQL["decide"], parameters))


def _first(rows: list[Row]) -> Approval | None:
    return Approval(**rows[0]) if rows else None
