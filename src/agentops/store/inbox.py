"""The inbox: every message received, once. Dedupe, durability, order and evidence are the same row.

receive(messages) ── one statement, committed before the sender gets its 200 ──> queued | skipped
claim(owner) → Lease, queued messages → Job → begin(turn) → … → finish → done | skipped | dead
                                                            └── fail → queued again | dead
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentops.errors import Conflict
from agentops.sql import statements
from agentops.storable import storable
from agentops.store import conversations
from agentops.store.conversations import LEASE_SECONDS, Lease, LeaseLost
from agentops.store.turns import TOOL_CALLS, TOOL_CALLS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from agentops.platforms import Queries, Row
    from agentops.store.database import Database

_SQL = statements(__file__)
ATTEMPTS = 5
# Turns that ended without a word took their worker along. Most often the message is not to blame (the worker was
# killed), so it gets more of them before it is.
BEGUN_AT_MOST = 12
# How often a batch is tried whose customers are being changed elsewhere.
RECEIVED_AT_MOST = 4
# How many messages of one conversation a claim takes; the rest follow in the next one.
TAKEN = 20
KEEP_DAYS = 30
EXPIRE_BATCH = 1_000
# How many messages of one customer are answered, in so many seconds.
MESSAGES, MESSAGES_SECONDS = 20, 600
CHANNEL = "agentops_inbox"
# Somebody stores a message in the conversation at this moment.
BUSY_SECONDS = 0.005

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
        if message.attempts or turn[-1].attempts:
            # Begun by a server from before turns: its reply and its effects are under that one message's name.
            return False
        pause = (message.received_at - turn[-1].received_at).total_seconds()
        length = (message.received_at - turn[0].received_at).total_seconds()
        return self.burst_seconds > 0 and pause <= self.burst_seconds and length <= conversations.BURST_CAP_SECONDS


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn begins. `enabled` is False where the flag is off, or was off at any time since the message came.

    `turn` is its number and `message_id` its last message's, whatever has become of that one: they name its effects in
    every attempt. `ids` are those of its messages that are not settled yet. `over` names the rate that the customer has
    used up, and `tells` is whether this turn is the one that says so. `outbox_id`, `outbox_state`, `body`: the reply
    that an earlier attempt wrote down, if it came so far.
    """

    turn: int
    message_id: str
    ids: Sequence[int]
    enabled: bool
    attempts: int
    over: Literal["messages", "tools"] | None
    tells: bool
    outbox_id: str | None
    outbox_state: str | None
    body: str | None


async def receive(
    database: Database, slug: str, correlation_id: str, flag: str, messages: Sequence[Incoming]
) -> Received:
    """Store a batch in one transaction and wake the workers once; what is known already is left alone.

    With the flag off everything is stored as skipped, and switching it on later answers none of it.

    Raises:
        Conflict: customers of the batch were changing elsewhere, again and again; nothing is stored.
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
    row = await _received(database, parameters)
    new: Counter[str] = Counter(row["new"])
    known = []
    for message in messages:
        if new[message.message_id]:
            new[message.message_id] -= 1
        else:
            known.append(message.message_id)
    return Received(row["queued"], row["skipped"], tuple(known), row["enabled"], tuple(row["moved"]))


async def _received(database: Database, parameters: Mapping[str, Any]) -> Row:
    """Who becomes known by user id here and by phone there at the same moment is seen by the next attempt."""
    attempt = 1
    while True:
        try:
            return (await database.query(_SQL["receive"], parameters))[0]
        except Conflict:
            if attempt == RECEIVED_AT_MOST:
                raise
        attempt += 1


async def expire(queries: Queries, batch: int = EXPIRE_BATCH) -> int:
    """Delete one batch of settled messages and statuses older than 30 days; how many. Repeat until 0.

    Meta delivers again for seven days: a younger row is what tells a second delivery from a new message.
    """
    return int((await queries.query(_SQL["expire"], {"days": KEEP_DAYS, "batch": batch}))[0]["deleted"])


async def claim(
    queries: Queries, owner: str, limit: int, *, seconds: float = LEASE_SECONDS, burst_seconds: float = 0.0
) -> list[Job]:
    """Lease up to `limit` conversations in which something is due, or whose holder has gone. Longest waiting first.

    One whose customer wrote less than `burst_seconds` ago is left to them, for `BURST_CAP_SECONDS` at most.

    Returns:
        Per conversation one job, of the function of its first message.
    """
    parameters = {
        "owner": owner,
        "limit": limit,
        "seconds": seconds,
        "burst": burst_seconds,
        "burst_cap": conversations.BURST_CAP_SECONDS if burst_seconds else 0.0,
        "taken": TAKEN,
    }
    found: dict[Lease, list[Message]] = {}
    for row in await queries.query(_SQL["claim"], parameters):
        named = {name: row.pop(name) for name in ("conversation_id", "lane", "phone_id", "customer", "fence")}
        messages = found.setdefault(Lease(**named, owner=owner), [])
        if row["id"] is not None:
            messages.append(Message(**row))
    jobs = []
    for lease, messages in found.items():
        slug = messages[0].slug if messages else ""
        jobs.append(Job(lease, slug, tuple(message for message in messages if message.slug == slug)))
    return jobs


async def begin(database: Database, lease: Lease, turn: Sequence[Message], flag: str) -> Begun | None:
    """Count the attempt and see what an earlier one left; None where all its messages are settled already.

    Args:
        database: where turns of other conversations that begin at the same moment go along.
        lease: the conversation.
        turn: the messages that are answered together, in order.
        flag: what must be on.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    item = {
        **lease.key,
        "ids": [message.id for message in turn],
        "turn": turn_of(turn),
        "messages_limit": MESSAGES,
        "messages_seconds": MESSAGES_SECONDS,
        "tools_limit": TOOL_CALLS,
        "tools_seconds": TOOL_CALLS_SECONDS,
    }
    row = await _asked(database, "begin", item, flag)
    return Begun(**row) if row["ids"] else None


def turn_of(messages: Sequence[Message]) -> int:
    """The number of the turn that these messages are answered in: its last message's, also where that is settled."""
    return messages[-1].turn or messages[-1].id


async def finish(
    database: Database, lease: Lease, turn: Sequence[Message], outcome: Outcome, error: str | None = None
) -> None:
    """Settle the messages of a turn, in one statement with those of other conversations.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    item = {**lease.key, "ids": [message.id for message in turn], "state": outcome, "error": storable(error)}
    await _asked(database, "finish", item)


def dead_after(*, counts: bool) -> int:
    """After how many turns a failure is the last: one that is not the message's own ends what was begun too often."""
    return ATTEMPTS if counts else BEGUN_AT_MOST


async def fail(queries: Queries, job: Job, error: str, *, counts: bool = True) -> Message | None:
    """Note a failed turn on the first messages of the job that are not settled; after `dead_after` turns they are dead.

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
        "limit": dead_after(counts=counts),
    }
    rows = await queries.query(_SQL["fail"], parameters)
    return Message(**rows[0]) if rows else None


async def _asked(database: Database, name: str, item: Mapping[str, Any], flag: str = "") -> Row:
    """The answer to one item, as soon as nobody else holds its conversation."""
    while True:
        rows = await database.together(_SQL[name], item, flag)
        if not rows:
            raise LeaseLost
        row = rows[0]
        if not row.pop("busy"):
            return row
        await asyncio.sleep(BUSY_SECONDS)
