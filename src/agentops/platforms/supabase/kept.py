"""What is known of a project's deployments: sources by hash, and which version each became.

    AGENTOPS_HOME/supabase/<ref>/deployments.jsonl   one line a deployment, newest last (books.py)
                                 sources/<sha256>.json

The API keeps no versions, so what a rollback needs is kept here, written whole before the request that needs it. Who
deployed what is for the whole team to see; sources, and what was only found there, are this machine's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentops import files
from agentops.errors import AgentOpsError
from agentops.platforms.supabase.journal import make_folders
from agentops.platforms.supabase.sources import Source

if TYPE_CHECKING:
    from pathlib import Path

    from agentops.platforms.supabase.books import Books

# The origin of a source that was only found there.
DOWNLOADED = "downloaded"


@dataclass(frozen=True, slots=True)
class Record:
    """One version as somebody deployed it, or as this machine found it and kept its source (`origin` downloaded)."""

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
    # Whether it answered when it was called after its deploy; where not, the next deploy calls it again.
    answered: bool = True
    # Somebody else's deploy took the very same number: what runs under it is theirs.
    replaced: bool = False

    @property
    def when(self) -> datetime:
        """When it was deployed, or found."""
        return datetime.fromisoformat(self.at)


_FIELDS = {each.name for each in fields(Record)}


class Kept:
    """A project's records, and this machine's folder of sources."""

    def __init__(self, folder: Path, books: Books) -> None:
        self._folder = folder
        self._books = books

    async def load(self) -> None:
        """Hear what other machines deployed; never fails."""
        await self._books.load("deployments")

    def records(self, slug: str | None = None) -> list[Record]:
        """All records, newest first: this machine's, and what was heard of others.

        Raises:
            AgentOpsError: they are there and cannot be read.
        """
        entries = reversed(self._books.entries("deployments"))
        wanted = (entry.content for entry in entries if slug in {None, entry.content.get("slug")})
        return [record for record in map(_record, wanted) if record is not None]

    def is_own(self, record: Record) -> bool:
        """Whether it was this machine that deployed, or found, what a record tells of."""
        return any(_record(entry.content) == record for entry in self._books.here("deployments"))

    def add(self, record: Record) -> None:
        """Append a record, on disk when this returns. What was only found there is for this machine.

        Raises:
            AgentOpsError: it cannot be written.
        """
        self._books.write("deployments", [asdict(record)], shared=record.origin != DOWNLOADED)

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


def _record(content: dict[str, Any]) -> Record | None:
    """What an entry tells; a newer agentops may tell more. None where it tells of no deployment."""
    try:
        record = Record(**{name: value for name, value in content.items() if name in _FIELDS})
        datetime.fromisoformat(record.at)
    except (TypeError, ValueError):
        return None
    return record
