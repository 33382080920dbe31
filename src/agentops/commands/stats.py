"""Count vouchers: by status, or those the agent issued by day.

A hosted project is asked through Supabase's API, or through DATABASE_URL where that is set.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from agentops.errors import UsageError
from agentops.session import Session
from agentops.store.stats import DayCount, StatusCount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.platforms import Queries

_T = TypeVar("_T")

Days = Annotated[int, typer.Option("--days", metavar="N", min=1, max=36500, help="How many days back.")]
Dates = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=36500, help="How many dates that have such vouchers.")
]


async def vouchers(session: Session, days: Days = 7) -> list[StatusCount]:
    """Count and sum vouchers of the last days by status; sums in units of the currency, not cents."""
    from agentops.store import stats

    return await _counted(session, "vouchers", lambda queries: stats.vouchers(queries, days))


async def ai_vouchers(session: Session, days: Dates = 7) -> list[DayCount]:
    """Count vouchers that the agent issued, for the last dates that have any."""
    from agentops.store import stats

    return await _counted(session, "ai-vouchers", lambda queries: stats.ai_vouchers(queries, days))


async def _counted(session: Session, verb: str, count: Callable[[Queries], Awaitable[_T]]) -> _T:
    """What was asked for.

    Raises:
        UsageError: a hosted project whose functions only forward: its database has no vouchers.
    """
    from agentops.store import schema

    queries = await session.queries()
    try:
        return await count(queries)
    except UsageError:
        found = await schema.tables(queries) if session.process.hosted else []
        if any(table.name == "vouchers" and not table.present for table in found):
            raise _elsewhere(session, verb) from None
        raise


def _elsewhere(session: Session, verb: str) -> UsageError:
    """The vouchers are not in this database: where they may be."""
    from agentops.settings import without_password

    process = session.process
    where = "the database of DATABASE_URL" if os.environ.get("DATABASE_URL") else f"project {process.label}"
    hint = "ask the stack behind its forwarders: --target 'postgresql://…', or its address as DATABASE_URL"
    if process.server:
        hint = f"agentops --target {shlex.quote(without_password(process.server))} stats {verb}"
    return UsageError(f"{where} has no table public.vouchers", hint)
