"""What became of our messages as Meta told it, once each: the evidence beside the outbox's own state.

    record    every status as it came, also of messages that are not ours
    failures  a reply that Meta accepted and could not deliver → pending again (customer or number waits) | failed

A failure told by status webhook does what the same code does as an answer to the send.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentops.sql import statements
from agentops.store import pacing
from agentops.store.outbox import LONGEST_BACKOFF, ahead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from agentops.platforms import Queries

_SQL = statements(__file__)

# What a code asks for, as `clients.graph_codes` names it.
Action = Literal["token", "policy", "rate", "pair", "transient", "window", "refused"]
_AGAIN: tuple[Action, ...] = ("token", "policy", "rate", "pair", "transient")
# The customer cannot be written to any more: nothing was given up that somebody could retry.
_CLOSING: tuple[Action, ...] = ("window",)
# How often one reply may fail after it was accepted, and still be tried again.
TRIES = 7


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed status, and what its code asks for. `callback_data` is the outbox row's id where Meta echoes it."""

    wamid: str
    callback_data: UUID | None
    error: str
    code: int | None
    action: Action


@dataclass(frozen=True, slots=True)
class Failed:
    """A reply that failed so. `state` is pending where it is tried again, in `seconds`; else failed."""

    outbox: str
    correlation_id: str
    phone_id: str
    action: Action
    code: int | None
    error: str
    state: Literal["pending", "failed"]
    seconds: float | None


async def record(queries: Queries, reports: Mapping[tuple[str, str], Mapping[str, Any]]) -> int:
    """Store statuses by (message id, status); how many were new."""
    if not reports:
        return 0
    rows = [{"wamid": wamid, "status": status, "payload": payload} for (wamid, status), payload in reports.items()]
    return int((await queries.query(_SQL["record"], {"reports": json.dumps(rows)}))[0]["new"])


async def failures(queries: Queries, found: Sequence[Failure], *, interval: float) -> list[Failed]:
    """Apply failed statuses, in any order, twice or not; the replies that changed.

    Args:
        queries: a pool or a transaction.
        found: what Meta told.
        interval: seconds between replies to one customer beyond the burst.
    """
    if not found:
        return []
    content = [
        {
            "wamid": each.wamid,
            "id": str(each.callback_data) if each.callback_data else None,
            "error": each.error,
            "code": each.code,
            "action": each.action,
        }
        for each in found
    ]
    parameters = {
        "failures": json.dumps(content),
        "again": list(_AGAIN),
        "closing": list(_CLOSING),
        "blocks": json.dumps(pacing.SECONDS),
        "tries": TRIES,
        "longest": LONGEST_BACKOFF,
        "ahead": ahead(interval),
    }
    return [Failed(**row) for row in await queries.query(_SQL["failures"], parameters)]
