"""Advisory file locks (`flock`): who uses the server, who supervises it, and whether any of its processes is left.

    clients.lock     shared: every process that uses the database · exclusive: the supervisor while it stops the server
    supervisor.lock  exclusive: the one supervisor, whose process id is the file's content
    server.lock      exclusive: inherited by every process of `postgres`, so it is free only when all of them are gone

The kernel releases a lock with its last holder, also after `kill -9`; no file here is ever evidence by existing.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARED = fcntl.LOCK_SH
EXCLUSIVE = fcntl.LOCK_EX
POLL_SECONDS = 0.005


def open_lock(path: Path) -> int:
    """Open (or create, 0600) a lock file; return a file descriptor that child programs do not inherit."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(fd: int, mode: int) -> bool:
    """Take SHARED or EXCLUSIVE at once; False when somebody else's lock forbids it."""
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_until(fd: int, mode: int, deadline: float) -> bool:
    """Try for the lock until `deadline` (time.monotonic seconds); flock itself knows no timeout, so this polls."""
    while not try_lock(fd, mode):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def unlock(fd: int) -> None:
    """Give the lock back and keep the file open."""
    fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on `path`, waiting as long as it takes."""
    fd = open_lock(path)
    try:
        fcntl.flock(fd, EXCLUSIVE)
        yield
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether somebody holds the exclusive lock on `path`; a missing file is held by nobody."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd, SHARED)
    finally:
        os.close(fd)


def is_open_at(fd: int, path: Path) -> bool:
    """Whether the file behind `fd` is still the one that `path` leads to."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def write_pid(fd: int) -> None:
    """Make this process's id the content of a lock file it holds."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def holder(path: Path) -> int | None:
    """Read the process id in a lock file that is held now; None when it is free or its holder has not written yet."""
    if not is_held(path):
        return None
    try:
        return int(path.read_bytes())
    except ValueError:
        return None
