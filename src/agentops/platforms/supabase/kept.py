"""What this machine knows of a project's deployments: sources by hash, and which version each became.

    AGENTOPS_HOME/supabase/<ref>/deployments.jsonl   one line a deployment, newest last
                                 sources/<sha256>.json

The API keeps no versions, so what a rollback needs is kept here, written whole before the request that needs it.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agentops.embedded import locks
from agentops.errors import AgentOpsError
from agentops.platforms.supabase.sources import Source


@dataclass(frozen=True, slots=True)
class Record:
    """One version as this machine deployed it, or found it there and kept its source (`origin` downloaded)."""

    slug: str
    version: int
    sha256: str
    verify_jwt: bool
    origin: str
    by: str
    at: str
    # The hash of the bundle that Supabase made of it; empty where it named none.
    ezbr_sha256: str = ""
    # The function's own id: another one after it was deleted and made anew, when versions begin at 1 again.
    id: str = ""

    @property
    def when(self) -> datetime:
        """When it was deployed, or found."""
        return datetime.fromisoformat(self.at)


class Kept:
    """A project's folder of records and sources."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "deployments.jsonl"
        # The file's records, and which state of the file they are of.
        self._read: tuple[tuple[int, int, int], list[Record]] | None = None

    def records(self, slug: str | None = None) -> list[Record]:
        """All records, newest first. A last line that a crash cut off is left out.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        try:
            about = self._file.stat()
            if self._read is None or self._read[0] != (about.st_ino, about.st_size, about.st_mtime_ns):
                lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
                found = [record for record in map(_record, reversed(lines)) if record is not None]
                self._read = ((about.st_ino, about.st_size, about.st_mtime_ns), found)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise AgentOpsError(f"{self._file} cannot be read: {error.strerror}", "see its permissions") from error
        return [record for record in self._read[1] if slug in {None, record.slug}]

    def newest(self, slug: str) -> Record | None:
        """The last record of a function."""
        return next(iter(self.records(slug)), None)

    def add(self, record: Record) -> None:
        """Append a record, on disk when this returns.

        Raises:
            AgentOpsError: it cannot be written.
        """
        try:
            self._make()
            with locks.locked(self._folder / "deployments.lock"):
                append(self._file, json.dumps(asdict(record)))
        except OSError as error:
            raise AgentOpsError(f"{self._file} could not be written: {error.strerror}", "see its disk") from error

    def keep(self, source: Source) -> None:
        """Write a source down, whole or not at all.

        Raises:
            AgentOpsError: it cannot be written.
        """
        file = self._place(source.sha256)
        if self.source(source.sha256) is not None:
            return
        try:
            self._make()
            handle, name = tempfile.mkstemp(dir=file.parent)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as stream:
                    json.dump(asdict(source), stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(name).replace(file)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise AgentOpsError(f"{file} could not be written: {error.strerror}", "nothing was sent") from error

    def source(self, sha256: str) -> Source | None:
        """A kept source; None where it is not here."""
        try:
            content: dict[str, Any] = json.loads(self._place(sha256).read_text(encoding="ascii"))
            return Source(**{**content, "static_patterns": tuple(content["static_patterns"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _place(self, sha256: str) -> Path:
        return self._folder / "sources" / f"{sha256}.json"

    def _make(self) -> None:
        for folder in (self._folder.parent.parent, self._folder.parent, self._folder, self._folder / "sources"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def append(file: Path, line: str) -> None:
    """Append one line, on disk when this returns; whoever calls holds the file's lock."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a crash cut off must not swallow this one.
        cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (("\n" if cut else "") + line + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record(line: str) -> Record | None:
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError):
        return None
