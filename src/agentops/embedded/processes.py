"""Is the process with this id the one we mean? Ids are reused, so a number from a file is never signalled unseen."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

_PROC = Path("/proc/self/cmdline")


def arguments(pid: int) -> list[str]:
    """Read the command line of a process; [] when it has exited. Without /proc (macOS) it is split at spaces."""
    if _PROC.exists():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(argument) for argument in line.split(b"\0")[:-1]]
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.split()


def mentions(pid: int, *texts: str) -> bool:
    """Whether the process runs and each text is one of its arguments or, without /proc, a part of its command line."""
    found = arguments(pid)
    joined = " ".join(found)
    return bool(found) and all(text in found or (not _PROC.exists() and text in joined) for text in texts)


def tell(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process has ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def postmaster(data: Path) -> int | None:
    """Find the id of a server that runs on the cluster `data`, by its own pid file; None when there is none."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if mentions(pid, "-D", str(data)) else None
