"""ai-lookup-customer: find a customer by phone (`agent.tools.lookup_customer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.agent import answering

if TYPE_CHECKING:
    from agentops.stack import Stack
    from agentops.web import Request, Response


async def handle(request: Request, stack: Stack) -> Response:
    """POST runs the tool for whoever holds the service key; GET is its health."""
    return await answering.by_tool("lookup_customer", request, stack)
