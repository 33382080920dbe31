"""The inbox: every message received, once. Dedupe, durability, order and evidence are the same row.

receive(messages) ── one statement, committed before the sender gets its 200 ──> queued | skipped
conversations.claim → queued(leases) → Job → begin(message) → … → finish → done | skipped | dead
                                                            └── fail → queued again | dead
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentops.sql import statements
from agentops.store.conversations import Lease, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from agentops.platforms import Queries

_SQL = statements(__file__)
ATTEMPTS = 5
# Turns that ended without a word took their worker along. Most often the message is not to blame (the worker was
# killed), so it gets more of them before it is.
BEGUN_AT_MOST = 12
# How many messages of one conversation a claim takes; the rest follow in the next one.
TAKEN = 20
CHANNEL = "agentops_inbox"

Outcome = Literal["done", "skipped", "dead"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message to be stored. `lane` None: from nobody who could be answered. `answerable`: somebody should answer."""

    message_id: str
    lane: str | None
    phone_id: str
    customer: str
    kind: str
    answerable: bool
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a batch: numbers of new messages by state, of known ones, and whether the flag was on."""

    queued: int
    skipped: int
    duplicates: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A queued message. `attempts` are the turns begun up to the moment it was read."""

    id: int
    message_id: str
    slug: str
    correlation_id: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """One conversation under lease, with its queued messages of one function in order.

    `stopping` tells that the worker wants to end: what is begun is finished, the rest stays queued.
    """

    lease: Lease
    slug: str
    messages: tuple[Message, ...]
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn begins. `enabled` is False where the flag is off, or was off at any time since the message came.

    `outbox_id`, `outbox_state`, `body`: the reply that an earlier turn wrote down, if it came so far.
    """

    enabled: bool
    attempts: int
    outbox_id: str | None
    outbox_state: str | None
    body: str | None


async def receive(
    queries: Queries, slug: str, correlation_id: str, flag: str, messages: Sequence[Incoming]
) -> Received:
    """Store a batch in one transaction and wake the workers once; what is known already is left alone.

    With the flag off everything is stored as skipped, and switching it on later answers none of it.
    """
    batch = [
        {
            "position": position,
            "message_id": message.message_id,
            "lane": message.lane,
            "phone_id": message.phone_id,
            "customer": message.customer,
            "kind": message.kind,
            "answerable": message.answerable and message.lane is not None,
            "payload": message.payload,
        }
        for position, message in enumerate(messages)
    ]
    parameters = {
        "messages": json.dumps(batch),
        "slug": slug,
        "correlation_id": correlation_id,
        "flag": flag,
        "channel": CHANNEL,
    }
    row = (await queries.query(_SQL["receive"], parameters))[0]
    known = len(messages) - row["queued"] - row["skipped"]
    return Received(row["queued"], row["skipped"], known, row["enabled"])


async def queued(queries: Queries, leases: Sequence[Lease]) -> list[Job]:
    """The queued messages of leased conversations: per conversation one job, of the function of its first message."""
    if not leases:
        return []
    ids = [lease.conversation_id for lease in leases]
    rows = await queries.query(_SQL["queued"], {"ids": ids, "taken": TAKEN})
    found: dict[int, list[Message]] = defaultdict(list)
    for row in rows:
        found[row.pop("conversation_id")].append(Message(**row))
    jobs = []
    for lease in leases:
        messages = found[lease.conversation_id]
        slug = messages[0].slug if messages else ""
        jobs.append(Job(lease, slug, tuple(message for message in messages if message.slug == slug)))
    return jobs


async def begin(queries: Queries, lease: Lease, message: Message, flag: str) -> Begun | None:
    """Count the attempt and see what an earlier one left; None where the message is settled already.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    rows = await queries.query(_SQL["begin"], {**lease.key, "id": message.id, "flag": flag})
    if not rows:
        raise LeaseLost
    row = rows[0]
    if row.pop("state") != "queued":
        return None
    return Begun(**row)


async def finish(queries: Queries, lease: Lease, message: Message, outcome: Outcome, error: str | None = None) -> None:
    """Settle a message.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {**lease.key, "id": message.id, "state": outcome, "error": error}
    if not await queries.query(_SQL["finish"], parameters):
        raise LeaseLost


async def fail(queries: Queries, job: Job, error: str, *, counts: bool = True) -> Message | None:
    """Note a failed turn on the first message of the job that is not settled; after `ATTEMPTS` turns it is dead.

    Args:
        queries: a pool or a transaction.
        job: what was worked on.
        error: why it failed, in words that quote nobody.
        counts: an attempt is counted even where the function failed before it began one (else it would fail forever).

    Returns:
        That message with its attempts up to now, or None where all are settled or the lease is lost.
    """
    parameters = {
        **job.lease.key,
        "ids": [message.id for message in job.messages],
        "attempts": [message.attempts + counts for message in job.messages],
        "error": error,
        "limit": ATTEMPTS,
    }
    rows = await queries.query(_SQL["fail"], parameters)
    return Message(**rows[0]) if rows else None
