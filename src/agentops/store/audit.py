"""Who did what: one plain row each. Money leaves its audit row inside its own statement (`vouchers.sql`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Queries

_SQL = statements(__file__)


async def record(
    queries: Queries, *, actor: str, action: str, subject: str, detail: Mapping[str, object] | None = None
) -> int:
    """Write one audit row and give its id. Phones belong masked in `subject` and `detail`."""
    parameters = {"actor": actor, "action": action, "subject": subject, "detail": json.dumps(detail or {})}
    return int((await queries.query(_SQL["record"], parameters))[0]["id"])
