"""Lines of JSON that only grow, in a hosted project's folder: what its API does not keep.

writing() ── the file's lock ──> append(line), on disk when it returns          lines() ──> oldest first
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from agentops.embedded import locks
from agentops.errors import AgentOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Line = dict[str, Any]

# Each holds it for as long as a line takes to be on disk.
LOCK_SECONDS = 2.0
_PAUSE = 0.01


class Journal:
    """One file; it and its folders are this user's alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = file.with_suffix(".lock")
        # How long others that hold the lock are waited for, in all.
        self._patience = LOCK_SECONDS
        # What was read, and of which state of the file.
        self._known: tuple[tuple[int, int, int], list[Line]] | None = None

    def lines(self) -> list[Line]:
        """All of them, oldest first; the same list as long as the file is the same.

        A line that a crash cut off is left out.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        try:
            about = self._file.stat()
            state = (about.st_ino, about.st_size, about.st_mtime_ns)
            if self._known is None or self._known[0] != state:
                lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
                self._known = state, [line for line in map(_read, lines) if line is not None]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise AgentOpsError(f"{self._file} cannot be read: {error.strerror}", "see its permissions") from error
        return self._known[1]

    @contextmanager
    def writing(self) -> Iterator[Callable[[Line], None]]:
        """Hold the lock; gives what appends a line.

        Raises:
            AgentOpsError: it cannot be written.
        """
        try:
            make_folders(self._file.parent)
            with self._locked():
                yield self._append
        except OSError as error:
            raise AgentOpsError(f"{self._file} could not be written: {error.strerror}", "see its disk") from error

    async def free(self) -> None:
        """Wait, as long as `writing` would, until nobody holds the lock; what else is under way goes on meanwhile."""
        begun = time.monotonic()
        try:
            # The kernel tells nobody that a file's lock is free
            while time.monotonic() - begun < self._patience and locks.is_held(self._lock):  # noqa: ASYNC110
                await asyncio.sleep(_PAUSE)
        except OSError:
            return  # `writing` says it
        finally:
            self._patience = max(self._patience - (time.monotonic() - begun), 0.0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = locks.open_lock(self._lock)
        begun = time.monotonic()
        try:
            held = locks.lock_until(descriptor, locks.EXCLUSIVE, begun + self._patience)
            # Who was waited for once is not waited for again.
            self._patience = max(self._patience - (time.monotonic() - begun), 0.0)
            if not held:
                words = f"{self._file} could not be written: another process holds {self._lock.name}"
                raise AgentOpsError(words, f"end that process: fuser {self._lock}")
            yield
        finally:
            os.close(descriptor)

    def _append(self, line: Line) -> None:
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # A line that a crash cut off must not swallow this one.
            cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            text = (("\n" if cut else "") + json.dumps(line) + "\n").encode()
            try:
                while text:
                    text = text[os.write(descriptor, text) :]
                os.fsync(descriptor)
            except OSError:
                # What is said not to be written is not there either, nor is half of it.
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def make_folders(project: Path) -> None:
    """Make a project's folder and those it stands in (`<home>/supabase/<ref>`), for this user only."""
    for folder in (project.parent.parent, project.parent, project):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _read(text: str) -> Line | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
