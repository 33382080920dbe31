"""The inbox as operators see it: what waits or was given up, and what becomes of it by their word.

listed → one → revive (dead → queued, with its unsent reply)
             → discard (dead, or queued and in nobody's hands → skipped)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentops.errors import NotFound
from agentops.sql import statements
from agentops.store.inbox import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agentops.platforms import Queries

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. `customer` is as stored (a phone or a user id), None where it is from nobody or was forgotten."""

    id: int
    state: str
    customer: str | None
    kind: str
    attempts: int
    received_at: datetime
    finished_at: datetime | None
    error: str | None
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One message with what was sent, and the reply that was written for it, if it came so far."""

    entry: Entry
    turn: int | None
    payload: Mapping[str, Any]
    reply_state: str | None
    reply_error: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one message.

    `status` is queued, skipped, unchanged, working (a worker has it), or absent (there is none of that number).
    """

    id: int
    status: str
    changed: bool


async def listed(queries: Queries, state: str | None, limit: int) -> list[Entry]:
    """The newest messages, of one state or of all."""
    return [Entry(**row) for row in await queries.query(_SQL["listed"], {"state": state, "limit": limit})]


async def one(queries: Queries, number: int) -> Detail:
    """The message of that number.

    Raises:
        NotFound: there is none.
    """
    rows = await queries.query(_SQL["one"], {"id": number})
    if not rows:
        raise NotFound(f"there is no message {number}", "agentops inbox list")
    row = rows[0]
    rest = {name: row.pop(name) for name in ("turn", "payload", "reply_state", "reply_error")}
    return Detail(Entry(**row), **rest)


async def planned(queries: Queries, ids: Sequence[int], verb: str) -> list[Change]:
    """What `revive` (verb `retry`) or `discard` would do, in the order of `ids`."""
    rows = {row["id"]: row for row in await queries.query(_SQL["states"], {"ids": list(ids)})}
    return [_change(number, rows.get(number), verb) for number in dict.fromkeys(ids)]


async def revive(queries: Queries, ids: Sequence[int], actor: str) -> None:
    """Queue dead messages again with all their attempts, one audit row each; a reply that was not sent is sent."""
    await queries.query(_SQL["revive"], {"ids": list(ids), "actor": actor, "channel": CHANNEL})


async def discard(queries: Queries, ids: Sequence[int], actor: str) -> None:
    """End dead or waiting messages unanswered, one audit row each."""
    await queries.query(_SQL["discard"], {"ids": list(ids), "actor": actor, "error": f"discarded by {actor}"})


def _change(number: int, row: Mapping[str, Any] | None, verb: str) -> Change:
    if row is None:
        return Change(number, "absent", changed=False)
    if verb == "retry":
        possible, becomes = row["state"] == "dead" and row["answerable"], "queued"
    else:
        possible, becomes = row["state"] in {"dead", "queued"}, "skipped"
    if possible and row["leased"] and row["state"] == "queued":
        return Change(number, "working", changed=False)
    return Change(number, becomes if possible else "unchanged", changed=possible)
