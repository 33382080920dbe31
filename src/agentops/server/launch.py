"""How a stack comes up: what `up` and `serve` share.

listen → migrate → keys → what is not deployed → Launch.run: supervisor with web and worker processes
       → every process has a heartbeat with the newest settings → ready
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentops import embedded
from agentops.errors import AgentOpsError, Unavailable
from agentops.platforms import Deployment, bundle
from agentops.platforms.local import servers
from agentops.server import keys, peers
from agentops.server.order import Order
from agentops.server.supervisor import Child, Supervisor, bind, listen, server_child
from agentops.settings import ADDRESSES
from agentops.sql import statements
from agentops.store import schema

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from agentops.platforms.local import LocalPlatform
    from agentops.settings import Process

READY_SECONDS = 30.0
LOOK_SECONDS = 0.03
KEEP_EMBEDDED_SECONDS = 2.0
LIVE, SANDBOX = "live", "sandbox"
_SQL = statements(__file__)
ANY_HOST = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which processes to run, and where they listen. `web` is 0 where only workers run."""

    web: int
    workers: int
    host: str
    port: int
    command: str
    # Per worker, at the same time.
    lanes: int = 16


async def prepare(platform: LocalPlatform, process: Process, kind: str) -> keys.StackKey:
    """Migrate the database, and make or check the stack's keys.

    Raises:
        UsageError: the database is of the other kind, or this machine has not its private key.
    """
    await schema.migrate(platform)
    return await keys.ensure(platform, process, kind)


async def deploy_missing(platform: LocalPlatform, process: Process) -> list[Deployment]:
    """Deploy what ships with the package or stands in the project folder, and neither is deployed nor was deleted.

    A bundle that cannot be read, imported or asked stops no other; it comes back with its `finding`.
    """
    from agentops.server import checking

    there = {function.slug for function in await platform.functions()}
    there |= {row["slug"] for row in await platform.query(_SQL["deleted"])}
    bundles, findings = [], {}
    folder = process.functions_there()
    for slug in sorted({*bundle.known(process.project, folder)} - there):
        try:
            bundles.append(bundle.read(slug, process.project, folder))
        except AgentOpsError as error:
            findings[slug] = error.message
    if bundles:
        findings |= await checking.findings(bundles, os.cpu_count() or 1)
    good = [each for each in bundles if each.slug not in findings]
    refused = [
        Deployment(slug, None, changed=False, status="failed", sha256=None, finding=finding)
        for slug, finding in findings.items()
    ]
    return refused + (await platform.deploy(good, force=False, check=False) if good else [])


class Launch:
    """The processes of one stack on this machine. Made before anything else happens: a taken port ends it at once.

    Only `running` listens: who connects to a server that lacks its key or its database is refused, not kept waiting.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._socket: socket.socket | None = bind(wanted.host, wanted.port, wanted.command) if wanted.web else None
        self._supervisor: Supervisor | None = None

    @property
    def url(self) -> str | None:
        """Where the functions are; None where only workers run."""
        return _url(self._wanted.host, self._wanted.port) if self._socket else None

    def close(self) -> None:
        """Let go of the port."""
        if self._socket:
            self._socket.close()

    @asynccontextmanager
    async def running(
        self,
        database_url: str,
        private_key: str,
        kind: str,
        note: Callable[[str], None],
        stop: asyncio.Event,
        *,
        app_secret: str | None = None,
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run the processes until the block ends or `stop` is set; the task ends when they all have.

        `app_secret` is what the peers of a sandbox sign their webhooks with.
        """
        if self._socket:
            listen(self._socket, self._wanted.command)
        order = Order(database_url, self.url, private_key, self._wanted.lanes)
        self._supervisor = Supervisor(self._children(order, kind, app_secret), note)
        task = asyncio.create_task(self._supervisor.run(stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    async def ready(self, platform: LocalPlatform, stop: asyncio.Event) -> bool:
        """Wait until every process serves the newest settings; False where `stop` was set first.

        Raises:
            Unavailable: they do not within 30 s.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not await self._all_alive(platform):
            if time.monotonic() > deadline:
                words = f"the server's processes are not ready after {READY_SECONDS:g} s"
                raise Unavailable(words, "their output is above; agentops logs show --level error")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()
            if stop.is_set():
                return False
        return True

    async def _all_alive(self, platform: LocalPlatform) -> bool:
        pids = set(self._supervisor.pids("web") + self._supervisor.pids("worker")) if self._supervisor else set()
        host = os.uname().nodename
        alive = {server.pid for server in await servers.live(platform) if server.host == host}
        return len(pids) == self._wanted.web + self._wanted.workers and pids <= alive

    def _children(self, order: Order, kind: str, app_secret: str | None) -> Sequence[Child]:
        environment = {name: os.environ[name] for name in ADDRESSES if name in os.environ}
        children = []
        if kind == SANDBOX:
            port = _free_port()
            environment = peers.environment(port)
            children.append(peers.child(port, self.url, app_secret))
        children += [server_child("web", order, self._socket, environment)] * self._wanted.web
        children += [server_child("worker", replace(order, url=None), None, environment)] * self._wanted.workers
        return children


class EmbeddedKeeper:
    """Brings the embedded PostgreSQL back when even its own supervisor was killed, for as long as the stack is up."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended = threading.Event()

    def start(self) -> None:
        """Look every two seconds, in a thread that holds up nobody's exit."""
        if self._process.embedded:
            threading.Thread(target=self._keep, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _keep(self) -> None:
        while not self._ended.wait(KEEP_EMBEDDED_SECONDS):
            with suppress(AgentOpsError):
                embedded.attach(self._process.state)


def _url(host: str, port: int) -> str:
    """The address as others reach it: a server on every interface is named by its host."""
    name = os.uname().nodename if host in ANY_HOST else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _free_port() -> int:
    import socket

    with socket.create_server((peers.HOST, 0)) as probe:
        return int(probe.getsockname()[1])
