"""Profiles that this process has just read, kept for five minutes: looking a customer up again asks no database.

    find(asked) ── known → the answer                            server/lookup_watch: LISTEN stands → opened
                └─ not   → ticket → read the profile → keep      a notice → forget(phone) · LISTEN broke → closed, empty

Only an opened one keeps anything: without the line on which changes are announced, nothing is. For eyes and for the
model's words; whatever moves money or decides about a permission reads the database.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentops.store.profiles import Profile

CHANNEL = "agentops_lookups"
KEPT_SECONDS = 300.0
# About 5 MB.
ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """All that an answer depends on.

    `walled` is whether the database showed the asker their own rows only; `deployed` names the load of the function
    that answers, so that loading it again (`agentops deploy … --force`) forgets what was kept before.
    """

    phone: str
    walled: bool
    deployed: str


@dataclass(frozen=True, slots=True)
class Known:
    """An answer: the profile, or that there was none."""

    profile: Profile | None
    until: float


class Lookups:
    """The answers of one process, for the customers asked for last. Closed until `open`.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, dict[Asked, Known]] = OrderedDict()
        self._open = False
        # Counts what was forgotten: an answer that was read before is not kept after.
        self._changes = 0

    def __len__(self) -> int:
        return len(self._known)

    def open(self) -> None:
        """From now on every change is heard of."""
        self._open = True

    def close(self) -> None:
        """Changes are not heard of any more: nothing known may be told, and nothing is kept."""
        self._open = False
        self._known.clear()
        self._changes += 1

    def find(self, asked: Asked) -> Known | None:
        """What is known, or None."""
        found = self._known.get(asked.phone, {}).get(asked)
        if found is None or found.until <= self._clock():
            return None
        self._known.move_to_end(asked.phone)
        return found

    def ticket(self) -> tuple[int, float]:
        """Take one before reading what is to be kept: it tells what was forgotten since, and when it was read."""
        return self._changes, self._clock()

    def keep(self, asked: Asked, ticket: tuple[int, float], profile: Profile | None) -> None:
        """Keep an answer that was read after the ticket was taken, unless anything was forgotten meanwhile."""
        changes, begun = ticket
        if not self._open or changes != self._changes:
            return
        of_phone = self._known.setdefault(asked.phone, {})
        for other in [each for each in of_phone if each.deployed != asked.deployed]:
            del of_phone[other]
        of_phone[asked] = Known(profile, begun + KEPT_SECONDS)
        self._known.move_to_end(asked.phone)
        if len(self._known) > ENTRIES:
            self._known.popitem(last=False)

    def forget(self, phone: str) -> None:
        """A customer has changed."""
        self._changes += 1
        self._known.pop(phone, None)
