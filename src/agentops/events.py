"""Events: one JSON object a line on stdout, and the same object to a sink that stores it.

    events = Events(sink).bind(correlation_id, function)
    events.info("ai.tool.create_voucher.success", voucher_id=…)

Emitting never raises and never waits: a sink takes an event or drops it (and counts what it dropped).
Every field passes `redact.scrub`; phones are written by their writers under keys ending in `_masked`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from agentops.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVELS = ("debug", "info", "warning", "error")
# Identifiers are safe by construction and may look like digits to the scrubber.
_UNSCRUBBED = frozenset({"timestamp", "level", "event", "function", "voucher_id", "latency_ms", "server", "usage"})


def scrubbed(data: Mapping[str, object]) -> dict[str, object]:
    """An event's own fields with everything masked that looks like a person's."""
    return {key: item if key in _UNSCRUBBED else scrub(item) for key, item in data.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data` holds the event's own fields, already scrubbed."""

    timestamp: datetime
    level: str
    event: str
    correlation_id: str
    function: str
    data: dict[str, object]

    def line(self) -> str:
        """The event as one line of JSON, fixed fields first."""
        return json.dumps(
            {
                "timestamp": self.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "level": self.level,
                "event": self.event,
                "correlation_id": self.correlation_id,
                "function": self.function,
                **self.data,
            },
            ensure_ascii=False,
            default=str,
        )


class Sink(Protocol):
    """Something that stores events. `write` returns at once and never raises."""

    def write(self, event: Event) -> None:
        """Take the event, or drop it."""


def stdout_line(event: Event, stream: TextIO | None = None) -> None:
    """Write the event's line; a closed or full pipe is no reason to fail a request."""
    out = stream or sys.stdout
    try:
        out.write(event.line() + "\n")
        out.flush()
    except (OSError, ValueError):
        return


@dataclass(frozen=True, slots=True)
class Events:
    """An emitter bound to a correlation id and a function."""

    sink: Sink | None = None
    correlation_id: str = ""
    function: str = ""
    echo: Callable[[Event], None] | None = field(default=stdout_line)
    # Fields that every event has where it does not bring its own.
    fields: Mapping[str, object] = field(default_factory=dict)

    def bind(self, correlation_id: str, function: str) -> Events:
        """The same emitter for another request, or another function in its course."""
        return replace(self, correlation_id=correlation_id, function=function)

    def about(self, **fields: object) -> Events:
        """The same emitter, each of whose events has these fields too."""
        return replace(self, fields={**self.fields, **fields})

    def debug(self, event: str, **data: object) -> None:
        """Emit at level debug."""
        self._emit("debug", event, data)

    def info(self, event: str, **data: object) -> None:
        """Emit at level info."""
        self._emit("info", event, data)

    def warning(self, event: str, **data: object) -> None:
        """Emit at level warning."""
        self._emit("warning", event, data)

    def error(self, event: str, **data: object) -> None:
        """Emit at level error."""
        self._emit("error", event, data)

    def _emit(self, level: str, name: str, data: dict[str, object]) -> None:
        clean = scrubbed({**self.fields, **data})
        event = Event(datetime.now(UTC), level, name, str(scrub(self.correlation_id)), self.function, clean)
        if self.echo:
            self.echo(event)
        if self.sink:
            self.sink.write(event)
