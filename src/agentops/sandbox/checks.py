"""What OpenAI refuses before a model sees it, so that the stack learns of it here and not in production.

The rules: known parameters and models, strict schemas, and a history in which every tool call has its output and every
output its call. Words and codes are OpenAI's (developers.openai.com, error codes; the SDK's request types).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentops.sandbox.model import JSON, conversation

# id → (created, announced shutdown); deprecations as OpenAI announced them in autumn 2026.
MODELS: dict[str, tuple[int, str | None]] = {
    "gpt-6-luna": (1_790_035_200, None),
    "gpt-6.1-terra": (1_792_972_800, None),
    "gpt-6.1-sol": (1_792_972_800, None),
    "gpt-5-mini": (1_754_438_400, "2026-12-11"),
    "gpt-4o-mini": (1_721_088_000, "2027-01-14"),
    "gpt-realtime-2.1-mini": (1_782_864_000, None),
}
_UNSUPPORTED = ("stream", "background", "conversation", "previous_response_id", "prompt")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer: its status and OpenAI's four fields."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None

    def body(self) -> JSON:
        """OpenAI's error object."""
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


def refusal(body: object) -> Refusal | None:
    """Why OpenAI would refuse this body of `POST /responses`, or None."""
    if not isinstance(body, dict):
        return Refusal(400, "We could not parse the JSON body of your request.")
    for name in ("model", "input"):
        if not body.get(name):
            return Refusal(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    if body["model"] not in MODELS:
        return Refusal(404, f"The model '{body['model']}' does not exist.", "model_not_found", "model")
    for name in _UNSUPPORTED:
        if body.get(name):
            return Refusal(400, f"The simulation does not support '{name}'.", "unsupported_parameter", name)
    if len(str(body.get("safety_identifier") or "")) > 128:  # noqa: PLR2004 - OpenAI's limit
        return Refusal(400, "'safety_identifier' is too long.", "string_above_max_length", "safety_identifier")
    if isinstance(body["input"], list) and not all(isinstance(item, dict) for item in body["input"]):
        return Refusal(400, "Invalid type for 'input'.", "invalid_type", "input")
    return _tools(body.get("tools") or []) or _history(body)


def _tools(tools: list[Any]) -> Refusal | None:
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not tool.get("name") or tool.get("type") != "function":
            message = f"Missing required parameter: 'tools[{index}].name'."
            return Refusal(400, message, "missing_required_parameter", f"tools[{index}].name")
        problem = _strict(tool.get("parameters") or {}, ()) if tool.get("strict") else None
        if problem:
            message = f"Invalid schema for function '{tool['name']}': {problem}"
            return Refusal(400, message, "invalid_function_parameters", f"tools[{index}].parameters")
    return None


def _strict(schema: JSON, path: tuple[str, ...]) -> str | None:
    if "properties" not in schema and schema.get("type") != "object":
        return None
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is not False:
        return f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
    if set(schema.get("required", [])) != set(properties):
        return f"In context={path}, 'required' must be an array including every key in properties."
    return next((found for name, each in properties.items() if (found := _strict(each, (*path, name)))), None)


def _history(body: JSON) -> Refusal | None:
    called: list[str] = []
    answered: set[str] = set()
    for item in conversation(body):
        call_id = str(item.get("call_id"))
        if item.get("type") == "function_call":
            called.append(call_id)
        elif item.get("type") == "function_call_output":
            if call_id not in called:
                return Refusal(
                    400, f"No tool call found for function call output with call_id {call_id}.", None, "input"
                )
            answered.add(call_id)
    waiting = next((call_id for call_id in called if call_id not in answered), None)
    if waiting:
        return Refusal(400, f"No tool output found for function call {waiting}.", None, "input")
    return None
