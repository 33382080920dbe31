"""The day's budget: no request to the model is made before its cost is reserved, for its customer and for everybody.

    reserve(request) → OverBudget: it is not made
                     → Reservation → OpenAI ─ answered          → settled to what the usage says
                                            ├ certainly no bill → given back
                                            └ nobody knows      → stays counted as if it had cost its bound

The last case is a timeout, an interrupted turn, a server's failure, and a worker that died.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentops.agent import prices
from agentops.errors import AgentOpsError, NotAuthorised, Unavailable, UsageError
from agentops.store import costs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.clients.openai import Reply
    from agentops.platforms import Queries
    from agentops.store.costs import Reservation


class OverBudget(AgentOpsError):
    """A request might cost more than the day has left. `limit` names what is used up."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"the budget of the day is used up ({limit})", "agentops limits show")
        self.limit = limit


class NotReserved(Unavailable):
    """The database did not say whether the budget has room: the request must not be made now."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One customer's account. `customer` is what their lanes are named by."""

    queries: Queries
    customer: str

    async def reserve(self, request: Mapping[str, Any]) -> Reservation:
        """Reserve the most that a request (the arguments of `OpenAI.respond`) can cost.

        Raises:
            OverBudget: it must not be made today.
            NotReserved: the database did not answer; nothing may be made.
        """
        try:
            found = await costs.reserve(self.queries, self.customer, prices.bound(**request))
        except AgentOpsError as failure:
            raise NotReserved(failure.message, failure.hint) from failure
        if isinstance(found, costs.Over):
            raise OverBudget(found.name)
        return found

    async def settle(self, reservation: Reservation, model: str, reply: Reply) -> None:
        """Settle a request that was answered; by its bound, where the server did not count its tokens."""
        cost = prices.cost(model, reply.usage)
        await self._settle(reservation, reservation.micros if cost is None else cost)

    async def give_back(self, reservation: Reservation, failure: AgentOpsError) -> None:
        """Take back the reservation of a request that failed, if this failure says that nobody will bill it."""
        from agentops.clients.openai import RateLimited, SpendLimit

        if isinstance(failure, (RateLimited, SpendLimit, NotAuthorised, UsageError)):
            await self._settle(reservation, 0)

    async def _settle(self, reservation: Reservation, micros: int) -> None:
        # What the model said is worth more than the difference, which stays counted.
        with suppress(AgentOpsError):
            await costs.settle(self.queries, reservation, micros)
