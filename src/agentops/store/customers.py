"""Customers by what Meta tells of them: a user id (BSUID), a phone, or both.

receive ── agentops.customer(bsuid, phone) ──→ the customer's key → lane = business number + key
changed(old → new)   the same customer has another number or user id
unite(ids)           what was said in the lanes of a customer who turned out to be the same one moves over
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentops.platforms import Queries

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Change:
    """Meta says that a customer has another user id or phone (+E.164). None is not told."""

    old_user_id: str | None
    old_phone: str | None
    new_user_id: str | None
    new_phone: str | None


async def changed(queries: Queries, change: Change) -> int | None:
    """Note a change of identity; the customer's number where they are known and something is new, else None."""
    if change.new_user_id is None and change.new_phone is None:
        return None
    parameters = {
        "old_user_id": change.old_user_id,
        "old_phone": change.old_phone,
        "new_user_id": change.new_user_id,
        "new_phone": change.new_phone,
    }
    number: int | None = (await queries.query(_SQL["changed"], parameters))[0]["id"]
    return number


async def unite(queries: Queries, ids: Iterable[int]) -> None:
    """Move what was said in their former lanes to the ones they have now; what a worker holds waits."""
    for number in sorted(set(ids)):
        await queries.query(_SQL["unite"], {"id": number})


async def phone(queries: Queries, conversation_id: int) -> str | None:
    """The number (+E.164) of a conversation's customer, where Meta has told it."""
    rows = await queries.query(_SQL["phone"], {"conversation": conversation_id})
    return rows[0]["phone"] if rows else None


async def known_phones(queries: Queries) -> list[str]:
    """Every customer's number (+E.164) that this stack knows: for finding them where they should not be."""
    return [row["phone"] for row in await queries.query(_SQL["known_phones"])]


async def identities(queries: Queries, identity: str) -> list[str]:
    """All that a customer is or was known by: the given phone or user id first."""
    rows = await queries.query(_SQL["identities"], {"identity": identity})
    return list(dict.fromkeys([identity, *(row["identity"] for row in rows)]))
