"""Ask the model once, through its trouble: again after a pause where that may help, not at all where it cannot.

    breaker open → at once an error · 429, 5xx, timeout → up to three tries within the deadline · a spend limit → none
    each try: its cost reserved → one request → settled (agent/budget)

The pauses have full jitter and heed Retry-After.
Events: `ai.openai.retry`, `ai.openai.breaker` (its new state).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.agent.budget import Budget
    from agentops.clients.breaker import Breaker
    from agentops.clients.openai import Reply
    from agentops.stack import Stack
    from agentops.store.costs import Reservation

TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
# A request that gets less time than this is not worth its pause.
LEAST_SECONDS = 1.0


async def ask(stack: Stack, budget: Budget, deadline: float, **request: Any) -> Reply:  # noqa: ANN401 - `OpenAI.respond`'s own
    """The model's answer to `request` (the arguments of `OpenAI.respond`) by the monotonic `deadline`.

    Raises:
        OverBudget, NotReserved: its cost could not be reserved; it was not asked.
        SpendLimit, NotAuthorised, UsageError: asking again cannot help.
        Unavailable: it did not answer, however often it was asked, or the breaker is open.
    """
    client = stack.clients.openai(stack.secrets)
    for attempt in range(1, TRIES + 1):
        reservation = await _admitted(client.breaker, budget, request)
        try:
            reply = await client.respond(**request, deadline_seconds=max(deadline - time.monotonic(), 0.1))
        except Unavailable as failure:
            _tell(stack, client.breaker.report(well=False), failure)
            await budget.give_back(reservation, failure)
            pause = _pause(failure, attempt)
            if pause is None or time.monotonic() + pause + LEAST_SECONDS > deadline:
                raise
            stack.events.warning(
                "ai.openai.retry", attempt=attempt, error=failure.message, retry_in_ms=round(pause * 1000)
            )
            await asyncio.sleep(pause)
        except AgentOpsError as failure:
            # It answered, if only to refuse.
            _tell(stack, client.breaker.report(well=True), None)
            await budget.give_back(reservation, failure)
            raise
        except BaseException:  # also of a cancellation: the breaker's one probe must not stay taken
            client.breaker.abandon()
            raise
        else:
            _tell(stack, client.breaker.report(well=True), None)
            await budget.settle(reservation, request["model"], reply)
            return reply
    raise AssertionError  # the last try returns or raises


async def _admitted(breaker: Breaker, budget: Budget, request: Mapping[str, Any]) -> Reservation:
    """The breaker's leave and then the money: neither is taken without the other."""
    breaker.admit()
    try:
        return await budget.reserve(request)
    except BaseException:  # as above
        breaker.abandon()
        raise


def _pause(failure: Unavailable, attempt: int) -> float | None:
    """Seconds before the next try; None where there is none."""
    from agentops.clients.openai import SpendLimit

    if attempt >= TRIES or isinstance(failure, SpendLimit):
        return None
    jitter = random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempt))  # noqa: S311 - spreads load, guards nothing
    return max(jitter, getattr(failure, "retry_after", None) or 0.0)


def _tell(stack: Stack, state: str | None, failure: Unavailable | None) -> None:
    if state == "open":
        words = failure.message if failure else None
        stack.events.error("ai.openai.breaker", state=state, error=words, hint="agentops health")
    elif state:
        stack.events.info("ai.openai.breaker", state=state)
