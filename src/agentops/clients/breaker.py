"""A circuit breaker: a provider that keeps failing is left alone for a while, instead of being waited for every time.

    closed ── 5 failures in a row, or ≥ 10 requests in 60 s of which half failed ──> open
    open ── 10 s (20, 40, 60 at most) ──> half-open: one probe ── well ──> closed
                                                               └─ failed ──> open, twice as long

In memory, one per provider, address and key in each process; who asks tells its changes in events.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Literal

from agentops.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half-open"]

WINDOW_SECONDS = 60.0
REQUESTS, SHARE, IN_A_ROW = 10, 0.5, 5
PAUSE_SECONDS, LONGEST_PAUSE = 10.0, 60.0


class Open(Unavailable):
    """The provider has failed too often and is not asked at the moment."""


class Breaker:
    """Counts how one provider answers.

    Args:
        name: the provider, for the words of the error.
        clock: seconds that only grow.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._seen: deque[tuple[float, bool]] = deque()
        self._in_a_row = 0
        self._pause = PAUSE_SECONDS
        self._until: float | None = None
        self._probing: float | None = None

    @property
    def state(self) -> State:
        """What happens to the next request."""
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half-open"

    def admit(self) -> None:
        """Let a request pass; report its end with `report`, or with `abandon` where it never ended.

        Raises:
            Open: it must not be made.
        """
        if self._until is None:
            return
        now = self._clock()
        # A probe that was never heard of again does not keep the door shut for good.
        probed = self._probing is not None and now - self._probing < WINDOW_SECONDS
        if now < self._until or probed:
            left = max(self._until - now, 0.0)
            raise Open(f"{self._name} fails too often and is left alone for now ({left:.0f} s)", "agentops health")
        self._probing = now

    def report(self, *, well: bool) -> State | None:
        """Say how a request ended; the new state where it changed by it."""
        now = self._clock()
        if self._until is not None:
            return self._reported_open(now, well=well)
        self._seen.append((now, well))
        while self._seen and self._seen[0][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()
        self._in_a_row = 0 if well else self._in_a_row + 1
        failed = sum(not each for _, each in self._seen)
        many = len(self._seen) >= REQUESTS and failed >= SHARE * len(self._seen)
        if well or not (many or self._in_a_row >= IN_A_ROW):
            return None
        self._until = now + self._pause
        return "open"

    def abandon(self) -> None:
        """A request was broken off by us: it says nothing about the provider."""
        self._probing = None

    def _reported_open(self, now: float, *, well: bool) -> State | None:
        if self._probing is None:  # begun before it opened
            return None
        self._probing = None
        if well:
            self._seen.clear()
            self._in_a_row, self._pause, self._until = 0, PAUSE_SECONDS, None
            return "closed"
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._until = now + self._pause
        return "open"
