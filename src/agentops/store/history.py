"""What was said in a conversation: the model's own items, as they were sent and received."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentops.sql import statements
from agentops.store.storable import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries

    Item = dict[str, Any]

_SQL = statements(__file__)


async def recent(queries: Queries, conversation_id: int, limit: int) -> list[Item]:
    """The newest `limit` items, oldest first, beginning with something the customer said.

    What stands before that is left out: an answer without its question, a tool's output without its call (which the
    model's API refuses).
    """
    rows = await queries.query(_SQL["recent"], {"conversation": conversation_id, "limit": limit})
    items: list[Item] = [row["item"] for row in rows]
    first = next((place for place, item in enumerate(items) if item.get("role") == "user"), len(items))
    return items[first:]


async def append(queries: Queries, conversation_id: int, items: Sequence[Item]) -> None:
    """Add items in their order. Inside the transaction that holds the conversation."""
    await queries.query(_SQL["append"], {"conversation": conversation_id, "items": json.dumps(storable(list(items)))})
