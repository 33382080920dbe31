"""The memory of a stack (supervisor, one web and one worker process, no PostgreSQL).

idle    beside a bare server
flat    after 10,000 messages, and after 50,000: received, leased, begun, told of in the log and ended, each of them
        older than WhatsApp lets anybody answer, so that neither a model nor WhatsApp is asked
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from benchmarks.acknowledgement import deliver, message
from benchmarks.figures import Figure
from benchmarks.stack import bare_server, serving

if TYPE_CHECKING:
    from benchmarks.stack import Running

GOAL_MB, SETTLE_SECONDS = 160, 5
# Messages in all, of which the first part warms; how many customers, and how many messages in a delivery.
FIRST, ALL, CUSTOMERS, EACH = 10_000, 50_000, 500, 100
DRAIN_SECONDS, GROWTH = 300, 0.1


def measure() -> list[Figure]:
    """Proportional set size, as the kernel accounts it (Linux only)."""
    return [_idle(), _flat()]


def _idle() -> Figure:
    with serving() as stack, bare_server(stack.database_url):
        time.sleep(SETTLE_SECONDS)
        processes = [stack.pid, *_descendants(stack.pid)]
        total = sum(map(_pss_mb, processes))
        bare = sum(_pss_mb(pid) for pid in _named("benchmarks.bare:app"))
    value = f"{total:.0f} MB in {len(processes)} processes"
    return Figure("idle memory", value, f"bare Starlette {bare:.0f} MB", f"≤ {GOAL_MB} MB", total <= GOAL_MB)


def _flat() -> Figure:
    with serving() as stack:
        processes = [stack.pid, *_descendants(stack.pid)]
        found = []
        for first in range(0, ALL, FIRST):
            _work_through(stack, first)
            found.append(sum(map(_pss_mb, processes)))
    warm, last = found[0], found[-1]
    beside = "on the way " + ", ".join(f"{each:.0f}" for each in found[1:-1])
    value = f"{warm:.0f} → {last:.0f} MB"
    name = f"memory, {FIRST:,} → {ALL:,} messages"
    return Figure(name, value, beside, f"≤ {GROWTH:.0%} more", last <= warm * (1 + GROWTH))


def _work_through(stack: Running, first: int) -> None:
    """Deliver the next part, and wait until it is worked through and settled."""
    for start in range(first, first + FIRST, EACH):
        deliver(
            stack, [message(str(n), f"2507880{n % CUSTOMERS:05}", 1_600_000_000) for n in range(start, start + EACH)]
        )
    deadline = time.monotonic() + DRAIN_SECONDS
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        while connection.execute(b"select from agentops.inbox where state = 'queued' limit 1").fetchone() is not None:
            assert time.monotonic() < deadline, "not worked through in time"
            time.sleep(0.2)
        done = connection.execute(b"select count(*) from agentops.inbox where state = 'skipped'").fetchone()
    assert done == (first + FIRST,), "every message was taken"
    time.sleep(SETTLE_SECONDS)


def _descendants(pid: int) -> list[int]:
    children = (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split()
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


def _named(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
