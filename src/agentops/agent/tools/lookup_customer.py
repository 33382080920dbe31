"""lookup_customer: is there a customer with this phone number, and what is their name.

A server process keeps answers for five minutes (`store/lookups`); that staff looked another customer up is audited
every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.agent import policy
from agentops.agent.fields import Answer, Body, Phone
from agentops.agent.tool import Tool
from agentops.settings import CUSTOMER_LOOKUP
from agentops.store import audit, profiles
from agentops.store.lookups import Asked

if TYPE_CHECKING:
    from agentops.agent.outcome import Call
    from agentops.platforms import Queries
    from agentops.store.profiles import Profile

# The function whose loading again forgets what was kept.
_SLUG = "ai-lookup-customer"


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
    if _of_another(request, call):
        await audit.record(
            queries,
            actor=call.principal.actor,
            action="customer.lookup",
            subject=call.masked["msisdn_masked"],
            detail={"channel": call.principal.channel, "correlation_id": call.correlation_id},
        )
    lookups = call.stack.lookups
    ticket = lookups.ticket()
    profile = await profiles.by_phone(queries, request.msisdn)
    lookups.keep(_asked(request, call), ticket, profile)
    return _found(request, profile)


def _recall(request: Lookup, call: Call) -> Found | None:
    known = None if _of_another(request, call) else call.stack.lookups.find(_asked(request, call))
    return None if known is None else _found(request, known.profile)


def _of_another(request: Lookup, call: Call) -> bool:
    """Whether staff name somebody else."""
    return call.principal.staff and request.msisdn != call.principal.phone


def _asked(request: Lookup, call: Call) -> Asked:
    deployed = call.stack.functions.get(_SLUG)
    walled = policy.walled(call.principal) is not None
    return Asked(request.msisdn, walled, f"{deployed.version} {deployed.deployed_at}" if deployed else "")


def _found(request: Lookup, profile: Profile | None) -> Found:
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
    recall=_recall,
    words={"msisdn": "Invalid msisdn parameter"},
)
