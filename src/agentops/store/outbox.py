"""The outbox: a reply is written down before it is sent, and never sent again where it may have arrived.

put → pending → sending → sent → delivered → read      (the last two by Meta's status webhooks)
                   │    └→ pending      certainly not sent: may be tried again
                   ├→ uncertain         no answer, or the worker died: waits for a status webhook, is not resent
                   └→ failed
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.sql import statements
from agentops.store.conversations import LeaseLost
from agentops.store.storable import storable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from agentops.platforms import Queries
    from agentops.store.conversations import Lease
    from agentops.store.inbox import Message, Outcome

_SQL = statements(__file__)

Settled = Literal["sent", "uncertain", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """A status webhook: `callback_data` is the outbox row's id where Meta echoes it."""

    wamid: str
    state: Literal["sent", "delivered", "read", "failed"]
    callback_data: UUID | None = None
    error: str | None = None


async def put(queries: Queries, lease: Lease, message: Message, body: str) -> str:
    """Write down the one reply to a message; its id. Inside the transaction that holds the conversation."""
    parameters = {
        "conversation": lease.conversation_id,
        "inbox": message.id,
        "correlation_id": message.correlation_id,
        "body": storable(body),
    }
    return str((await queries.query(_SQL["put"], parameters))[0]["id"])


async def sending(queries: Queries, lease: Lease, outbox_id: str, flag: str) -> bool:
    """Take a pending reply for sending; False where the flag is off, or it is not pending.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    rows = await queries.query(_SQL["sending"], {**lease.key, "id": outbox_id, "flag": flag})
    if not rows[0]["held"]:
        raise LeaseLost
    return bool(rows[0]["taken"])


async def again(queries: Queries, lease: Lease, outbox_id: str, error: str) -> None:
    """Put a reply back that certainly was not sent.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    if not await queries.query(_SQL["again"], {**lease.key, "id": outbox_id, "error": error}):
        raise LeaseLost


async def settle(
    queries: Queries,
    lease: Lease,
    outbox_id: str,
    state: Settled,
    outcome: Outcome,
    *,
    wamid: str | None = None,
    error: str | None = None,
) -> None:
    """End a reply and, in the same statement, the message that it answers. A status that came first is kept.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {
        **lease.key,
        "id": outbox_id,
        "state": state,
        "outcome": outcome,
        "wamid": wamid,
        "error": error,
    }
    if not await queries.query(_SQL["settle"], parameters):
        raise LeaseLost


async def statuses(queries: Queries, found: Sequence[Status]) -> int:
    """Apply status webhooks, in any order, twice or not; how many replies changed."""
    if not found:
        return 0
    content = [
        {
            "wamid": each.wamid,
            "state": each.state,
            "id": str(each.callback_data) if each.callback_data else None,
            "error": each.error,
        }
        for each in found
    ]
    return len(await queries.query(_SQL["statuses"], {"statuses": json.dumps(content)}))
