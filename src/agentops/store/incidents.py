"""Incidents as rows, newest first, the audit rows that make up their timelines, and their end.

    kill-switch ─────────────────────────────→ restore (incidents/kill_switch)
    pii-leak · dead-letter · uncertain-reply → close     what they point at stays as it is, and stays listed

An uncertain-reply incident also ends by itself, with the last reply that is settled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentops.errors import NotFound
from agentops.settings import flag_alias
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agentops.platforms import Queries, Row

_SQL = statements(__file__)
KILL_SWITCH = "kill-switch"


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident: `features` were named, `switched_off` were on and went off."""

    id: int
    kind: str = field(metadata={"spare": 5})
    status: str
    reason: str
    features: tuple[str, ...] = field(metadata={"spare": 3})
    switched_off: tuple[str, ...]
    opened_by: str = field(metadata={"spare": 4})
    opened_at: datetime
    restored_by: str | None = field(metadata={"spare": 1})
    restored_at: datetime | None = field(metadata={"spare": 2})


@dataclass(frozen=True, slots=True)
class Moment:
    """One audit row of an incident's timeline."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


async def listed(queries: Queries) -> list[Incident]:
    """All incidents, newest first."""
    return [_incident(row) for row in await queries.query(_SQL["all"])]


async def one(queries: Queries, number: int) -> Incident:
    """The incident of that number.

    Raises:
        NotFound: there is none.
    """
    rows = await queries.query(_SQL["one"], {"id": number})
    if not rows:
        raise NotFound(f"there is no incident {number}", "agentops incident list")
    return _incident(rows[0])


async def remaining(queries: Queries, number: int) -> int:
    """How much of what an incident points at is still as it was: dead messages, or uncertain replies."""
    return int((await queries.query(_SQL["remaining"], {"id": number}))[0]["n"])


async def close(queries: Queries, number: int, *, actor: str, reason: str | None) -> bool:
    """End an incident that switched nothing off, with its audit row; False where it has ended already."""
    parameters = {"id": number, "kill_switch": KILL_SWITCH, "actor": actor, "reason": reason}
    return bool(await queries.query(_SQL["close"], parameters))


async def timeline(queries: Queries, number: int) -> list[Moment]:
    """What was done in the incident's course, in order."""
    return [Moment(**row) for row in await queries.query(_SQL["timeline"], {"id": number})]


def _incident(row: Row) -> Incident:
    names = {key: tuple(map(flag_alias, row[key])) for key in ("features", "switched_off")}
    return Incident(**{**row, **names})
