"""Whether a voucher may be issued now: its limits, and whether somebody has to approve it first.

    create (chat, voice) → the stack's currency → above voucher-approval-above: a request that waits
                                                → limits reserved → issued          all in one money transaction
    approve (another actor) → limits reserved → issued → the customer is told (agent/notices)

Operators' direct calls are bound by the limits of all customers together only, and by these only where somebody has set
them: whoever holds the service key decides what the limits are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentops.agent import money, notices, policy
from agentops.agent.policy import Refused
from agentops.counts import counted
from agentops.errors import Conflict, NotAuthorised, NotFound
from agentops.store import approvals, limits, vouchers
from agentops.store.vouchers import By

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries
    from agentops.stack import Stack
    from agentops.store.approvals import Approval
    from agentops.store.database import Database
    from agentops.store.limits import Reached
    from agentops.store.vouchers import Voucher

DEFAULT_CURRENCY = "RWF"
_OF_ALL = frozenset({"day-count", "day-sum"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A voucher that somebody asks for: for whom (E.164), and how much, in minor units."""

    customer: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that somebody has to approve."""

    approval_id: int


def currency(stack: Stack) -> str:
    """The stack's own currency (AGENT_CURRENCY, else RWF): limits are amounts of it."""
    return stack.secret("AGENT_CURRENCY") or DEFAULT_CURRENCY


async def grant(queries: Queries, call: Call, wanted: Wanted) -> Voucher | Waiting:
    """Issue a voucher within its limits, or write down that it waits for an approval.

    Raises:
        Refused: a limit is reached (403), another currency (400), and whatever hinders the issue itself.
    """
    rules = await limits.rules(queries)
    if not policy.limited(call.principal):
        if not _OF_ALL.isdisjoint(rules.stored):
            await _reserve(queries, replace(rules, defaults=False), wanted, customer=None)
        return await _issue(queries, call.by, wanted)
    own = currency(call.stack)
    if wanted.currency != own:
        # A limit of 50,000 francs would be none in dinars.
        raise Refused(400, "Invalid currency", f"vouchers here are in {own}")
    most, threshold = rules.minor("voucher-max"), rules.minor("voucher-approval-above")
    if threshold is None or wanted.amount_minor <= threshold or (most is not None and wanted.amount_minor > most):
        await _reserve(queries, rules, wanted, customer=wanted.customer)
        return await _issue(queries, call.by, wanted)
    return await _request(queries, call.by, wanted)


async def approve(database: Database, number: int, *, actor: str) -> tuple[Approval, bool]:
    """Issue the voucher that a request waits for; the request as it is then, and whether this changed it.

    Raises:
        NotFound, NotAuthorised: there is no such request; it is the actor's own.
        Conflict: it was rejected, or a limit is reached.
        Refused: vouchers are switched off, no code is free.
    """
    async with database.money() as transaction:
        found = approvable(await approvals.locked(transaction, number), number, actor)
        if found.status == "approved":
            return await _as_decided(transaction, found), False
        wanted = Wanted(found.customer, found.amount_minor, found.currency)
        rules = await limits.rules(transaction)
        try:
            await _reserve(transaction, rules, wanted, customer=found.customer)
        except Refused as refusal:
            raise Conflict(refusal.error, "agentops limits show") from None
        voucher = await _issue(transaction, By("http", actor, found.correlation_id), wanted)
        told = await notices.tell(transaction, found, voucher.id)
        await approvals.decide(transaction, number, actor=actor, voucher_id=voucher.id, told=told)
        return await _as_decided(transaction, found), True


async def reject(database: Database, number: int, *, actor: str, reason: str | None) -> tuple[Approval, bool]:
    """Close a request without a voucher; whoever asked may take their own request back.

    Raises:
        NotFound: there is no such request.
        Conflict: it was approved.
    """
    async with database.bounded() as transaction:
        found = rejectable(await approvals.locked(transaction, number), number)
        if found.status == "rejected":
            return await _as_decided(transaction, found), False
        told = await notices.tell(transaction, found, None)
        await approvals.decide(transaction, number, actor=actor, reason=reason, told=told)
        return await _as_decided(transaction, found), True


def approvable(found: Approval | None, number: int, actor: str) -> Approval:
    """A request that this actor may approve, or that is approved already.

    Raises:
        NotFound, NotAuthorised, Conflict: as `approve`.
    """
    if found is None:
        raise _missing(number)
    if found.status == "rejected":
        raise Conflict(f"request {number} was rejected by {found.decided_by}", "have the customer ask again")
    if found.requested_by == actor:
        raise NotAuthorised(f"request {number} is {actor}'s own", "somebody else has to approve it")
    return found


def rejectable(found: Approval | None, number: int) -> Approval:
    """A request that can still be rejected, or that is rejected already.

    Raises:
        NotFound, Conflict: as `reject`.
    """
    if found is None:
        raise _missing(number)
    if found.status == "approved":
        raise Conflict(
            f"request {number} was approved by {found.decided_by}", f"agentops vouchers void {found.voucher_id}"
        )
    return found


async def _as_decided(queries: Queries, found: Approval) -> Approval:
    """The request as it is now, with what became of the message to the customer."""
    return await approvals.one(queries, found.id) or found


def _missing(number: int) -> NotFound:
    return NotFound(f"there is no request {number}", "agentops vouchers list --pending")


async def _reserve(queries: Queries, rules: limits.Rules, wanted: Wanted, *, customer: str | None) -> None:
    reached = await limits.reserve(queries, rules, customer=customer, amount_minor=wanted.amount_minor)
    if reached is not None:
        # 403 is not kept under an idempotency key, and it rolls back: tomorrow, or with a new limit, it may pass.
        raise Refused(403, _words(reached, wanted.currency), event="error")


def _words(reached: Reached, unit: str) -> str:
    told = {
        "voucher-max": f"at most {reached.value} {unit} per voucher",
        "customer-day-count": f"at most {counted(reached.value, 'voucher')} a day for one customer",
        "customer-day-sum": f"at most {reached.value} {unit} a day for one customer",
    }
    # What all customers have together is nobody's business.
    return f"Limit reached: {told.get(reached.name, 'no more vouchers can be issued today')}"


async def _issue(queries: Queries, by: By, wanted: Wanted) -> Voucher:
    found = await vouchers.issue(
        queries, by, customer=wanted.customer, amount_minor=wanted.amount_minor, currency=wanted.currency
    )
    return money.changed(found, "issued")


async def _request(queries: Queries, by: By, wanted: Wanted) -> Waiting:
    found = await approvals.request(
        queries, by, customer=wanted.customer, amount_minor=wanted.amount_minor, currency=wanted.currency
    )
    if isinstance(found, int):
        return Waiting(found)
    if found == "disabled":
        raise Refused(403, "feature_disabled")
    if found == "waiting":
        raise Refused(409, "Another request of this customer waits for approval", event="error")
    raise Refused(503, "temporarily unavailable", retry_after=1)
