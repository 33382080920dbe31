"""What libraries log goes the same way as our own events, scrubbed; nothing of it reaches the output by itself.

    httpx, openai, psycopg, asyncio, … → root → ForeignLogs → `ai.log.<logger>`, WARNING and worse

Their words are no constants: an exception, an address, an argument may quote a customer. So of what is put into a
message only numbers are told, and of the message nothing from its first quotation on; a traceback is type and place.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentops.events import Events

WORDS = 500
_NAME = re.compile(r"[^a-z0-9_.]+")
_QUERY = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']*")
# A value in its Python or JSON form. Where it ends, only its escapes say: the rest goes with it.
_QUOTED = re.compile(r"(?s)([:=(,\[])\s*[bru]{0,2}[\"'{\[].*")
_WARNING = re.compile(r"[^\s:]*?([^\s:/]+:[0-9]+: [A-Za-z]+):")


class ForeignLogs(logging.Handler):
    """Turns log records into events."""

    def __init__(self, events: Events, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as an event; whatever is wrong with it, the one who logged hears nothing of it."""
        try:
            fields: dict[str, object] = {"error": _words(record)[:WORDS]}
            if record.exc_info and record.exc_info[0] is not None:
                fields["exception"] = _where(record.exc_info[0], record.exc_info[2])
            name = f"ai.log.{_NAME.sub('_', record.name.lower())}"
            self._emit(record.levelno)(name, **fields)
        except Exception:  # noqa: BLE001 - a log line is worth no failure
            return

    def _emit(self, level: int) -> Callable[..., None]:
        if level >= logging.ERROR:
            return self._events.error
        if level >= logging.WARNING:
            return self._events.warning
        return self._events.info if level >= logging.INFO else self._events.debug


def take_over(events: Events, level: int = logging.WARNING) -> ForeignLogs:
    """Make the root logger tell its records as events, and take every other handler from every logger."""
    handler = ForeignLogs(events, level)
    root = logging.getLogger()
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Outages are told by events, once; the pool would tell every attempt.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    # Strangers' broken requests are no news, and a defect is an event of the app's own.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    return handler


class _Left:
    """In the place of what is left out, however it is formatted."""

    def __format__(self, _how: str) -> str:
        return "…"

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__


def _words(record: logging.LogRecord) -> str:
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if record.name == "py.warnings":
        # A warning's words are whatever its author wrote, with what they wrote it about.
        place = _WARNING.match(record.getMessage())
        return place[1] if place else "a warning"
    try:
        words = record.msg % _told(record.args) if record.args else record.msg
    except (TypeError, ValueError):  # `%d` of what is left out
        words = record.msg
    return _QUOTED.sub(r"\1 …", _QUERY.sub(r"\1", words))


def _told(given: object) -> object:
    """The arguments of a message: numbers as they are, nothing else."""
    if isinstance(given, dict):
        return {name: _told(each) for name, each in given.items()}
    if isinstance(given, tuple):
        return tuple(_told(each) for each in given)
    return given if isinstance(given, (int, float)) else _Left()


def _where(kind: type[BaseException], place: object) -> str:
    frames = traceback.extract_tb(place)[-2:]  # type: ignore[arg-type]  # what logging keeps there
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
    return f"{kind.__name__} in {places}" if places else kind.__name__
