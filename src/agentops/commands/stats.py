"""Count vouchers: by status, or those the agent issued by day.

A hosted project is asked through Supabase's API, or through DATABASE_URL where that is set.
"""

from __future__ import annotations

from typing import Annotated

import typer

from agentops.session import Session
from agentops.store.stats import DayCount, StatusCount

Days = Annotated[int, typer.Option("--days", metavar="N", min=1, max=36500, help="How many days back.")]
Dates = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=36500, help="How many dates that have such vouchers.")
]


async def vouchers(session: Session, days: Days = 7) -> list[StatusCount]:
    """Count and sum vouchers of the last days by status; sums in major units."""
    from agentops.store import stats

    return await stats.vouchers(await session.queries(), days)


async def ai_vouchers(session: Session, days: Dates = 7) -> list[DayCount]:
    """Count vouchers that the agent issued, for the last dates that have any."""
    from agentops.store import stats

    return await stats.ai_vouchers(await session.queries(), days)
