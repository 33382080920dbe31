"""The way every tool function answers HTTP, so that a function is a few lines.

    Request → GET: health · POST: who (service key) → tool → Outcome → Response · else 405

Answers and failures keep the shapes of the stack that callers already know: `{"success": false, "error": "<words>"}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.agent.policy import Principal
from agentops.agent.tools import tool
from agentops.web import json_response

if TYPE_CHECKING:
    from agentops.agent.outcome import Outcome
    from agentops.stack import Stack
    from agentops.web import Request, Response

_OPERATOR = Principal("http", "service_role", operator=True)
_NOBODY = Principal("http", "anonymous")


async def by_tool(name: str, request: Request, stack: Stack) -> Response:
    """A tool function's answer to any request."""
    if request.method == "GET":
        return health(request.slug, stack)
    if request.method != "POST":
        return method_not_allowed()
    outcome = await tool(name).call(
        request.body,
        _OPERATOR if stack.authorised(request) else _NOBODY,
        stack,
        correlation_id=request.correlation_id,
        idempotency_key=request.headers.get("idempotency-key"),
    )
    return response(outcome)


def health(slug: str, stack: Stack) -> Response:
    """Which version of the function answers here; nothing secret, for anybody."""
    deployed = stack.functions.get(slug)
    return json_response(
        200,
        {
            "success": True,
            "slug": slug,
            "version": deployed.version if deployed else None,
            "deployed_at": deployed.deployed_at if deployed else None,
        },
    )


def failure(status: int, words: str, **headers: str) -> Response:
    """A refusal in the stack's form; a header's `_` becomes `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return json_response(status, {"success": False, "error": words}, named)


def method_not_allowed() -> Response:
    """405, naming what is allowed."""
    return failure(405, "Method not allowed", Allow="GET, POST")


def response(outcome: Outcome) -> Response:
    """A tool's outcome over HTTP."""
    headers: dict[str, str] = {}
    if outcome.replayed:
        headers["Idempotent-Replayed"] = "true"
    if outcome.retry_after is not None:
        headers["Retry-After"] = str(outcome.retry_after)
    return json_response(outcome.status, outcome.body, headers)
