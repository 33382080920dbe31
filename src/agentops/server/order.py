"""What a supervisor tells each of its processes: over a pipe, never on the command line, where everybody could read it.

supervisor ── one line of JSON ──> the child's standard input ── stays open: its end is the supervisor's end
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Order:
    """One process's orders. `url` is where the stack listens, as others reach it; None where only workers run."""

    database_url: str = field(repr=False)
    url: str | None = None
    stack_key: str = field(default="", repr=False)
    # How many conversations a worker works on at the same time.
    lanes: int = 16

    def line(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Order:
        """Take what `line` gave."""
        return cls(**json.loads(line))
