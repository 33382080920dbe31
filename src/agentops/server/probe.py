"""Asks a function for its health in process: the GET that proves a version runs, before it answers anyone else."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from agentops import modules
from agentops.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.stack import Stack

HEALTH_SECONDS = 4
_SERVER_ERROR = 500


async def health(
    handle: Callable[[Request, Stack], Awaitable[Response]], slug: str, stack: Stack, label: str
) -> str | None:
    """Call the function's GET; None where it answers below 500 within 4 s, else what is wrong."""
    request = Request("GET", slug, str(uuid.uuid4()))
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            answer: object = await handle(request, stack)
    except TimeoutError:
        return f"{label}: its GET takes more than {HEALTH_SECONDS} s"
    except modules.FAILURES as error:
        return modules.finding(error, label)
    # What an operator's code answers may be anything, whatever its annotations say.
    if not isinstance(answer, Response):
        return f"{label}: its GET answers a {type(answer).__name__}, not an agentops.web.Response"
    if answer.status >= _SERVER_ERROR:
        return f"{label}: its GET answers {answer.status}"
    return None
