"""A key names one request: its effect happens once, and every repetition gets the first answer.

    claim (insert, waits for whoever holds the same key) → effect → settle → commit      all in one transaction

A transaction that rolls back gives the key back with its effect, so a failure is tried afresh by a repetition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.errors import Conflict
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Queries

_SQL = statements(__file__)
# Longer than any sender repeats a delivery: Meta does for 7 days, OpenAI for 3.
KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer that a key already has."""

    fingerprint: str
    status: int
    body: Mapping[str, object]


async def claim(queries: Queries, scope: str, key: str, fingerprint: str) -> Stored | None:
    """Take the key for this transaction (None), or give the answer that it already has.

    Raises:
        TimedOut: another transaction holds the key for longer than this one's lock timeout.
        Conflict: the key's row vanished while it was looked at.
    """
    name = {"scope": scope, "key": key}
    if await queries.query(_SQL["claim"], {**name, "fingerprint": fingerprint}):
        return None
    rows = await queries.query(_SQL["stored"], name)
    if not rows:
        raise Conflict("the idempotency key was given up while it was read", "send the request again")
    return Stored(rows[0]["fingerprint"], rows[0]["status"], rows[0]["body"])


async def settle(queries: Queries, scope: str, key: str, status: int, body: Mapping[str, object]) -> None:
    """Keep the answer under the key that this transaction claimed."""
    await queries.query(_SQL["settle"], {"scope": scope, "key": key, "status": status, "body": json.dumps(body)})


async def expire(queries: Queries, batch: int) -> int:
    """Delete one batch of keys older than 30 days; how many. Repeat until 0."""
    return int((await queries.query(_SQL["expire"], {"days": KEEP_DAYS, "batch": batch}))[0]["deleted"])
