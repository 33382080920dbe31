"""Serve in production: in the foreground, until SIGTERM; as many processes and machines as wanted.

Takes DATABASE_URL as its target where no other is given. SIGTERM drains and exits 0 within 10 s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import typer

from agentops.errors import UsageError
from agentops.server.launch import LIVE, EmbeddedKeeper, Launch, Wanted, deploy_missing, prepare
from agentops.server.supervisor import stopping_signals
from agentops.session import Session
from agentops.settings import DEFAULT_PORT, Process, process

Role = Annotated[Literal["web", "worker", "all"], typer.Option("--role", help="What to run here.")]
Processes = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, max=64, help="How many processes of the role.")
]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency", metavar="N", min=1, max=256, help="How many conversations a worker works on at a time."
    ),
]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 in a container.")]
Port = Annotated[
    int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where to listen; default: 54321.")
]


@dataclass(frozen=True, slots=True)
class Serving:
    """A stack that is served from here. `url` is null where only workers run."""

    target: str
    url: str | None
    role: str
    processes: int
    pid: int

    def text(self) -> str:
        """For people."""
        where = f" on {self.url}" if self.url else ""
        return (
            f"serving {self.target}{where}: role {self.role}, process {self.pid}; SIGTERM or Ctrl-C drains and ends it"
        )


async def serve(  # noqa: PLR0917 - Typer makes each an option
    session: Session,
    role: Role = "all",
    processes: Processes = 1,
    host: Host = "127.0.0.1",
    port: Port = None,
    concurrency: Concurrency = 16,
) -> AsyncIterator[Serving]:
    """Serve in production: in the foreground, until SIGTERM; as many processes and machines as wanted."""
    session.process = _target(session.process)
    wanted = Wanted(
        web=0 if role == "worker" else processes,
        workers={"web": 0, "worker": processes, "all": 1}[role],
        host=host,
        port=port or session.process.port or DEFAULT_PORT,
        command="agentops serve",
        lanes=concurrency,
    )
    launch, keeper = Launch(wanted), EmbeddedKeeper(session.process)
    try:
        platform = await session.local(any_schema=True)
        key = await prepare(platform, session.process, LIVE)
        if not await platform.functions():
            for deployment in await deploy_missing(platform, session.process):
                if deployment.finding:
                    session.note(f"note: {deployment.slug} is not deployed: {deployment.finding}")
        keeper.start()
        with stopping_signals() as stop:
            async with launch.running(platform.url, key.private, LIVE, session.note, stop) as ended:
                if await launch.ready(platform, stop):
                    yield Serving(session.process.label, launch.url, role, processes, os.getpid())
                await session.close()
                await ended
    finally:
        keeper.stop()
        launch.close()


def _target(now: Process) -> Process:
    url = os.environ.get("DATABASE_URL")
    if now.origin == "default" and url:
        # A container is given its database this way. Only here: elsewhere the variable belongs to somebody else.
        return replace(process(url), origin="DATABASE_URL")
    if now.target == "sandbox":
        raise UsageError("a sandbox is not served in production", "agentops up --sandbox")
    if now.target.startswith("supabase://"):
        raise UsageError("a hosted project serves itself", "agentops deploy all, to put the functions there")
    return now
