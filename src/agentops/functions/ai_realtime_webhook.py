"""ai-realtime-webhook: the tool calls of a voice session.

POST {type, event_id, call_id, name, arguments: "<json>"} → {type: "function_call_output", call_id, output: "<json>"}

A tool's refusal is inside `output`, with 200: the session must be able to say it. Events of other types are received
and nothing more. The call's id is its idempotency key: an event that is delivered twice has one effect.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from agentops.agent import answering
from agentops.agent.policy import Principal, Refused
from agentops.agent.tool import parsed
from agentops.agent.tools import tool
from agentops.errors import NotFound
from agentops.settings import VOICE
from agentops.web import json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.stack import Stack
    from agentops.web import Request, Response

_CALLS = frozenset({"response.function_call_arguments.done", "call_tool"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_VOICE = Principal("voice", "voice", operator=True)


async def handle(request: Request, stack: Stack) -> Response:
    """POST answers an event for whoever holds the service key; GET is the function's health."""
    if request.method == "GET":
        return answering.health(request.slug, stack)
    if request.method != "POST":
        return answering.method_not_allowed()
    events = stack.events.bind(request.correlation_id, request.slug)
    if not stack.authorised(request):
        events.warning("ai.realtime.webhook.exception", error="unauthorized")
        return answering.failure(401, "unauthorized")
    if not stack.flag(VOICE):
        events.info("ai.realtime.webhook.disabled")
        return json_response(200, {"received": True})
    try:
        event = parsed(request.body)
        kind, event_id = _text(event, "type"), _text(event, "event_id")
        events.info("ai.realtime.webhook.received", type=_shown(kind), event_id=_shown(event_id))
        if kind not in _CALLS:
            return json_response(200, {"received": True})
        return await _answered(event, request, stack)
    except Refused as refusal:
        events.warning("ai.realtime.webhook.exception", error=refusal.error)
        return answering.failure(refusal.status, refusal.error)


async def _answered(event: Mapping[str, object], request: Request, stack: Stack) -> Response:
    call_id, name = _text(event, "call_id"), _text(event, "name")
    if not call_id:
        raise Refused(400, "Invalid call_id")
    events = stack.events.bind(request.correlation_id, request.slug)
    shown = {"tool": _shown(name), "call_id": _shown(call_id)}
    events.info("ai.realtime.tool.call", **shown)
    body = await _body(name, call_id, event.get("arguments"), request, stack)
    if body.get("success") is True:
        events.info("ai.realtime.tool.success", **shown)
    else:
        events.warning(
            "ai.realtime.tool.error", **shown, error=body.get("error") if shown["tool"] == name else "no such tool"
        )
    output = json.dumps(body, ensure_ascii=False)
    return json_response(200, {"type": "function_call_output", "call_id": call_id, "output": output})


async def _body(name: str, call_id: str, arguments: object, request: Request, stack: Stack) -> Mapping[str, object]:
    try:
        asked = tool(name)
    except NotFound as error:
        return {"success": False, "error": error.message, "hint": error.hint}
    if not isinstance(arguments, str | dict):
        return {"success": False, "error": "Invalid arguments"}
    outcome = await asked.call(arguments, _VOICE, stack, correlation_id=request.correlation_id, idempotency_key=call_id)
    return outcome.body


def _shown(text: str) -> str:
    """An identifier as events may show it: what is none may be anything, a customer's words too."""
    return text if _IDENTIFIER.fullmatch(text) else "***" if text else ""


def _text(event: Mapping[str, object], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
