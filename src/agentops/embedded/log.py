"""The one log of a state folder: what the supervisor, initdb and PostgreSQL say, in `postgres.log`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROTATE_BYTES = 10_000_000
TAIL_BYTES = 2_000
_STDERR = 2


def open_log(path: Path) -> int:
    """Open the log for appending (0600); one that has grown past ROTATE_BYTES becomes `postgres.log.1` first."""
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def size(path: Path) -> int:
    """Bytes in the log now: where what happens next begins. 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, start: int) -> str:
    """Read what was logged from byte `start` on, at most the last TAIL_BYTES; an empty string when that is nothing."""
    try:
        with path.open("rb") as log:
            log.seek(max(start, size(path) - TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def note(text: str) -> None:
    """Write a line to the log from the supervisor, whose standard error it is, in PostgreSQL's own format."""
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    os.write(_STDERR, f"{moment} UTC [{os.getpid()}] supervisor: {text}\n".encode())
