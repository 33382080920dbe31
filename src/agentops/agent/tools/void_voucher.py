"""void_voucher: make an issued voucher worthless. Operators and staff: anybody's; customers: their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentops.agent import money, policy
from agentops.agent.fields import Answer, Body, Reason, Time, VoucherId
from agentops.agent.tool import Tool
from agentops.settings import VOUCHERS
from agentops.store import vouchers

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries


class Void(Body):
    """`{"voucher_id", "reason"?}`."""

    voucher_id: VoucherId
    reason: Reason | None = None


class Voided(Answer):
    """`{success, voucher_id, status: "void", voided_at}`."""

    voucher_id: str
    status: Literal["void"] = "void"
    voided_at: Time


async def _perform(request: Void, call: Call, queries: Queries) -> Voided:
    found = await vouchers.void(
        queries,
        call.by,
        voucher_id=request.voucher_id,
        customer=policy.owner(call.principal),
        reason=request.reason or None,
    )
    voucher = money.changed(found, "voided")
    return Voided(voucher_id=voucher.id, voided_at=voucher.changed_at)


TOOL = Tool(
    name="void_voucher",
    description="Void an issued voucher, so that it can never be redeemed.",
    request=Void,
    answer=Voided,
    flag=VOUCHERS,
    perform=_perform,
    moves_money=True,
)
