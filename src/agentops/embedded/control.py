"""Tell a running supervisor something, or take everything of a state folder away."""

from __future__ import annotations

import shutil
import signal
import time
from typing import TYPE_CHECKING

from agentops.embedded import locks, processes
from agentops.errors import TimedOut

if TYPE_CHECKING:
    from agentops.embedded.place import Place

_STOP_SECONDS = 60.0


def signal_supervisor(place: Place, number: signal.Signals) -> bool:
    """Signal the process that holds supervisor.lock now; False when there is none (or it is only just starting)."""
    pid = locks.holder(place.supervisor_lock)
    # The content of the file may be older than the lock on it, and its process id another process's by now.
    if pid is None or not processes.mentions(pid, "agentops.embedded.supervisor", str(place.state)):
        return False
    return processes.tell(pid, number)


def _signal_orphan(place: Place) -> bool:
    """Stop a server that has outlived its supervisor, which can happen where a parent's death is no signal (macOS)."""
    pid = None if locks.is_held(place.supervisor_lock) else processes.postmaster(place.data)
    return pid is not None and processes.tell(pid, signal.SIGINT)


def demolish(place: Place) -> None:
    """Stop the server, whoever uses it; delete its data, socket and state. TimedOut when it does not stop."""
    deadline = time.monotonic() + _STOP_SECONDS
    told = False
    while locks.is_held(place.supervisor_lock) or locks.is_held(place.server_lock):
        told = told or signal_supervisor(place, signal.SIGTERM) or _signal_orphan(place)
        if time.monotonic() > deadline:
            raise TimedOut(f"the embedded PostgreSQL of {place.state} did not stop", f"the whole log: {place.log}")
        time.sleep(locks.POLL_SECONDS)
    if place.run.is_symlink():
        shutil.rmtree(place.run.readlink(), ignore_errors=True)
    for folder in {place.base, place.state}:
        if folder.exists():
            shutil.rmtree(folder)
