"""The outbox: a reply is written down before it is sent, and never sent again where it may have arrived.

put → pending → sending → sent → delivered → read      (by Meta's status webhooks, which may also say `failed`)
         ↑         │  └→ failed
         │         ├→ pending     certainly not sent, may be tried again: the lane or the number waits (`NotYet`)
         │         └→ sending     no answer, or the worker died: waits for a status webhook, is never resent …
         └──────────── uncertain  … and after ten minutes is an operator's: `outbox resolve --as sent|failed|resend`

A try that Meta accepts and then reports as failed does what the same code does as an answer (`store.statuses`).

An uncertain reply stands in the one open incident of kind `uncertain-reply` until a late status or a word settles it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from agentops.errors import AgentOpsError, Kind, NotFound
from agentops.sql import statements
from agentops.storable import storable
from agentops.store.conversations import LeaseLost
from agentops.store.inbox import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agentops.platforms import Queries
    from agentops.store.conversations import Lease
    from agentops.store.inbox import Message, Outcome

_SQL = statements(__file__)

Settled = Literal["sent", "sending", "failed"]
ACTOR = "agentops"
# One message per 6 s to one customer, ten in a row (Meta lets 45 be borrowed; ten keeps well away from it).
INTERVAL_SECONDS = 6.0
BURST = 10
LONGEST_BACKOFF = 300.0
# A number's block that has ended lets one message through, and no other before its outcome is known: that takes no
# longer (a request leaves within 5 s or not at all, and is given up after 10). Who asked beside it asks again soon.
PROBE_SECONDS = 20.0
OVERTAKEN_SECONDS = 3.0
UNCERTAIN = "no answer and no status: the reply may have arrived"
REASON = "replies of which nobody knows whether they arrived"


@dataclass(frozen=True, slots=True)
class Status:
    """A status webhook: `callback_data` is the outbox row's id where Meta echoes it."""

    wamid: str
    state: Literal["sent", "delivered", "read", "failed"]
    callback_data: UUID | None = None
    error: str | None = None
    code: int | None = None


class NotYet(AgentOpsError):
    """Nothing failed: the reply waits in the outbox, its conversation is due again in `seconds`, no attempt counts."""

    kind = Kind.UNAVAILABLE

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(f"the reply waits: {why}")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a reply was taken for sending; if not, whether the flag is off, or how long it has to wait and why."""

    taken: bool
    enabled: bool
    seconds: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What status webhooks changed: how many replies; and which (ids) prove that a blocked number may send."""

    changed: int
    proves: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reported:
    """A reply that an incident took in, or let go of: with `state` it is settled."""

    outbox: str
    incident: int
    correlation_id: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A reply as operators see it, without its text. `customer` is a phone number: mask it before it is shown."""

    id: str
    state: str
    customer: str
    correlation_id: str
    characters: int
    code: int | None
    error: str | None
    created_at: datetime
    sending_since: datetime | None
    sent_at: datetime | None


async def put(queries: Queries, lease: Lease, message: Message, body: str) -> str:
    """Write down the one reply to a message, or to its turn; its id. In the transaction that holds the conversation."""
    parameters = {
        "conversation": lease.conversation_id,
        # Where `begin` looks for it: the turn keeps its number also when an operator ends its last message.
        "inbox": message.turn or message.id,
        "correlation_id": message.correlation_id,
        "body": storable(body),
    }
    return str((await queries.query(_SQL["put"], parameters))[0]["id"])


async def sending(
    queries: Queries,
    lease: Lease,
    outbox_id: str,
    flag: str,
    *,
    interval: float = INTERVAL_SECONDS,
    generation: int = 0,
) -> Taken:
    """Take a pending reply for sending, unless its customer's pace or a block of its number says to wait.

    `generation` is that of the settings with which it is sent.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    pace = {
        "interval": interval,
        "ahead": ahead(interval),
        "probe": PROBE_SECONDS,
        "overtaken": OVERTAKEN_SECONDS,
    }
    parameters = {**lease.key, **pace, "id": outbox_id, "flag": flag, "generation": generation}
    (row,) = await queries.query(_SQL["sending"], parameters)
    if not row.pop("held"):
        raise LeaseLost
    return Taken(**row)


def ahead(interval: float) -> float:
    """How many seconds a customer's pace may run ahead of the clock, at one reply per `interval`."""
    return interval * (BURST - 1)


async def back_off(
    queries: Queries,
    lease: Lease,
    outbox_id: str,
    error: str,
    code: int | None,
    *,
    interval: float = INTERVAL_SECONDS,
) -> tuple[int, float]:
    """Put a reply back that certainly was not sent; the refusals in a row, and the seconds its conversation waits.

    Raises:
        LeaseLost: the conversation is another worker's by now.
    """
    pace = {"ahead": ahead(interval), "longest": LONGEST_BACKOFF}
    parameters = {**lease.key, **pace, "id": outbox_id, "error": error, "code": code}
    rows = await queries.query(_SQL["back_off"], parameters)
    if not rows:
        raise LeaseLost
    return rows[0]["strikes"], rows[0]["seconds"]


async def settle(
    queries: Queries,
    lease: Lease,
    outbox_id: str,
    state: Settled,
    outcome: Outcome,
    *,
    wamid: str | None = None,
    error: str | None = None,
    code: int | None = None,
) -> bool:
    """End a reply and, in the same statement, the messages that it answers. A status that came first is kept.

    As `sending` it is left to its status webhook, and only the messages end. A reply that a failed status has put back
    goes on waiting, with its messages.

    Returns:
        Whether this ended a block of its number: others may wait for that (`pacing.wake`).

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
        "code": code,
    }
    rows = await queries.query(_SQL["settle"], parameters)
    if not rows:
        raise LeaseLost
    return bool(rows[0]["unblocked"])


async def statuses(queries: Queries, found: Sequence[Status]) -> Heard:
    """Apply status webhooks that tell of an arrival, in any order, twice or not. Failures are `store.statuses`'s."""
    content = [
        {
            "wamid": each.wamid,
            "state": each.state,
            "id": str(each.callback_data) if each.callback_data else None,
        }
        for each in found
    ]
    rows = await queries.query(_SQL["statuses"], {"statuses": json.dumps(content)}) if content else []
    return Heard(sum(row["changed"] for row in rows), [row["id"] for row in rows if row["proves"]])


async def report(queries: Queries, seconds: float) -> list[Reported]:
    """Turn replies uncertain that wait for a status longer than `seconds`, and take them into the open incident."""
    parameters = {"seconds": seconds, "error": UNCERTAIN, "reason": REASON, "actor": ACTOR}
    return [Reported(**row) for row in await queries.query(_SQL["report"], parameters)]


async def tidy(queries: Queries) -> list[Reported]:
    """Let the incident go of what is known by now; without entries it is closed."""
    return [Reported(**row) for row in await queries.query(_SQL["tidy"], {"actor": ACTOR})]


async def failures(queries: Queries, seconds: float) -> dict[int, int]:
    """How many replies that were tried in the last `seconds` Meta has refused for good, by its code."""
    return {row["code"]: row["replies"] for row in await queries.query(_SQL["failures"], {"seconds": seconds})}


async def listed(queries: Queries, state: str | None, limit: int) -> list[Entry]:
    """Replies, newest first."""
    return [Entry(**row) for row in await queries.query(_SQL["listed"], {"state": state, "limit": limit})]


async def one(queries: Queries, outbox_id: str) -> Entry:
    """One reply.

    Raises:
        NotFound: there is none of that id.
    """
    rows = await queries.query(_SQL["one"], {"id": outbox_id}) if _is_id(outbox_id) else []
    if not rows:
        raise NotFound(f"there is no reply {outbox_id!r} in the outbox", "agentops outbox list")
    return Entry(**rows[0])


async def reveal(queries: Queries, outbox_id: str, actor: str) -> str:
    """A reply's text; that `actor` read it is written down."""
    return str((await queries.query(_SQL["reveal"], {"id": outbox_id, "actor": actor}))[0]["body"])


async def resolve(queries: Queries, outbox_id: str, to: str, *, among: Sequence[str], actor: str) -> bool:
    """Settle a reply by an operator's word, if its state is `among` these; as `pending` it is sent again.

    Returns:
        Whether it was; False where its state is another by now, or its message is forgotten.
    """
    parameters = {"id": outbox_id, "to": to, "from": list(among), "actor": actor, "channel": CHANNEL}
    return bool(await queries.query(_SQL["resolve"], parameters))


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False
