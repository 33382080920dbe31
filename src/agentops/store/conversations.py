"""Conversations: one customer on one business number, leased whole by one worker at a time.

    inbox.claim(owner) → Lease(fence) → … every write of the worker locks the row and names the fence … → release

A lease that is not renewed ends; the next worker's claim counts the fence up, and the stopped one can write nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.errors import Conflict
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries

_SQL = statements(__file__)
LEASE_SECONDS = 30.0
# However long a customer goes on writing, the first of their messages waits no longer than this for the others.
BURST_CAP_SECONDS = 5.0


class LeaseLost(Conflict):
    """Another worker holds the conversation by now: whatever this one still does must leave no trace."""

    def __init__(self) -> None:
        super().__init__("another worker has taken over this conversation")


@dataclass(frozen=True, slots=True)
class Lease:
    """A conversation, held by `owner` under `fence`. `customer` is +E.164, or a user id where no phone is known."""

    conversation_id: int
    lane: str
    phone_id: str
    customer: str
    owner: str
    fence: int

    @property
    def key(self) -> dict[str, object]:
        """The parameters by which a statement recognises the holder."""
        return {"conversation": self.conversation_id, "owner": self.owner, "fence": self.fence}


async def renew(queries: Queries, leases: Sequence[Lease], *, seconds: float = LEASE_SECONDS) -> set[int]:
    """Hold the leases for another `seconds`; the ids of the conversations that are still held."""
    if not leases:
        return set()
    parameters = {
        "ids": [lease.conversation_id for lease in leases],
        "fences": [lease.fence for lease in leases],
        "owner": leases[0].owner,
        "seconds": seconds,
    }
    return {int(row["id"]) for row in await queries.query(_SQL["renew"], parameters)}


async def release(queries: Queries, lease: Lease, *, due_in: float | None = None) -> bool:
    """Let go of a lease; nothing happens where it is another's by now.

    Args:
        queries: a pool or a transaction.
        lease: what to let go.
        due_in: seconds until a worker may take what is still queued in it; None is at once.

    Returns:
        Whether something waits in it.
    """
    rows = await queries.query(_SQL["release"], {**lease.key, "due_in": due_in})
    return bool(rows and rows[0]["waits"])


async def release_all(queries: Queries, leases: Sequence[Lease]) -> bool:
    """Let go of leases of one owner; those that are another's by now stay as they are. What waits is due at once.

    Returns:
        Whether something waits in one of them.
    """
    if not leases:
        return False
    ids, fences = [lease.conversation_id for lease in leases], [lease.fence for lease in leases]
    rows = await queries.query(_SQL["release_all"], {"ids": ids, "fences": fences, "owner": leases[0].owner})
    return any(row["waits"] for row in rows)


async def hold(queries: Queries, lease: Lease) -> None:
    """Lock the conversation for the rest of the transaction.

    Raises:
        LeaseLost: it is another's by now.
    """
    if not await queries.query(_SQL["hold"], lease.key):
        raise LeaseLost
