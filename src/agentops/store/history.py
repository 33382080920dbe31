"""What was said in a conversation: the model's own items, as they were sent and received."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentops.sql import statements
from agentops.storable import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries

    Item = dict[str, Any]

_SQL = statements(__file__)
# What the past may cost a turn.
TOKENS = 6_000
CHARACTERS_A_TOKEN = 4


async def recent(queries: Queries, conversation_id: int, limit: int) -> list[Item]:
    """The newest `limit` items and at most `TOKENS`, oldest first, beginning with something the customer said.

    What stands before that is left out: an answer without its question, a tool's output without its call (which the
    model's API refuses). Tokens are estimated: one for every four characters of an item's JSON.
    """
    rows = await queries.query(_SQL["recent"], {"conversation": conversation_id, "limit": limit})
    items: list[Item] = []
    left = TOKENS * CHARACTERS_A_TOKEN
    for row in reversed(rows):
        left -= len(json.dumps(row["item"], ensure_ascii=False))
        if left < 0:
            break
        items.insert(0, row["item"])
    first = next((place for place, item in enumerate(items) if item.get("role") == "user"), len(items))
    return items[first:]


async def append(queries: Queries, conversation_id: int, items: Sequence[Item]) -> None:
    """Add items in their order. Inside the transaction that holds the conversation."""
    await queries.query(_SQL["append"], {"conversation": conversation_id, "items": json.dumps(storable(list(items)))})
