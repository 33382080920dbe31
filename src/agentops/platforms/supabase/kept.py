"""What this machine knows of a project's deployments: sources by hash, and which version each became.

    AGENTOPS_HOME/supabase/<ref>/deployments.jsonl   one line a deployment, newest last
                                 sources/<sha256>.json

The API keeps no versions, so what a rollback needs is kept here, written whole before the request that needs it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentops import files
from agentops.errors import AgentOpsError
from agentops.platforms.supabase.journal import Journal, make_folders
from agentops.platforms.supabase.sources import Source

if TYPE_CHECKING:
    from pathlib import Path


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
        self._journal = Journal(folder / "deployments.jsonl")

    def records(self, slug: str | None = None) -> list[Record]:
        """All records, newest first.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        wanted = [entry for entry in reversed(self._journal.entries()) if slug in {None, entry.get("slug")}]
        return [record for record in map(_record, wanted) if record is not None]

    def newest(self, slug: str) -> Record | None:
        """The last record of a function."""
        return next(iter(self.records(slug)), None)

    def add(self, record: Record) -> None:
        """Append a record, on disk when this returns.

        Raises:
            AgentOpsError: it cannot be written.
        """
        with self._journal.writing() as append:
            append(asdict(record))

    def keep(self, source: Source) -> None:
        """Write a source down, whole or not at all.

        Raises:
            AgentOpsError: it cannot be written.
        """
        file = self._place(source.sha256)
        if self.source(source.sha256) is not None:
            return
        try:
            make_folders(self._folder)
            file.parent.mkdir(mode=0o700, exist_ok=True)
            files.replace(file, json.dumps(asdict(source)).encode())
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


def _record(entry: dict[str, Any]) -> Record | None:
    try:
        return Record(**entry)
    except TypeError:
        return None
