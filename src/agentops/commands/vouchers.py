"""See vouchers and requests for them; approve, reject and void.

Phones and codes are masked; --reveal shows them, and that is audited.

A voucher has a UUID; a request that waits for approval has a number. Approving takes another actor than the one who
asked. Actors are self-declared (AGENTOPS_ACTOR): this guards against mistakes, not against malice. The customer is told
on WhatsApp, where chat is on and they wrote within the last 24 hours; else they hear of it when they write next.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID, uuid4

import typer

from agentops.commands import MASKED, Check, Reveal, Yes
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


# Why a customer is not told of a decision.
_TOLD = {
    "window_closed": "no: 24 h without a message; they hear it next time",
    "chat_off": "no: chat is off; they hear it when they write next",
    "no_conversation": "no: they have never written to the agent",
}


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher, or a request for one. `amount` is in major units, `by` who issued it or asked for it."""

    id: str
    status: str
    amount: int | float
    currency: str = field(metadata={"spare": 1})
    customer: str
    created_at: datetime
    by: str | None = field(metadata={"spare": 2})


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
    told: str | None
    ledger: Sequence[Entry]

    def text(self) -> str:
        """For people: what is known, then the ledger line by line."""
        named = {
            "voucher" if self.code else "request": f"{self.id}, {self.status}",
            "amount": f"{self.amount:,} {self.currency}",
            "customer": self.customer,
            "code": self.code,
            "created": _clock(self.created_at),
            "by": self.by,
            "issued as": None if self.voucher_id == self.id else self.voucher_id,
            "decided": f"{_clock(self.decided_at)} by {self.decided_by}" if self.decided_at else None,
            "reason": self.reason,
            "told": self.told and _TOLD.get(self.told, self.told),
        }
        lines = [f"{name:<10}{words}" for name, words in named.items() if words]
        ledger = [f"  {_clock(each.at)}  {each.kind:<6}  {each.channel:<5}  {each.actor}" for each in self.ledger]
        return "\n".join([*lines, *(["ledger", *ledger] if ledger else [])])


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


@dataclass(frozen=True, slots=True)
class Decision(Change):
    """What became of a request.

    `told` is the state of the message that tells the customer (`queued`, then as in the outbox), or why there is none:
    `window_closed`, `chat_off`, `no_conversation`. With --check it is what it would be.
    """

    told: str | None


async def list_(  # noqa: PLR0917 - options are given by name
    session: Session,
    status: Annotated[
        Literal["issued", "redeemed", "expired", "void"] | None,
        typer.Option("--status", metavar="STATUS", help="issued, redeemed, expired or void."),
    ] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="PHONE", help="Only this customer's.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Requests that wait for approval, instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many, newest first.")] = 50,
    reveal: Reveal = False,
) -> list[Voucher]:
    """List vouchers, newest first; with --pending the requests that wait."""
    from agentops.store import approvals, vouchers

    phone = _phone(customer)
    if pending and status:
        raise UsageError("--pending and --status exclude each other", "requests that wait are no vouchers yet")
    platform = await session.local()
    if pending:
        found = [_request(entry) for entry in await approvals.pending(platform, customer=phone, limit=limit)]
    else:
        records = await vouchers.listed(platform, status=status, customer=phone, limit=limit)
        found = [_voucher(entry) for entry in records]
    if reveal and found:
        await _revealed(session, platform, "list", {"count": len(found), "ids": [entry.id for entry in found]})
    return found if reveal else [replace(entry, customer=mask_phone(entry.customer)) for entry in found]


async def show(session: Session, id: Id, reveal: Reveal = False) -> Answer:
    """Show a voucher with its ledger, or a request with its decision."""
    from agentops.store import approvals, vouchers

    platform = await session.local()
    if id.isascii() and id.isdigit():
        asked = await approvals.one(platform, _number(id))
        if asked is None:
            raise NotFound(f"there is no request {id}", "agentops vouchers list --pending")
        head, code = _request(asked), None
        ledger = await vouchers.entries(platform, asked.voucher_id) if asked.voucher_id else []
        rest = (asked.voucher_id, asked.decided_by, asked.decided_at, asked.reason, asked.told)
    else:
        record = await _one(platform, id)
        head, code, ledger = _voucher(record), record.code_5, await vouchers.entries(platform, record.id)
        rest = (record.id, None, None, None, None)
    if reveal:
        await _revealed(session, platform, head.id, {})
    phone = head.customer if reveal else mask_phone(head.customer)
    code = code if reveal or code is None else "*****"
    shown = Shown(
        head.id, head.status, head.amount, head.currency, phone, code, head.created_at, head.by, *rest, ledger=ledger
    )
    return Answer(shown, note=None if reveal else MASKED)


async def approve(session: Session, number: Number, check: Check = False) -> Answer:
    """Approve a request: its limits are reserved and its voucher issued, now. Not by the one who asked.

    The customer gets one WhatsApp message, where chat is on and they wrote within 24 hours; the result says so.
    """
    from agentops.agent import granting
    from agentops.store import approvals

    actor = session.process.actor
    platform = await session.local()
    asked = granting.approvable(await approvals.one(platform, number), number, actor)
    waits = asked.status == "pending"
    if check or not waits:
        return await _planned(platform, asked)
    await session.warn_unserved()
    async with _database(platform.url) as database:
        done, changed = await granting.approve(database, number, actor=actor)
    return Answer(_decided(done, changed=changed), note=_told(done))


async def reject(session: Session, number: Number, reason: Reason = "", check: Check = False) -> Answer:
    """Reject a request: it ends without a voucher. The customer is told as for `approve`; the reason is not."""
    from agentops.agent import granting
    from agentops.store import approvals

    platform = await session.local()
    asked = granting.rejectable(await approvals.one(platform, number), number)
    waits = asked.status == "pending"
    if check or not waits:
        return await _planned(platform, asked)
    await session.warn_unserved()
    async with _database(platform.url) as database:
        done, changed = await granting.reject(
            database, number, actor=session.process.actor, reason=_line(reason) or None
        )
    return Answer(_decided(done, changed=changed), note=_told(done))


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


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


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


async def _planned(platform: Platform, asked: Approval) -> Answer:
    """What deciding would do now: nothing where it is decided, else whether the customer would be told."""
    from agentops.store import approvals

    if asked.status != "pending":
        return Answer(_decided(asked, changed=False))
    told = (await approvals.reach(platform, asked.customer)).told
    return Answer(replace(_decided(asked, changed=True), told=told), Kind.DIFFERS)


def _decided(asked: Approval, *, changed: bool) -> Decision:
    phone = mask_phone(asked.customer)
    amount = _major(asked.amount_minor)
    return Decision(str(asked.id), asked.status, changed, asked.voucher_id, amount, asked.currency, phone, asked.told)


def _told(asked: Approval) -> str:
    """A sentence for eyes: whether the customer hears of the decision, and if not, why."""
    why = _TOLD.get(asked.told or "")
    if why:
        return f"  the customer is NOT told: {why.removeprefix('no: ')}"
    return f"  the customer is told on WhatsApp; whether it arrives: agentops vouchers show {asked.id}"
