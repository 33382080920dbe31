"""Every error that agentops raises on purpose, and what each becomes at the edge.

    AgentOpsError                 failed
    ├── UsageError                usage, bad configuration, bad file
    ├── NotAuthorised             not authorised
    ├── NotFound                  not found
    ├── NotConfirmed              confirmation missing or declined; nothing was done
    ├── Conflict                  someone else changed or holds it
    ├── Unverified                acted, but verification failed
    ├── TimedOut                  state unknown
    └── Unavailable               a dependency is unavailable

An error has a message (what failed and why) and a hint (the next step). Only the door (`main`, `server.app`)
turns one into an exit code or an HTTP status; `Kind` is the one table for both.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """How something ended: its name in JSON, its exit code, its HTTP status."""

    DONE = ("done", 0, 200)
    FAILED = ("failed", 1, 500)
    USAGE = ("usage", 2, 400)
    DIFFERS = ("differs", 3, 200)  # --check: would change; health: degraded
    NOT_AUTHORISED = ("not_authorised", 4, 401)
    NOT_FOUND = ("not_found", 5, 404)
    NOT_CONFIRMED = ("not_confirmed", 6, 400)
    CONFLICT = ("conflict", 7, 409)
    UNVERIFIED = ("unverified", 8, 502)
    TIMED_OUT = ("timed_out", 9, 504)
    PARTIAL = ("partial", 10, 207)
    WAITING = ("waiting", 11, 202)
    UNAVAILABLE = ("unavailable", 69, 503)
    INTERRUPTED = ("interrupted", 130, 503)
    TERMINATED = ("terminated", 143, 503)

    def __init__(self, label: str, exit_code: int, status: int) -> None:
        self.label = label
        self.exit_code = exit_code
        self.status = status


class AgentOpsError(Exception):
    """Something failed. `message` says what and why in one sentence, `hint` is the next thing to type."""

    kind = Kind.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AgentOpsError):
    """Bad usage, bad configuration or a bad file."""

    kind = Kind.USAGE


class NotAuthorised(AgentOpsError):
    """The caller may not do this."""

    kind = Kind.NOT_AUTHORISED


class NotFound(AgentOpsError):
    """The named thing does not exist."""

    kind = Kind.NOT_FOUND


class NotConfirmed(AgentOpsError):
    """A confirmation was missing or declined; nothing was done."""

    kind = Kind.NOT_CONFIRMED


class Conflict(AgentOpsError):
    """Someone else changed it or holds it."""

    kind = Kind.CONFLICT


class Unverified(AgentOpsError):
    """The action was taken, but reading it back did not confirm it."""

    kind = Kind.UNVERIFIED


class TimedOut(AgentOpsError):
    """No answer in time; the state is unknown."""

    kind = Kind.TIMED_OUT


class Unavailable(AgentOpsError):
    """A dependency (database, server, provider) is unavailable."""

    kind = Kind.UNAVAILABLE
