"""What the parts of one server process share: its database, its loaded functions, the stack of the current settings.

A process is assembled by `server.process`:

    database, log writer → events → loader → ServerContext → settings_watch (first stack) → heartbeat
                         → role web: app on the inherited socket · role worker: worker.run(context, stop)

A request or a job takes `context.stack()` and `context.loader.get(slug)` once, when it begins, and keeps them to its
end: a change of settings swaps the stack for those that come later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from agentops.errors import Unavailable
from agentops.store.lookups import Lookups

if TYPE_CHECKING:
    from uuid import UUID

    from agentops.events import Events
    from agentops.server.loader import Loader
    from agentops.stack import Stack
    from agentops.store.database import Database

# The settings watch asks the database every second; three silences in a row are an outage.
FRESH_SECONDS = 3.5


@dataclass(slots=True)
class ServerContext:
    """One server process. `role` is web or worker; `url` is where its stack listens (None where it does not)."""

    server_id: UUID
    role: str
    url: str | None
    database: Database
    loader: Loader
    # Unbound: `context.events.bind(correlation_id, slug)` for a request or a job.
    events: Events
    # What this process knows of customers. Only `lookup_watch` opens it and makes it forget.
    lookups: Lookups = field(default_factory=Lookups)
    # When the database last answered (monotonic seconds). Only `settings_watch` writes it.
    answered_at: float = float("-inf")
    # SIGTERM has come: what is under way is finished, nothing is begun.
    draining: bool = False
    # The functions of the first settings are here (those that load at all). Only `settings_watch` writes it.
    settled: bool = False
    _stack: Stack | None = None

    @property
    def ready(self) -> bool:
        """Whether this process should be given work: settings applied, database answering, no end in sight."""
        fresh = monotonic() - self.answered_at < FRESH_SECONDS
        return fresh and self._stack is not None and not self.draining

    def stack(self) -> Stack:
        """The stack of the newest settings this process has applied. Its `events` are unbound.

        Raises:
            Unavailable: no settings have been read yet.
        """
        if self._stack is None:
            raise Unavailable("this server has not read its settings yet", "agentops health database")
        return self._stack

    def swap(self, stack: Stack) -> None:
        """Make `stack` the one that later requests get."""
        self._stack = stack
