"""Numbers with their noun, for sentences that people read: the one place that knows plurals.

counted(1, "message") → '1 message'     counted(2000, "reply", "replies") → '2,000 replies'
"""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """`number`, its thousands marked, and the noun that fits it; `many` is the plural where it is not `one` + s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
