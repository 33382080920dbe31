"""redeem_voucher: redeem an issued voucher of this customer, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentops.agent import money
from agentops.agent.fields import Answer, Body, Phone, Time, VoucherId
from agentops.agent.tool import Tool
from agentops.settings import VOUCHERS
from agentops.store import vouchers

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries


class Redeem(Body):
    """`{"voucher_id", "customer_msisdn"}`."""

    voucher_id: VoucherId
    customer_msisdn: Phone


class Redeemed(Answer):
    """`{success, voucher_id, status: "redeemed", redeemed_at}`."""

    voucher_id: str
    status: Literal["redeemed"] = "redeemed"
    redeemed_at: Time


async def _perform(request: Redeem, call: Call, queries: Queries) -> Redeemed:
    found = await vouchers.redeem(queries, call.by, voucher_id=request.voucher_id, customer=request.customer_msisdn)
    voucher = money.changed(found, "redeemed")
    return Redeemed(voucher_id=voucher.id, redeemed_at=voucher.changed_at)


TOOL = Tool(
    name="redeem_voucher",
    description="Redeem one of the customer's issued vouchers.",
    request=Redeem,
    answer=Redeemed,
    flag=VOUCHERS,
    perform=_perform,
    phone="customer_msisdn",
    moves_money=True,
)
