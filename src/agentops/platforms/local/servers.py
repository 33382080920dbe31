"""Who serves: the heartbeat rows of live server processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.platforms import Server
from agentops.sql import statements

if TYPE_CHECKING:
    from agentops.platforms import Queries

_SQL = statements(__file__)


async def live(queries: Queries) -> list[Server]:
    """Server processes seen within the last 10 seconds, web before worker."""
    return [Server(**{**row, "id": str(row["id"])}) for row in await queries.query(_SQL["live"])]


async def generation(queries: Queries) -> int:
    """The number of the newest change of flags, secrets or deployments."""
    return int((await queries.query(_SQL["generation"]))[0]["n"])
