"""create_voucher: issue a voucher to a customer. A number without a profile is a customer too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentops.agent import money
from agentops.agent.fields import Amount, Answer, Body, Currency, Phone
from agentops.agent.tool import Tool
from agentops.settings import VOUCHERS
from agentops.store import vouchers

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries

_MINOR = 100


class Create(Body):
    """`{"customer_msisdn", "amount": 10000, "currency"?: "RWF"}`."""

    customer_msisdn: Phone
    amount: Amount
    currency: Currency = "RWF"


class Created(Answer):
    """`{success, voucher_id, status: "issued", amount, currency}`."""

    voucher_id: str
    status: Literal["issued"] = "issued"
    amount: int
    currency: str


async def _perform(request: Create, call: Call, queries: Queries) -> Created:
    found = await vouchers.issue(
        queries,
        call.by,
        customer=request.customer_msisdn,
        amount_minor=request.amount * _MINOR,
        currency=request.currency,
    )
    voucher = money.changed(found, "issued")
    return Created(voucher_id=voucher.id, amount=voucher.amount_minor // _MINOR, currency=voucher.currency)


TOOL = Tool(
    name="create_voucher",
    description="Issue a voucher to the customer for a whole amount.",
    request=Create,
    answer=Created,
    flag=VOUCHERS,
    perform=_perform,
    phone="customer_msisdn",
    moves_money=True,
)
