"""OpenAI's retired and retiring models: when each is shut down, and what takes its place.

Source: OpenAI's deprecations page and the SDK's list of models, read on 22 November 2026. A name that is not here is
taken as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

_SNAPSHOT = re.compile(r"-(\d{4}|\d{4}-\d{2}-\d{2})$")
_LUNA, _TERRA, _SOL = "gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"


@dataclass(frozen=True, slots=True)
class Retirement:
    """The day from which a model answers no more, and the model to use instead."""

    model: str
    day: date
    replacement: str

    def past(self, today: date) -> bool:
        """Whether it is gone."""
        return self.day <= today


_TABLE: dict[date, dict[str, str]] = {
    date(2026, 10, 23): {
        "gpt-3.5-turbo": _LUNA,
        "gpt-4": _LUNA,
        "gpt-4-turbo": _LUNA,
        "gpt-4.1-nano": _LUNA,
        "o4-mini": _TERRA,
        "o3-mini": _TERRA,
        "o1": _SOL,
    },
    date(2026, 12, 11): {"gpt-5": _SOL, "gpt-5-mini": _TERRA, "gpt-5-nano": _LUNA, "o3": _SOL},
    date(2027, 1, 14): {"gpt-4o": _LUNA, "gpt-4o-mini": _LUNA, "gpt-4.1": _LUNA, "gpt-4.1-mini": _LUNA},
    date(2027, 1, 20): {
        "gpt-realtime": "gpt-realtime-2.1",
        "gpt-realtime-mini": "gpt-realtime-2.1-mini",
        "gpt-audio-mini": "gpt-realtime-2.1-mini",
    },
    date(2027, 4, 1): {"gpt-5.1": _SOL, "gpt-5.4-nano": _LUNA},
}


def retirement(model: str) -> Retirement | None:
    """When a model ends; None where nothing is known. A dated snapshot (`gpt-4-0613`) ends with its model."""
    for name in (model, _SNAPSHOT.sub("", model)):
        for day, models in _TABLE.items():
            if name in models:
                return Retirement(model, day, models[name])
    return None
