"""A hosted project as deploying sees it: what is deployed there by the API's word, and what is written down of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import Unavailable
from agentops.platforms.supabase.kept import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.platforms.supabase.kept import Kept
    from agentops.platforms.supabase.management import Management
    from agentops.platforms.supabase.sources import Source

    Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """What deploying needs: the API, what this machine kept, whether a function answers, who acts, a word for eyes."""

    api: Management
    kept: Kept
    # None where it answers, else what is wrong.
    answers: Callable[[str], Awaitable[str | None]]
    actor: str
    told: Callable[[str], None]

    async def rows(self) -> dict[str, Row]:
        """What is deployed, by slug; meanwhile hears what others deployed, which never fails.

        Raises:
            as `rows`.
        """
        hearing = asyncio.create_task(self.kept.load())
        try:
            found = await rows(self.api)
        except BaseException:
            hearing.cancel()
            raise
        await hearing
        return found


async def rows(api: Management, *, attempts: int = 4) -> dict[str, Row]:
    """What is deployed, by slug, as the API says.

    Raises:
        Unavailable: it says something that cannot be read.
    """
    answer = await api.get("/functions", attempts=attempts)
    if isinstance(answer, list) and all(map(is_row, answer)):
        return {row["slug"]: row for row in sorted(answer, key=lambda row: str(row["slug"]))}
    raise Unavailable("Supabase's list of functions cannot be read", "try again; https://status.supabase.com")


def is_row(row: object) -> bool:
    """Whether it tells of a function."""
    match row:
        case {"id": str(), "slug": str(), "version": int(), "status": str()}:
            return True
    return False


def record(found: Source, row: Row, origin: str, by: str, *, answered: bool = False) -> Record:
    """What is written down of a version; `answered`: it was called and did."""
    return Record(
        slug=found.slug,
        version=row["version"],
        sha256=found.sha256,
        verify_jwt=bool(row.get("verify_jwt", True)),
        origin=origin,
        by=by,
        at=datetime.now(UTC).isoformat(),
        ezbr_sha256=row.get("ezbr_sha256") or "",
        id=row["id"],
        answered=answered,
    )
