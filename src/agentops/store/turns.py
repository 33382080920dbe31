"""The steps of a turn under way: what the model answered, kept before anything is done about it.

begun turn → recorded(turn) → replayed, in order → the model is asked for the next one → record(step) → its tool calls
history.append + forget(turn), one commit                     a worker died in between: the next one begins above
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentops.sql import statements
from agentops.storable import storable
from agentops.store.conversations import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Queries
    from agentops.store.conversations import Lease

_SQL = statements(__file__)
# Tool calls that one customer may cause, in so many seconds.
TOOL_CALLS, TOOL_CALLS_SECONDS = 10, 60


@dataclass(frozen=True, slots=True)
class Step:
    """One answer of the model: its output items, its words, its tokens. `allowed` of its tool calls may be done."""

    items: list[dict[str, Any]]
    text: str
    usage: Mapping[str, int]
    model: str
    allowed: int = 0

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls among its items."""
        return [item for item in self.items if item.get("type") == "function_call"]


async def recorded(queries: Queries, turn: int) -> list[Step]:
    """The steps that earlier attempts of the turn have paid for, in order. `turn` is its last message's number."""
    return [Step(**row) for row in await queries.query(_SQL["recorded"], {"turn": turn})]


async def record(queries: Queries, lease: Lease, turn: int, ordinal: int, step: Step) -> Step:
    """Keep a step, and reserve its tool calls from the customer's rate.

    Args:
        queries: a pool.
        lease: the conversation.
        turn: the number of the turn's last message.
        ordinal: the step's place in the turn, from 0.
        step: what the model answered.

    Returns:
        The step with the number of its tool calls that may be done.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {
        **lease.key,
        "turn": turn,
        "ordinal": ordinal,
        "items": json.dumps(storable(step.items)),
        "text": storable(step.text),
        "usage": json.dumps(dict(step.usage)),
        "model": storable(step.model),
        "calls": len(step.calls),
        "limit": TOOL_CALLS,
        "seconds": TOOL_CALLS_SECONDS,
    }
    rows = await queries.query(_SQL["record"], parameters)
    if not rows:
        raise LeaseLost
    return replace(step, allowed=int(rows[0]["allowed"]))


async def forget(queries: Queries, turn: int) -> None:
    """The turn is settled. Inside the transaction that holds the conversation."""
    await queries.query(_SQL["forget"], {"turn": turn})
