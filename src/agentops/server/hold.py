"""The one `up` of a target on this machine: a locked file that says who it is and where it listens.

    up ──> take(path) ──> say(…) ── ready ──> say(…)          down, status, a second up ──> read(path)

The kernel frees the lock with its holder, however that ends; the file's content counts only while it is locked.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agentops.embedded import locks

if TYPE_CHECKING:
    from pathlib import Path

    from agentops.settings import Process

# Whoever only looks holds the lock for some microseconds.
_TAKE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds it: `url` is None until it listens, `ready` once every process of it serves."""

    pid: int
    url: str | None = None
    ready: bool = False


class Hold:
    """The lock, held until this process ends or `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, url: str | None, *, ready: bool) -> None:
        """Write where we listen, and whether we serve."""
        content = json.dumps(asdict(Held(os.getpid(), url, ready))).encode()
        os.pwrite(self._descriptor, content.ljust(os.fstat(self._descriptor).st_size), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)


def path(process: Process) -> Path:
    """The file of this target. Targets given by address share a folder, so each has a name of its own."""
    if process.embedded:
        return process.state / "up.lock"
    return process.state / f"up-{hashlib.sha256(process.target.encode()).hexdigest()[:12]}.lock"


def take(file: Path) -> Hold | None:
    """Become the one; None where another is."""
    make_folder(file.parent)
    descriptor = locks.open_lock(file)
    if not locks.lock_until(descriptor, locks.EXCLUSIVE, time.monotonic() + _TAKE_SECONDS):
        os.close(descriptor)
        return None
    hold = Hold(descriptor)
    hold.say(None, ready=False)
    return hold


def make_folder(folder: Path) -> None:
    """Make a target's folder and the state folder it stands in, for this user only. What exists keeps its mode."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def read(file: Path) -> Held | None:
    """Who holds it now; None where nobody does."""
    if not locks.is_held(file):
        return None
    # The holder writes within microseconds of locking.
    for _ in range(50):
        with suppress(ValueError, TypeError, OSError):
            return Held(**json.loads(file.read_bytes()))
        time.sleep(0.01)
    return None
