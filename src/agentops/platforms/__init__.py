"""What a place to run must be able to do: the Platform protocol and the values that cross it.

`local/` is PostgreSQL as control plane; other platforms stand beside it. Platforms translate foreign errors at their
border: nothing above knows psycopg or HTTP status codes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

Row = dict[str, Any]
DeployStatus = Literal[
    "active",
    "unchanged",
    "stored",
    "failed",
    "replaced",
    "restored",
    "unverified",
    "would_change",
    "absent",
    "deleted",
]


# Versions that a hint names.
_NAMED = 5


def _spare(rank: int) -> dict[str, int]:
    """Marks a field that a table on a narrow terminal leaves out, those of rank 1 first."""
    return {"spare": rank}


class Queries(Protocol):
    """Something that runs one SQL statement: a platform, or a server's pool."""

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement with `%(name)s` parameters; its rows as dictionaries."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag in force: `name` is its short form, `secret` the name it is stored under, `enabled` None where unknown."""

    name: str
    secret: str = field(metadata=_spare(1))
    enabled: bool | None
    until: datetime | None = None
    changed: bool = False
    updated_by: str | None = field(default=None, metadata=_spare(2))
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """A secret without its value: `digest` is the first 12 hexadecimal digits of the value's SHA-256."""

    name: str
    digest: str
    version: int | None = field(metadata=_spare(1))
    updated_by: str | None = field(metadata=_spare(2))
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class SecretChange:
    """What became of one secret.

    `status` is set, unchanged, unset, absent, would_change or failed; `finding` says why it failed.
    """

    name: str
    status: str
    changed: bool
    digest: str | None = None
    version: int | None = None
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function."""

    slug: str
    version: int
    status: str
    sha256: str = field(metadata=_spare(1))
    origin: str = field(metadata=_spare(2))
    deployed_by: str = field(metadata=_spare(3))
    deployed_at: datetime


@dataclass(frozen=True, slots=True)
class Bundle:
    """Source files by relative path; `entrypoint` holds `handle`; `origin` says where they come from."""

    slug: str
    files: Mapping[str, str]
    entrypoint: str
    origin: str
    sha256: str

    @property
    def packaged(self) -> bool:
        """Whether it ships with this program, rather than lying in a project folder."""
        return self.origin.startswith("agentops ")

    @property
    def folder(self) -> str:
        """The folder that its files' paths are relative to, for eyes."""
        if self.packaged:
            return "agentops/functions"
        single = len(self.files) == 1 and self.origin.endswith(".py")
        return str(Path(self.origin).parent) if single else self.origin


@dataclass(frozen=True, slots=True)
class Deployment:
    """What became of one function. `finding` says why where it failed; replaced: somebody else's deploy won.

    unverified: it was deployed, and what runs there is something else or does not answer.
    """

    slug: str
    version: int | None
    changed: bool
    status: DeployStatus
    sha256: str | None = field(metadata=_spare(1))
    finding: str | None = None


def ways_from(slug: str, others: Sequence[int]) -> str:
    """What to type where there is no version before the active one: `others` are those to be had, newest first."""
    if not others:
        return f"it is the only one; change the source, then: agentops deploy {slug}"
    named = ", ".join(map(str, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
    choice = f"   (there are {named})" if len(others) > 1 else ""
    return f"agentops deploy rollback {slug} --to {others[0]}{choice}"


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which log lines: all given conditions hold. `event` is a pattern with `*`; times are aware."""

    slugs: tuple[str, ...] = ()
    level: str | None = None
    event: str | None = None
    correlation_id: str | None = None
    grep: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    # Pseudonyms of one customer: events that name any of them.
    customers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One stored event."""

    timestamp: datetime
    level: str
    event: str
    correlation_id: str
    function: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The event as its raw line has it: one flat object, fixed fields first, which no field of its own replaces."""
        stamp = self.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fixed = {
            "timestamp": stamp,
            "level": self.level,
            "event": self.event,
            "correlation_id": self.correlation_id,
            "function": self.function,
        }
        return {**fixed, **{key: value for key, value in self.data.items() if key not in fixed}}

    def text(self) -> str:
        """The event as one line for eyes: local time, level, event, function, short correlation id, its own fields.

        Fields that are null are left out; JSON has them.
        """
        at = self.timestamp.astimezone()
        today = at.date() == datetime.now(UTC).astimezone().date()
        stamp = at.strftime("%H:%M:%S.%f" if today else "%m-%d %H:%M:%S.%f")
        head = (stamp[:-3], f"{self.level.upper():7}", self.event, self.function, self.correlation_id[:8])
        own = (f"{key}={_short(value)}" for key, value in self.data.items() if value is not None)
        return "  ".join(part for part in (*head, *own) if part)


def _short(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function's answer to a direct call. `body` is parsed JSON where it is JSON, else text.

    `correlation_id` is what the answer says, else what was sent; None where neither says one.
    """

    slug: str
    status: int
    correlation_id: str | None
    latency_ms: int
    body: Any


@dataclass(frozen=True, slots=True)
class Server:
    """A live server process: seen within the last 10 seconds."""

    id: str
    host: str
    pid: int
    role: str
    url: str | None
    generation: int
    functions: Mapping[str, Any]
    started_at: datetime
    heartbeat_age: float

    @property
    def name(self) -> str:
        """Host and process, as an operator looks for it."""
        return f"{self.host}:{self.pid}"


class Platform(Queries, Protocol):
    """A place to run. Raises only `AgentOpsError`."""

    @property
    def target(self) -> str:
        """The target for eyes, without a password."""

    async def close(self) -> None:
        """Let go of connections."""

    async def functions(self) -> list[Function]:
        """What is deployed, by slug."""

    async def deploy(
        self, bundles: Sequence[Bundle], *, force: bool, check: bool, jobs: int | None = None
    ) -> list[Deployment]:
        """Make each bundle the active version of its function.

        `check` plans only. Equal content is `unchanged` unless `force`, which reloads it. `jobs`: how many at a time,
        where that is for the caller to say. Where functions switch one by one, one that fails stops no other; where
        they switch together, all or none do.
        """

    async def rollback(self, slug: str, version: int | None, *, check: bool) -> Deployment:
        """Make an older version active again; None is the one before the active one.

        Raises:
            NotFound: there is no such version.
        """

    async def history(self, slug: str) -> list[Function]:
        """All versions of one function, newest first; `status` is active or stored."""

    async def source(self, slug: str) -> Mapping[str, str]:
        """The active version's files by relative path.

        Raises:
            NotFound: the function is not deployed.
        """

    async def delete(self, slug: str, *, check: bool) -> Deployment:
        """Take a function off; absent is nothing to do."""

    async def secrets(self) -> list[SecretInfo]:
        """All secrets and flags by name, digests only."""

    async def set_secrets(self, values: Mapping[str, str | None], *, check: bool) -> list[SecretChange]:
        """Set (or, with None, unset) secrets; equal values are left alone.

        All or none; where a place takes them in two requests, what is set comes first, and what could not be unset
        after that is `failed`.
        """

    async def flags(self) -> list[Flag]:
        """Known and stored flags."""

    async def set_flags(self, names: Sequence[str], *, enabled: bool, seconds: float | None, check: bool) -> list[Flag]:
        """Switch flags by their stored names; `seconds` puts them back by itself after that time."""

    async def servers(self) -> list[Server]:
        """Server processes that are alive. Empty where functions run elsewhere."""

    def logs(
        self, wanted: LogFilter, *, limit: int, follow: bool, gap: Callable[[str], None]
    ) -> AsyncIterator[LogLine]:
        """The newest `limit` matches in time order; with `follow`, then new ones as they are stored.

        `gap` is told in a sentence when the stream was interrupted and went on.
        """

    async def invoke(self, slug: str, method: str, body: bytes, headers: Mapping[str, str]) -> Invocation:
        """Call a function over HTTP with the service key, unless `headers` brings its own Authorization."""
