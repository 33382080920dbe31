"""Server processes for tests: the parts of one inside the test's own process, or real ones."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from agentops import seal
from agentops.clients import Clients
from agentops.events import Events
from agentops.platforms.local import LocalPlatform
from agentops.server.context import ServerContext
from agentops.server.loader import Loader
from agentops.server.order import Order
from agentops.server.settings_watch import SettingsWatch
from agentops.server.supervisor import Supervisor, bind, listen, server_child
from agentops.store.database import Database
from tests.fakes.stacks import Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import StackKeys

ECHO = """
import asyncio, json, os
from agentops.web import json_response

async def handle(request, stack):
    if request.method == "POST" and request.body:
        await asyncio.sleep(json.loads(request.body).get("sleep", 0))
    content = {"pid": os.getpid(), "bytes": len(request.body), "generation": stack.generation, "mark": MARK}
    return json_response(200, content | {"version": stack.functions[request.slug].version})
"""
_SECRET = """
with counted as (
    insert into agentops.secret_versions (name, n) values (%(name)s, %(version)s)
    on conflict (name) do update set n = excluded.n
)
insert into agentops.secrets (name, sealed, digest, version, updated_by)
values (%(name)s, %(sealed)s, repeat('0', 64), %(version)s, 'tests')
on conflict (name) do update set sealed = excluded.sealed, version = excluded.version
"""
_DEPLOY = """
with version as (
    insert into agentops.versions (slug, version, sha256, entrypoint, files, origin, created_by)
    values (%(slug)s, %(version)s, %(version)s::text, 'main.py', %(files)s::jsonb, 'tests', 'tests')
)
insert into agentops.deployments (slug, version, deployed_by) values (%(slug)s, %(version)s, 'tests')
on conflict (slug) do update set version = excluded.version, deployed_at = now()
"""


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[LocalPlatform]:
    """The database as an operator sees it."""
    platform = await LocalPlatform.open(url, label="test", actor="tester@here", home=Path("unused"))
    try:
        yield platform
    finally:
        await platform.close()


async def put_secret(platform: LocalPlatform, keys: StackKeys, name: str, value: str, version: int = 1) -> None:
    """A sealed secret, past the platform's own checks."""
    sealed = seal.seal(keys.public, name, version, value)
    await platform.query(_SECRET, {"name": name, "version": version, "sealed": sealed})


async def put_function(platform: LocalPlatform, slug: str, version: int, source: str | None = None) -> None:
    """A deployed version, past the platform's own checks; by default one that says what it was given."""
    text = f"MARK = 'v{version}'\n{ECHO}" if source is None else source
    files = json.dumps({"main.py": text})
    await platform.query(_DEPLOY, {"slug": slug, "version": version, "files": files})


async def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until the condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


@dataclass
class Watched:
    """One server process's parts, its settings followed."""

    context: ServerContext
    watch: SettingsWatch
    recorded: Recorded
    platform: LocalPlatform


@asynccontextmanager
async def watched(url: str, keys: StackKeys, private: str | None = None) -> AsyncIterator[Watched]:
    """Follow the settings of `url` as a web process does, with an operator's connection beside."""
    recorded = Recorded()
    database = await Database.open(url)
    events = Events(recorded, echo=None)
    context = ServerContext(uuid.uuid4(), "web", "http://127.0.0.1:1", database, Loader(), events)
    clients = Clients()
    watch = SettingsWatch(context, clients, private or keys.private)
    task = asyncio.create_task(watch.run())
    try:
        async with operator(url) as platform:
            await asyncio.wait_for(watch.first.wait(), 5)
            yield Watched(context, watch, recorded, platform)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await watch.close()
        await clients.aclose()
        await database.close()


@dataclass
class Running:
    """Real processes behind one socket."""

    url: str
    supervisor: Supervisor
    notes: list[str]

    async def ask(self, path: str, method: str = "GET", **request: Any) -> httpx.Response:
        """One request on a connection of its own."""
        async with httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False) as client:
            return await client.request(method, path, **request)


@asynccontextmanager
async def running(url: str, keys: StackKeys, *, web: int = 1, workers: int = 0) -> AsyncIterator[Running]:
    """Server processes on a port of their own, all of them alive."""
    listening = bind("127.0.0.1", 0, "test")
    listen(listening, "test")
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    order = Order(url, address, keys.private)
    children = [server_child("web", order, listening, {})] * web
    children += [server_child("worker", order, None, {})] * workers
    notes: list[str] = []
    supervisor, stop = Supervisor(children, notes.append), asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    try:
        yield Running(address, supervisor, notes)
    finally:
        stop.set()
        await task
        listening.close()
