"""Show where the stack is: target, address, database, server processes, and on demand its keys.

--show-keys and --env need the stack's private key on this machine, and leave an audit entry.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import typer

from agentops.errors import UsageError
from agentops.server import keys
from agentops.session import Session
from agentops.settings import DEFAULT_PORT, EXPORTED

ShowKeys = Annotated[bool, typer.Option("--show-keys", help="Show the stack's keys in clear.")]
Env = Annotated[bool, typer.Option("--env", help='Print export lines, for: eval "$(agentops status --env)"')]


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A live server process."""

    host: str
    pid: int
    role: str
    url: str | None
    generation: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """Where a stack is. `keys` is null unless asked for; `database_url` is without its password then."""

    target: str
    url: str | None
    database_url: str
    servers: tuple[ServerProcess, ...]
    keys: Mapping[str, str | None] | None

    def text(self) -> str:
        """For people."""
        lines = [f"target    {self.target}", f"url       {self.url or 'nothing runs here: agentops up'}"]
        lines.append(f"database  {self.database_url}")
        for server in self.servers:
            since = server.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            lines.append(
                f"server    {server.role:<7}{server.host}:{server.pid}, settings {server.generation}, since {since}"
            )
        lines += [f"{name:<17} {value or '–'}" for name, value in (self.keys or {}).items()]
        return "\n".join(lines)


async def status(session: Session, show_keys: ShowKeys = False, env: Env = False) -> Status | str:
    """Show where the stack is: target, address, database, server processes, and on demand its keys."""
    process = session.process
    if process.hosted:
        words = f"{process.label} is a hosted project: no servers of ours run there, and its keys are its own"
        raise UsageError(words, "agentops health, to look at it; agentops target show --origin, for the addresses")
    platform = await session.local()
    live = await platform.servers()
    servers = tuple(ServerProcess(s.host, s.pid, s.role, s.url, s.generation, s.started_at) for s in live)
    url = next((server.url for server in servers if server.url), None)
    shown: Mapping[str, str] = {}
    if show_keys or env:
        shown = await keys.shown(platform, await keys.require(platform, process))
    if env:
        address = url or f"http://127.0.0.1:{process.port or DEFAULT_PORT}"
        return _exports({"DATABASE_URL": platform.url, "SUPABASE_URL": address, **shown})
    return Status(
        target=process.label,
        url=url,
        database_url=platform.url if show_keys else replace(process, target=platform.url).label,
        servers=servers,
        keys=_named(shown) if show_keys else None,
    )


def _named(shown: Mapping[str, str]) -> Mapping[str, str | None]:
    return {
        "service_role_key": shown.get(keys.SERVICE),
        "anon_key": shown.get(keys.ANON),
        "verify_token": shown.get(keys.VERIFY),
        "app_secret": shown.get(keys.APP_SECRET),
    }


def _exports(values: Mapping[str, str]) -> str:
    # Names that came from here are no operator's mistake: later commands stay silent about them.
    named = {**values, EXPORTED: " ".join(values)}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in named.items())
