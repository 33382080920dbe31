"""Conversations as operators see them: who talks with the agent, what was said, and how it is forgotten.

    listed → named('+250…' or number) → said(reveal is the caller's to audit) → forget

Forgetting deletes the conversation with its history and replies, and empties its messages; what stays of them is
their id, so that a delivery that comes again is still known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agentops.platforms import Queries

_SQL = statements(__file__)
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One customer on one business number. `customer` is as stored: a phone or a user id."""

    id: int
    customer: str
    phone_id: str
    messages: int
    queued: int
    last_at: datetime | None
    working: bool


@dataclass(frozen=True, slots=True)
class Said:
    """One item of the history: the model's own form."""

    at: datetime
    item: Mapping[str, Any]


async def listed(queries: Queries, limit: int) -> list[Conversation]:
    """The conversations, last spoken in first."""
    return [Conversation(**row) for row in await queries.query(_SQL["listed"], {"limit": limit})]


async def named(queries: Queries, name: str) -> list[Conversation]:
    """Those of a number, a phone (+E.164) or a user id; a customer has one on each business number."""
    number = int(name) if _NUMBER.fullmatch(name) else None
    phone = "+" + "".join(each for each in name if each.isdigit())
    rows = await queries.query(_SQL["named"], {"id": number, "customers": [name, phone]})
    return [Conversation(**row) for row in rows]


async def said(queries: Queries, number: int) -> list[Said]:
    """The whole history of one, in order."""
    return [Said(**row) for row in await queries.query(_SQL["said"], {"id": number})]


async def forget(queries: Queries, ids: Sequence[int], actor: str) -> None:
    """Forget them, one audit row each, all or none. A worker that has one can write nothing more about it."""
    await queries.query(_SQL["forget"], {"ids": list(ids), "actor": actor})
