"""What PostgreSQL can hold: its texts and its jsonb have no NUL and no half of a surrogate pair."""

from __future__ import annotations

from typing import Any


def storable(value: Any) -> Any:  # noqa: ANN401 - JSON is any of its six kinds
    """The same JSON value with such characters replaced by `�`."""
    if isinstance(value, str):
        clean = value.replace("\x00", "�")
        return clean if clean.isascii() else clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [storable(each) for each in value]
    if isinstance(value, dict):
        return {storable(key): storable(each) for key, each in value.items()}
    return value
