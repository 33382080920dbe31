"""A server process's row in `agentops.servers`: alive, and how far with the settings.

settings_watch ── every second, and at once after a change ──> beat → the newest generation
process ── clean exit ──> remove          process ── start ──> forget the rows of the long dead
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Queries
    from agentops.server.context import ServerContext

_SQL = statements(__file__)


async def beat(
    queries: Queries, context: ServerContext, generation: int, functions: Mapping[str, Mapping[str, Any]]
) -> int:
    """Write the row of this process; the newest generation of the settings.

    `generation` is the one that is applied here, `functions` is `{slug: {version, reload, ok, error}}`.
    """
    parameters = {
        "id": context.server_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "role": context.role,
        "url": context.url,
        "generation": generation,
        "functions": json.dumps(functions),
    }
    return int((await queries.query(_SQL["beat"], parameters))[0]["newest"])


async def remove(queries: Queries, context: ServerContext) -> None:
    """Take the row away: a clean exit."""
    await queries.query(_SQL["remove"], {"id": context.server_id})


async def forget(queries: Queries) -> None:
    """Delete the rows of processes that died more than a day ago without a word."""
    await queries.query(_SQL["forget"])
