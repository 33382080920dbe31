"""Tells a customer what became of a voucher that waited for approval: one message, or words for the next turn.

    decided (money transaction) → reach ── chat on, wrote within 24 hours → inbox + outbox row → a worker sends it, once
                                       └── else: not sent, and the model is told to say it when they write next

The words are the same whoever asked for the voucher, the customer or staff for them: both are true for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.store import approvals, history

if TYPE_CHECKING:
    from agentops.platforms import Queries
    from agentops.store.approvals import Approval, Told

_MINOR = 100


async def tell(queries: Queries, asked: Approval, voucher_id: str | None) -> Told:
    """Tell the customer that their request was approved (with its voucher) or rejected (without one).

    Args:
        queries: the transaction of the decision, so that one is never without the other.
        asked: the request, locked.
        voucher_id: the voucher that was issued for it.

    Returns:
        `queued` where a message goes out; else why not.
    """
    found = await approvals.reach(queries, asked.customer)
    if found.conversation is None:
        return found.told
    said = words(asked, voucher_id)
    item = {"role": "assistant", "content": said}
    if found.told == "queued":
        if not await approvals.notify(queries, asked, found.conversation, said):
            return "no_conversation"
    else:
        # The model's own form of a word from the system: only we write such items, never the customer.
        item = {"role": "developer", "content": f"{said} The customer has not been told yet: tell them now."}
    await history.append(queries, found.conversation, [item])
    return found.told


def words(asked: Approval, voucher_id: str | None) -> str:
    """What the customer reads. The voucher's number is in it: the model finds it there when they want to redeem it."""
    major = asked.amount_minor / _MINOR
    amount = f"{major:,.2f}".removesuffix(".00")
    if voucher_id is None:
        return f"The voucher of {amount} {asked.currency} for you was not approved."
    return f"The voucher of {amount} {asked.currency} for you was approved. Its number is {voucher_id}."
