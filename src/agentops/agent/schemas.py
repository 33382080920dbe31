"""A request model as the strict JSON schema that OpenAI's function tools want.

Strict means: every property is required (what may be left out is nullable instead) and no other is allowed.
https://platform.openai.com/docs/guides/function-calling (strict mode)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

_DROPPED = frozenset({"title", "default"})


def strict(model: type[BaseModel], *, hidden: str | None = None, nullable: str | None = None) -> dict[str, Any]:
    """A flat request model's schema: without the property `hidden`; `nullable` and optional ones may be null."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ())) - {nullable}
    properties = {
        name: _property(content, nullable=name not in required)
        for name, content in schema["properties"].items()
        if name != hidden
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _property(content: dict[str, Any], *, nullable: bool) -> dict[str, Any]:
    choices = [choice for choice in content.get("anyOf", ()) if choice.get("type") != "null"]
    merged = {**content, **(choices[0] if choices else {})}
    plain = {key: value for key, value in merged.items() if key not in _DROPPED and key != "anyOf"}
    return {**plain, "type": [plain["type"], "null"]} if nullable else plain
