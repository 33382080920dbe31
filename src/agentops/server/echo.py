"""Events as lines on stdout, written by a thread: a reader that does not read, or a stopped terminal, halts nobody.

    Events(echo=Echo()) ──> bounded queue ──> thread: what has gathered in 20 ms, one write

A queue that is full loses its oldest lines; the stored copy of the event (`log_writer`) does not depend on this one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentops.events import Event

CAPACITY = 10_000
GATHER_SECONDS = 0.02


class Echo:
    """Call it with an event; `close` writes what is left."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._events: deque[Event] = deque(maxlen=CAPACITY)
        self._filled = threading.Event()
        self._closing = False
        # A daemon: when nobody reads any more, it must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take the event; returns at once."""
        self._events.append(event)
        if not self._filled.is_set():
            self._filled.set()

    def close(self, seconds: float = 0.5) -> None:
        """Write what is left, within `seconds`."""
        self._closing = True
        self._filled.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing or self._events:
            self._filled.wait()
            if not self._closing:
                time.sleep(GATHER_SECONDS)
            self._filled.clear()
            lines: list[str] = []
            with suppress(IndexError):
                while True:
                    lines.append(self._events.popleft().line())
            self._write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
            if self._closing:
                self._filled.set()

    def _write(self, text: bytes) -> None:
        """All of it. A closed pipe is no reason to fail: the events are stored elsewhere."""
        with suppress(OSError):
            while text:
                text = text[os.write(self._descriptor, text) :]
