"""Vouchers, changed by one conditional statement each: issue, redeem, void (`vouchers.sql`).

    Database.money() → issue | redeem | void → Voucher            with its ledger and audit rows, one commit
                                             → Hindrance          nothing was written; why, read in the same transaction

Amounts are minor units (amount × 100). Call these inside `Database.money()` only: without its barrier a kill switch
could return while a change that it should have stopped still commits.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from agentops.errors import AgentOpsError
from agentops.redact import mask_phone
from agentops.sql import statements

if TYPE_CHECKING:
    from agentops.platforms import Queries, Row

_SQL = statements(__file__)
CODES = 100_000
_GUESSES = 16
_ROUNDS = 4
_CHECK_VIOLATION = "23514"


@dataclass(frozen=True, slots=True)
class By:
    """Who changes a voucher, and on which way they came. `channel` decides which flags must be on."""

    channel: Literal["http", "chat", "voice"]
    actor: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher as a change left it; `changed_at` is that change's time by the database's clock."""

    id: str
    status: str
    amount_minor: int
    currency: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """A voucher as it stands. `customer` is a phone (E.164), `issued_by` its ledger's actor where it has a ledger."""

    id: str
    status: str
    code_5: str
    amount_minor: int
    currency: str
    customer: str
    created_at: datetime
    issued_by: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a voucher's ledger: `kind` is issue, redeem or void."""

    at: datetime
    kind: str
    channel: str
    actor: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why nothing was changed. `status` is the voucher's own where `why` is `wrong_status`."""

    why: Literal["disabled", "not_found", "wrong_status", "no_code", "unknown_status", "busy"]
    status: str | None = None


async def issue(queries: Queries, by: By, *, customer: str, amount_minor: int, currency: str) -> Voucher | Hindrance:
    """Issue a voucher to a number (E.164), linked to its profile where it has one; an unknown number is a customer too.

    The five-digit code is a free one, guessed at random; where 16 guesses are all taken, one is looked for among all.
    """
    parameters = {
        **_common(by, customer, amount_minor=amount_minor, currency=currency),
        "customer": customer,
        "amount_minor": amount_minor,
        "currency": currency,
    }
    candidates = [f"{secrets.randbelow(CODES):05d}" for _ in range(_GUESSES)]
    for _ in range(_ROUNDS):
        rows = await queries.query(_SQL["issue"], {**parameters, "candidates": candidates})
        if rows:
            return _voucher(rows[0])
        if not (await _standing(queries, by, None, None))["enabled"]:
            return Hindrance("disabled")
        candidates = [row["code"] for row in await queries.query(_SQL["free_codes"])]
        if not candidates:
            return Hindrance("no_code")
    return Hindrance("busy")


async def redeem(queries: Queries, by: By, *, voucher_id: str, customer: str) -> Voucher | Hindrance:
    """Redeem an issued voucher of this customer; of any number of callers at most one ever gets the voucher."""
    parameters = {**_common(by, customer), "voucher_id": voucher_id, "customer": customer}
    rows = await queries.query(_SQL["redeem"], parameters)
    return _voucher(rows[0]) if rows else await _hindrance(queries, by, voucher_id, customer)


async def void(
    queries: Queries, by: By, *, voucher_id: str, customer: str | None, reason: str | None
) -> Voucher | Hindrance:
    """Void an issued voucher: of this customer, or with None of anybody.

    `unknown_status` means that this stack's own constraint on `public.vouchers` refuses `void`; the transaction has
    failed then, and must not go on.
    """
    parameters = {
        **_common(by, customer, reason=reason),
        "voucher_id": voucher_id,
        "customer": customer,
        "reason": reason,
    }
    try:
        rows = await queries.query(_SQL["void"], parameters)
    except AgentOpsError as error:
        if getattr(error.__cause__, "sqlstate", None) == _CHECK_VIOLATION:
            return Hindrance("unknown_status")
        raise
    return _voucher(rows[0]) if rows else await _hindrance(queries, by, voucher_id, customer)


async def listed(queries: Queries, *, status: str | None, customer: str | None, limit: int) -> list[Record]:
    """Vouchers, newest first: of one status, of one customer (E.164), or all."""
    parameters = {"status": status, "customer": customer, "limit": limit}
    return [Record(**row) for row in await queries.query(_SQL["listed"], parameters)]


async def one(queries: Queries, voucher_id: str) -> Record | None:
    """A voucher by its id (a UUID)."""
    rows = await queries.query(_SQL["one"], {"voucher_id": voucher_id})
    return Record(**rows[0]) if rows else None


async def entries(queries: Queries, voucher_id: str) -> list[Entry]:
    """What happened to a voucher, in order."""
    return [Entry(**row) for row in await queries.query(_SQL["entries"], {"voucher_id": voucher_id})]


async def codes_in_use(queries: Queries) -> int:
    """How many of the 100,000 five-digit codes belong to a live voucher (issued or redeemed)."""
    return int((await queries.query(_SQL["codes_in_use"]))[0]["n"])


def _common(by: By, customer: str | None, **detail: object) -> dict[str, object]:
    audit = {
        "channel": by.channel,
        "correlation_id": by.correlation_id,
        "customer_masked": mask_phone(customer) if customer else None,
        **detail,
    }
    return {
        "channel": by.channel,
        "actor": by.actor,
        "correlation_id": by.correlation_id,
        "detail": json.dumps({key: value for key, value in audit.items() if value is not None}),
    }


async def _hindrance(queries: Queries, by: By, voucher_id: str, customer: str | None) -> Hindrance:
    standing = await _standing(queries, by, voucher_id, customer)
    if not standing["enabled"]:
        return Hindrance("disabled")
    if standing["status"] is None:
        return Hindrance("not_found")
    # `issued` now means that what hindered the change is gone again (a flag, a rival's rollback): worth another try.
    return Hindrance("busy") if standing["status"] == "issued" else Hindrance("wrong_status", standing["status"])


async def _standing(queries: Queries, by: By, voucher_id: str | None, customer: str | None) -> Row:
    parameters = {"channel": by.channel, "voucher_id": voucher_id, "customer": customer}
    return (await queries.query(_SQL["standing"], parameters))[0]


def _voucher(row: Row) -> Voucher:
    return Voucher(row["id"], row["status"], row["amount_minor"], row["currency"], row["changed_at"].astimezone(UTC))
