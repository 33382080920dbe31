"""See vouchers and requests for them; approve, reject and void. Phones are shown masked.

A voucher has a UUID; a request that waits for approval has a number. Approving takes another actor than the one who
asked. Actors are self-declared (AGENTOPS_ACTOR): this guards against mistakes, not against malice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid4

import typer

from agentops.errors import Conflict, Kind, NotFound, UsageError
from agentops.redact import mask_phone, scrub
from agentops.session import Answer, Session
from agentops.store.vouchers import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentops.platforms import Platform
    from agentops.store.approvals import Approval
    from agentops.store.database import Database
    from agentops.store.vouchers import Record

Id = Annotated[str, typer.Argument(metavar="ID", help="A voucher's id, or a request's number.")]
Number = Annotated[
    int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The request's number (vouchers list --pending).")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with it.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show phones and codes in full; this is audited.")]
Check = Annotated[bool, typer.Option("--check", help="Only say what would change; exit 3 if something would.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher, or a request for one. `amount` is in major units, `by` who issued it or asked for it."""

    id: str
    status: str
    amount: int | float
    currency: str
    customer: str
    created_at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One voucher or request with what happened to it."""

    id: str
    status: str
    amount: int | float
    currency: str
    customer: str
    code: str | None
    created_at: datetime
    by: str | None
    voucher_id: str | None
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    ledger: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a voucher or a request; `voucher_id` is the voucher that exists (or existed) for it."""

    id: str
    status: str
    changed: bool
    voucher_id: str | None
    amount: int | float
    currency: str
    customer: str


async def list_(  # noqa: PLR0917 - options are given by name
    session: Session,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="issued, redeemed, expired or void.")
    ] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="PHONE", help="Only this customer's.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Requests that wait for approval, instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    reveal: Reveal = False,
) -> list[Voucher]:
    """List vouchers, newest first; with --pending the requests that wait."""
    from agentops.store import approvals, vouchers

    phone = _phone(customer)
    if pending and status:
        raise UsageError("--pending and --status exclude each other", "requests that wait are no vouchers yet")
    platform = await session.platform()
    if pending:
        found = [_request(entry) for entry in await approvals.pending(platform, customer=phone, limit=limit)]
    else:
        records = await vouchers.listed(platform, status=status, customer=phone, limit=limit)
        found = [_voucher(entry) for entry in records]
    if reveal and found:
        await _revealed(session, platform, "list", {"count": len(found), "ids": [entry.id for entry in found]})
    return found if reveal else [replace(entry, customer=mask_phone(entry.customer)) for entry in found]


async def show(session: Session, id: Id, reveal: Reveal = False) -> Shown:
    """Show a voucher with its ledger, or a request with its decision."""
    from agentops.store import approvals, vouchers

    platform = await session.platform()
    if id.isascii() and id.isdigit():
        asked = await approvals.one(platform, _number(id))
        if asked is None:
            raise NotFound(f"there is no request {id}", "agentops vouchers list --pending")
        head, code = _request(asked), None
        ledger = await vouchers.entries(platform, asked.voucher_id) if asked.voucher_id else []
        rest = (asked.voucher_id, asked.decided_by, asked.decided_at, asked.reason)
    else:
        record = await _one(platform, id)
        head, code, ledger = _voucher(record), record.code_5, await vouchers.entries(platform, record.id)
        rest = (record.id, None, None, None)
    if reveal:
        await _revealed(session, platform, head.id, {})
    phone = head.customer if reveal else mask_phone(head.customer)
    code = code if reveal or code is None else "*****"
    return Shown(
        head.id, head.status, head.amount, head.currency, phone, code, head.created_at, head.by, *rest, ledger=ledger
    )


async def approve(session: Session, number: Number, check: Check = False) -> Answer:
    """Approve a request: its limits are reserved and its voucher issued, now. Not by the one who asked."""
    from agentops.agent import granting
    from agentops.store import approvals

    actor = session.process.actor
    platform = await session.local()
    asked = granting.approvable(await approvals.one(platform, number), number, actor)
    waits = asked.status == "pending"
    if check or not waits:
        return Answer(_decided(asked, changed=waits), Kind.DIFFERS if waits else Kind.DONE)
    async with _database(platform.url) as database:
        done, changed = await granting.approve(database, number, actor=actor)
    return Answer(_decided(done, changed=changed))


async def reject(session: Session, number: Number, reason: Reason = "", check: Check = False) -> Answer:
    """Reject a request: it ends without a voucher."""
    from agentops.agent import granting
    from agentops.store import approvals

    platform = await session.local()
    asked = granting.rejectable(await approvals.one(platform, number), number)
    waits = asked.status == "pending"
    if check or not waits:
        return Answer(_decided(asked, changed=waits), Kind.DIFFERS if waits else Kind.DONE)
    async with _database(platform.url) as database:
        done, changed = await granting.reject(
            database, number, actor=session.process.actor, reason=_line(reason) or None
        )
    return Answer(_decided(done, changed=changed))


async def void(session: Session, id: Id, reason: Reason = "", yes: Yes = False, check: Check = False) -> Answer:
    """Void an issued voucher: it can never be redeemed. Asks."""
    from agentops.agent import money
    from agentops.store import vouchers
    from agentops.store.vouchers import By

    platform = await session.local()
    record = await _one(platform, id)
    amount, phone = _major(record.amount_minor), mask_phone(record.customer)
    void = Change(
        record.id, "void", changed=False, voucher_id=record.id, amount=amount, currency=record.currency, customer=phone
    )
    if record.status == "void":
        return Answer(void)
    if record.status != "issued":
        raise Conflict(f"voucher {record.id} is {record.status}", "only an issued voucher can be voided")
    if check:
        return Answer(replace(void, changed=True), Kind.DIFFERS)
    what = f"{void.amount:,} {void.currency} of {void.customer}"
    session.confirm(f"void voucher {record.id} ({what}) on target {platform.target}?", yes=yes)
    async with _database(platform.url) as database, database.money() as transaction:
        by = By("http", session.process.actor, str(uuid4()))
        voided = await vouchers.void(transaction, by, voucher_id=record.id, customer=None, reason=_line(reason) or None)
        money.changed(voided, "voided")
    return Answer(replace(void, changed=True))


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Database]:
    """A connection for money transactions; a refusal leaves as a conflict, in an operator's words."""
    from agentops.agent.policy import Refused
    from agentops.store.database import Database

    database = await Database.open(url, size=1)
    try:
        yield database
    except Refused as refusal:
        if refusal.error == "feature_disabled":
            raise Conflict("vouchers are switched off", "agentops flags enable vouchers") from None
        raise Conflict(refusal.error, refusal.hint) from None
    finally:
        await database.close()


async def _one(platform: Platform, text: str) -> Record:
    from agentops.store import vouchers

    if text.isascii() and text.isdigit():
        raise UsageError(f"{text} is a request's number, not a voucher's id", f"agentops vouchers reject {text}")
    try:
        found = await vouchers.one(platform, str(UUID(text)))
    except ValueError:
        raise UsageError(f"{text!r} is no voucher's id", "agentops vouchers list") from None
    if found is None:
        raise NotFound(f"there is no voucher {text}", "agentops vouchers list")
    return found


async def _revealed(session: Session, platform: Platform, subject: str, detail: dict[str, object]) -> None:
    from agentops.store import audit

    await audit.record(platform, actor=session.process.actor, action="voucher.reveal", subject=subject, detail=detail)


def _phone(text: str | None) -> str | None:
    if text is None:
        return None
    from agentops.agent import phones

    return phones.normalised(text)


def _number(text: str) -> int:
    number = int(text)
    if number >= 2**63:
        raise NotFound(f"there is no request {text}", "agentops vouchers list --pending")
    return number


def _line(text: str) -> str:
    return str(scrub(" ".join(text.split())))


def _major(minor: int) -> int | float:
    return minor // 100 if minor % 100 == 0 else minor / 100


def _voucher(record: Record) -> Voucher:
    return Voucher(
        record.id,
        record.status,
        _major(record.amount_minor),
        record.currency,
        record.customer,
        record.created_at,
        record.issued_by,
    )


def _request(asked: Approval) -> Voucher:
    return Voucher(
        str(asked.id),
        asked.status,
        _major(asked.amount_minor),
        asked.currency,
        asked.customer,
        asked.requested_at,
        asked.requested_by,
    )


def _decided(asked: Approval, *, changed: bool) -> Change:
    phone = mask_phone(asked.customer)
    amount = _major(asked.amount_minor)
    return Change(str(asked.id), asked.status, changed, asked.voucher_id, amount, asked.currency, phone)
