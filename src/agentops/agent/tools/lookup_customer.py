"""lookup_customer: is there a customer with this phone number, and what is their name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.agent.fields import Answer, Body, Phone
from agentops.agent.tool import Tool
from agentops.settings import CUSTOMER_LOOKUP
from agentops.store import audit, profiles

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries


class Lookup(Body):
    """`{"msisdn": "+250788000000"}`."""

    msisdn: Phone


class Found(Answer):
    """`{success, exists, name?, msisdn, customer_id?}`."""

    exists: bool
    name: str | None = None
    msisdn: str
    customer_id: str | None = None


async def _perform(request: Lookup, call: Call, queries: Queries) -> Found:
    if call.principal.staff and request.msisdn != call.principal.phone:
        await audit.record(
            queries,
            actor=call.principal.actor,
            action="customer.lookup",
            subject=call.masked["msisdn_masked"],
            detail={"channel": call.principal.channel, "correlation_id": call.correlation_id},
        )
    profile = await profiles.by_phone(queries, request.msisdn)
    if profile is None:
        return Found(exists=False, msisdn=request.msisdn)
    return Found(exists=True, name=profile.name, msisdn=request.msisdn, customer_id=profile.customer_id)


TOOL = Tool(
    name="lookup_customer",
    description="Find the customer's record: whether they are registered, and their name.",
    request=Lookup,
    answer=Found,
    flag=CUSTOMER_LOOKUP,
    perform=_perform,
    phone="msisdn",
    words={"msisdn": "Invalid msisdn parameter"},
)
