"""What became of our messages as Meta told it, once each: the evidence beside the outbox's own state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Queries

_SQL = statements(__file__)


async def record(queries: Queries, reports: Mapping[tuple[str, str], Mapping[str, Any]]) -> int:
    """Store statuses by (message id, status); how many were new."""
    if not reports:
        return 0
    rows = [{"wamid": wamid, "status": status, "payload": payload} for (wamid, status), payload in reports.items()]
    return int((await queries.query(_SQL["record"], {"reports": json.dumps(rows)}))[0]["new"])
