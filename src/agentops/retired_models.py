"""OpenAI's retired and retiring models: when each is shut down, and what takes its place.

Source: OpenAI's deprecations page and the SDK's list of models, read on 22 November 2026. A name that is not here is
taken as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from agentops.settings import DEFAULT_MODEL

_SNAPSHOT = re.compile(r"-(\d{4}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class Retirement:
    """The day from which a model answers no more, and the model to use instead."""

    model: str
    day: date
    replacement: str | None

    def past(self, today: date) -> bool:
        """Whether it is gone."""
        return self.day <= today


# Where OpenAI names no successor, this stack's own default stands; None where that could not do the work.
_TABLE: dict[date, dict[str, str | None]] = {
    date(2026, 10, 23): dict.fromkeys(
        ("gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4.1-nano", "o4-mini", "o3-mini", "o1"), DEFAULT_MODEL
    ),
    date(2026, 12, 11): {
        "gpt-5": "gpt-6.1-sol",
        "gpt-5-mini": "gpt-6.1-terra",
        "gpt-5-nano": DEFAULT_MODEL,
        "o3": DEFAULT_MODEL,
    },
    date(2027, 1, 14): dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), DEFAULT_MODEL),
    date(2027, 1, 20): {
        "gpt-realtime": "gpt-realtime-2.1",
        "gpt-realtime-mini": "gpt-realtime-2.1-mini",
        "gpt-audio-mini": None,
    },
    date(2027, 2, 26): dict.fromkeys(("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")),
    date(2027, 4, 1): dict.fromkeys(("gpt-5.1", "gpt-5.4-nano"), DEFAULT_MODEL),
}


def retirement(model: str) -> Retirement | None:
    """When a model ends; None where nothing is known. A dated snapshot (`gpt-4-0613`) ends with its model."""
    for name in (model, _SNAPSHOT.sub("", model)):
        for day, models in _TABLE.items():
            if name in models:
                return Retirement(model, day, models[name])
    return None
