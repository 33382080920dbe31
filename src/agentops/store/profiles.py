"""Customers, as the stack's own `public.profiles` knows them. Only the columns that every stack has are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.sql import statements

if TYPE_CHECKING:
    from agentops.platforms import Queries

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Profile:
    """One customer. `name` is None where nobody has given one."""

    customer_id: str
    name: str | None


async def by_phone(queries: Queries, phone: str) -> Profile | None:
    """The customer with this number (E.164), or None."""
    rows = await queries.query(_SQL["by_phone"], {"phone": phone})
    return Profile(customer_id=rows[0]["user_id"], name=rows[0]["display_name"]) if rows else None
