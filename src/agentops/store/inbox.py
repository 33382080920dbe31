"""The inbox: every message received, once. Dedupe, durability, order and evidence are the same row.

receive(messages) ── one statement, committed before the sender gets its 200 ──> queued | skipped
conversations.claim → queued(leases) → Job → begin(message) → … → finish → done | skipped | dead
                                                            └── fail → queued again | dead
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentops.sql import statements
from agentops.store.conversations import BURST_CAP_SECONDS, Lease, LeaseLost
from agentops.store.turns import TOOL_CALLS, TOOL_CALLS_SECONDS

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
KEEP_DAYS = 30
EXPIRE_BATCH = 1_000
# How many messages of one customer are answered, in so many seconds.
MESSAGES, MESSAGES_SECONDS = 20, 600
CHANNEL = "agentops_inbox"

Outcome = Literal["done", "skipped", "dead"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message to be stored. `answerable`: somebody should answer.

    The sender is known by `user_id` (Meta's), by `phone` (+E.164), or both; by neither: nobody who could be answered.
    """

    message_id: str
    phone_id: str
    user_id: str | None
    phone: str | None
    kind: str
    answerable: bool
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a batch: numbers of new messages by state, the ids of known ones, and whether the flag was on.

    `moved` are customers whose former lanes wait to be united with the one they have now.
    """

    queued: int
    skipped: int
    duplicates: tuple[str, ...]
    enabled: bool
    moved: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A queued message. `attempts` are the turns begun up to the moment it was read.

    `turn` is the number of the last message that it is answered with, from that turn's begin on.
    """

    id: int
    message_id: str
    slug: str
    correlation_id: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    received_at: datetime
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One conversation under lease, with its queued messages of one function in order.

    `stopping` tells that the worker wants to end: what is begun is finished, the rest stays queued. Messages that came
    within `burst_seconds` of each other are answered in one turn.
    """

    lease: Lease
    slug: str
    messages: tuple[Message, ...]
    stopping: Callable[[], bool] = lambda: False
    burst_seconds: float = 0.0

    @property
    def turns(self) -> list[tuple[Message, ...]]:
        """The messages by the turn they are answered in. What was once begun as one turn stays that turn."""
        found: list[list[Message]] = []
        for message in self.messages:
            if found and self._together(found[-1], message):
                found[-1].append(message)
            else:
                found.append([message])
        return [tuple(each) for each in found]

    def _together(self, turn: Sequence[Message], message: Message) -> bool:
        if message.turn is not None or turn[-1].turn is not None:
            return message.turn == turn[-1].turn
        pause = (message.received_at - turn[-1].received_at).total_seconds()
        length = (message.received_at - turn[0].received_at).total_seconds()
        return self.burst_seconds > 0 and pause <= self.burst_seconds and length <= BURST_CAP_SECONDS


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn begins. `enabled` is False where the flag is off, or was off at any time since the message came.

    `ids` are those of its messages that are not settled yet. `over` names the rate that the customer has used up, and
    `tells` is whether this turn is the one that says so. `outbox_id`, `outbox_state`, `body`: the reply that an earlier
    attempt wrote down, if it came so far.
    """

    ids: Sequence[int]
    enabled: bool
    attempts: int
    over: Literal["messages", "tools"] | None
    tells: bool
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
            "phone_id": message.phone_id,
            "user_id": message.user_id,
            "phone": message.phone,
            "kind": message.kind,
            "answerable": message.answerable and (message.user_id or message.phone) is not None,
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
    new: Counter[str] = Counter(row["new"])
    known = []
    for message in messages:
        if new[message.message_id]:
            new[message.message_id] -= 1
        else:
            known.append(message.message_id)
    return Received(row["queued"], row["skipped"], tuple(known), row["enabled"], tuple(row["moved"]))


async def expire(queries: Queries, batch: int = EXPIRE_BATCH) -> int:
    """Delete one batch of settled messages and statuses older than 30 days; how many. Repeat until 0.

    Meta delivers again for seven days: a younger row is what tells a second delivery from a new message.
    """
    return int((await queries.query(_SQL["expire"], {"days": KEEP_DAYS, "batch": batch}))[0]["deleted"])


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


async def begin(queries: Queries, lease: Lease, turn: Sequence[Message], flag: str) -> Begun | None:
    """Count the attempt and see what an earlier one left; None where all its messages are settled already.

    Args:
        queries: a pool.
        lease: the conversation.
        turn: the messages that are answered together, in order.
        flag: what must be on.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {
        **lease.key,
        "ids": [message.id for message in turn],
        "turn": turn_of(turn),
        "flag": flag,
        "messages_limit": MESSAGES,
        "messages_seconds": MESSAGES_SECONDS,
        "tools_limit": TOOL_CALLS,
        "tools_seconds": TOOL_CALLS_SECONDS,
    }
    rows = await queries.query(_SQL["begin"], parameters)
    if not rows:
        raise LeaseLost
    return Begun(**rows[0]) if rows[0]["ids"] else None


def turn_of(messages: Sequence[Message]) -> int:
    """The number of the turn that these messages are answered in: its last message's, also where that is settled."""
    return messages[-1].turn or messages[-1].id


async def finish(
    queries: Queries, lease: Lease, turn: Sequence[Message], outcome: Outcome, error: str | None = None
) -> None:
    """Settle the messages of a turn, in one statement.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    parameters = {**lease.key, "ids": [message.id for message in turn], "state": outcome, "error": error}
    if not await queries.query(_SQL["finish"], parameters):
        raise LeaseLost


async def fail(queries: Queries, job: Job, error: str, *, counts: bool = True) -> Message | None:
    """Note a failed turn on the first messages of the job that are not settled; after `ATTEMPTS` turns they are dead.

    Args:
        queries: a pool or a transaction.
        job: what was worked on.
        error: why it failed, in words that quote nobody.
        counts: an attempt is counted even where the function failed before it began one (else it would fail forever).

    Returns:
        The first of them with its attempts up to now, or None where all are settled or the lease is lost.
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
