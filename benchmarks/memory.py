"""The memory of an idle stack (supervisor, one web and one worker process, no PostgreSQL), beside a bare server."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.stack import bare_server, serving

GOAL_MB, SETTLE_SECONDS = 160, 5


def measure() -> list[Figure]:
    """Proportional set size, as the kernel accounts it (Linux only)."""
    with serving() as stack, bare_server(stack.database_url):
        time.sleep(SETTLE_SECONDS)
        processes = [stack.pid, *_descendants(stack.pid)]
        total = sum(map(_pss_mb, processes))
        bare = sum(_pss_mb(pid) for pid in _named("benchmarks.bare:app"))
    value = f"{total:.0f} MB in {len(processes)} processes"
    return [Figure("idle memory", value, f"bare Starlette {bare:.0f} MB", f"≤ {GOAL_MB} MB", total <= GOAL_MB)]


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
