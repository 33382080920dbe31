"""Business numbers that Meta does not let send for now, and why.

Graph refuses → block(reason) ── rate: until a time, four times as long after every refusal
                              ├─ token: until the settings change      policy: for an hour
                              └─ then one reply is tried: accepted → unblocked · refused → blocked again

A refusal by status webhook, after Meta had accepted the reply, blocks too (`store.statuses`); then only a status that
something arrived unblocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.sql import statements
from agentops.store.conversations import LeaseLost
from agentops.store.inbox import CHANNEL
from agentops.store.outbox import LONGEST_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries, Row
    from agentops.store.conversations import Lease

_SQL = statements(__file__)

Reason = Literal["rate", "token", "policy"]
# How long until one reply is tried again. For a token that is the floor: it is tried when the settings change.
SECONDS: dict[Reason, float] = {"rate": 4.0, "token": 900.0, "policy": 3600.0}


@dataclass(frozen=True, slots=True)
class Blocked:
    """A number that may not send, for how many seconds already, and how many replies wait for it."""

    phone_id: str
    reason: Reason
    code: int | None
    seconds: float
    waiting: int


async def block(
    queries: Queries, lease: Lease, outbox_id: str, reason: Reason, *, error: str, code: int | None, generation: int
) -> float:
    """Block the lease's number and put the reply back; the seconds until it may be tried again.

    Args:
        queries: a pool or a transaction.
        lease: the conversation of the reply.
        outbox_id: the reply that was refused.
        reason: what kind of block.
        error: Meta's refusal in words.
        code: and as its code.
        generation: of the settings with which it was sent; newer ones are tried at once.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {
        **lease.key,
        "id": outbox_id,
        "reason": reason,
        "seconds": SECONDS[reason],
        "longest": LONGEST_BACKOFF,
        "error": error,
        "code": code,
        "generation": generation,
    }
    rows = await queries.query(_SQL["block"], parameters)
    if not rows:
        raise LeaseLost
    return float(rows[0]["seconds"])


async def lift(queries: Queries) -> list[str]:
    """End the blocks that newer settings may have cured, and make what waits for them due; the numbers' ids."""
    return await _freed(queries, await queries.query(_SQL["lift"]))


async def proven(queries: Queries, ids: Sequence[str]) -> list[str]:
    """End the blocks that these replies' arrival disproves, and make what waits for them due; the numbers' ids."""
    return await _freed(queries, await queries.query(_SQL["proven"], {"ids": list(ids)})) if ids else []


async def wake(queries: Queries, phone_ids: Sequence[str]) -> None:
    """Make the replies due that wait for these numbers."""
    await queries.query(_SQL["wake"], {"phone_ids": list(phone_ids), "channel": CHANNEL})


async def _freed(queries: Queries, rows: Sequence[Row]) -> list[str]:
    phone_ids = [str(row["phone_id"]) for row in rows]
    if phone_ids:
        await wake(queries, phone_ids)
    return phone_ids


async def blocked(queries: Queries) -> list[Blocked]:
    """The numbers that may not send, the longest blocked first."""
    return [Blocked(**row) for row in await queries.query(_SQL["blocked"])]
