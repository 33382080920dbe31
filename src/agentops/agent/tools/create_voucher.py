"""create_voucher: issue a voucher to a customer. A number without a profile is a customer too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agentops.agent import granting
from agentops.agent.fields import Amount, Answer, Body, Currency, Phone
from agentops.agent.tool import Tool
from agentops.settings import VOUCHERS

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
    """`{success, voucher_id, status: "issued", amount, currency}`.

    Above the limit voucher-approval-above there is no voucher yet: `{success, status: "pending_approval", approval_id,
    amount, currency}`.
    """

    voucher_id: str | None = None
    status: Literal["issued", "pending_approval"] = "issued"
    approval_id: int | None = None
    amount: int
    currency: str


async def _perform(request: Create, call: Call, queries: Queries) -> Created:
    wanted = granting.Wanted(request.customer_msisdn, request.amount * _MINOR, request.currency)
    found = await granting.grant(queries, call, wanted)
    if isinstance(found, granting.Waiting):
        return Created(
            status="pending_approval", approval_id=found.approval_id, amount=request.amount, currency=request.currency
        )
    return Created(voucher_id=found.id, amount=found.amount_minor // _MINOR, currency=found.currency)


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
