"""Vouchers that wait for somebody's approval: requested in a chat's own transaction, decided by another actor.

request() → pending → decide(approved: the voucher is issued in the same transaction | rejected)
                    └ reach → notify: the customer's message in the same transaction, sent by a worker
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.redact import mask_phone
from agentops.settings import CHAT
from agentops.sql import statements
from agentops.store import inbox

if TYPE_CHECKING:
    from datetime import datetime

    from agentops.platforms import Queries, Row
    from agentops.store.vouchers import By

_SQL = statements(__file__)

# Whether the customer is told of the decision, or why not. `queued` becomes the state of the reply in the outbox.
Told = Literal["queued", "window_closed", "chat_off", "no_conversation"]
# The messages that tell of decisions are named by the request, so that one can be told once only.
_PREFIX = "agentops:approval:"
_SLUG = "ai-whatsapp-webhook"
# How long after a customer's message Meta lets us write to them freely.
WINDOW_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Approval:
    """A request. `customer` is their phone (E.164); amounts are minor units.

    `told` is a `Told` or the outbox state of the message that tells the customer; None while it waits.
    """

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
    told: str | None


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether the customer can be told now; `conversation` is where, None where they have never written."""

    conversation: int | None
    told: Told


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
    return _first(await queries.query(_SQL["one"], {"id": number, "prefix": _PREFIX}))


async def locked(queries: Queries, number: int) -> Approval | None:
    """A request by its number, kept for this transaction."""
    return _first(await queries.query(_SQL["locked"], {"id": number}))


async def pending(queries: Queries, *, customer: str | None, limit: int) -> list[Approval]:
    """Requests that wait, newest first."""
    rows = await queries.query(_SQL["listed"], {"customer": customer, "limit": limit})
    return [Approval(**row) for row in rows]


async def decide(
    queries: Queries,
    number: int,
    *,
    actor: str,
    told: Told,
    voucher_id: str | None = None,
    reason: str | None = None,
) -> bool:
    """Close a request that waits: approved with the voucher that was issued for it, else rejected; with audit row."""
    parameters = {
        "id": number,
        "status": "approved" if voucher_id else "rejected",
        "actor": actor,
        "voucher_id": voucher_id,
        "reason": reason,
        "told": told,
    }
    return bool(await queries.query(_SQL["decide"], parameters))


async def reach(queries: Queries, customer: str) -> Reach:
    """Whether a customer (E.164) can be told something now: their newest conversation, the 24 hours, the flag."""
    parameters = {"customer": customer, "flag": CHAT, "window": WINDOW_SECONDS}
    rows = await queries.query(_SQL["reach"], parameters)
    return Reach(**rows[0]) if rows else Reach(None, "no_conversation")


async def notify(queries: Queries, asked: Approval, conversation: int, body: str) -> bool:
    """Write down the one message that tells of a decision, for a worker to send. Inside the decision's transaction.

    Returns:
        Whether it was; False where the conversation has been forgotten meanwhile.
    """
    parameters = {
        "conversation": conversation,
        "message_id": f"{_PREFIX}{asked.id}",
        "slug": _SLUG,
        "correlation_id": asked.correlation_id,
        "body": body,
        "customer": asked.customer,
        "channel": inbox.CHANNEL,
    }
    return bool(await queries.query(_SQL["notice"], parameters))


def _first(rows: list[Row]) -> Approval | None:
    return Approval(**rows[0]) if rows else None
