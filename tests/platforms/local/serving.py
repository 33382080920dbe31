"""A server process in small: loads what is deployed with the real loader, and reports in its heartbeat row."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentops.events import Events
from agentops.platforms import Bundle
from agentops.platforms.local import LocalPlatform
from agentops.secret_values import digest
from agentops.server.loader import Loader, active_rows
from agentops.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = """
from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {"success": True})
"""
_BEAT = """
insert into agentops.servers (id, host, pid, role, url, functions)
values (%(id)s, 'here', %(pid)s, 'web', %(url)s, %(functions)s::jsonb)
on conflict (id) do update set functions = excluded.functions, heartbeat_at = clock_timestamp()
"""


def bundle(slug: str, source: str = GOOD) -> Bundle:
    """A bundle of one file."""
    return Bundle(slug, {"main.py": source}, "main.py", "here", digest(slug + source))


@asynccontextmanager
async def opened(url: str, home: Path | None = None) -> AsyncIterator[LocalPlatform]:
    """The platform of a test database."""
    platform = await LocalPlatform.open(url, label="test", actor="tester@here", home=home or Path("unused"))
    try:
        yield platform
    finally:
        await platform.close()


class Server:
    """One live server; `spoils` is what it says about a version whatever its loader says."""

    def __init__(self, platform: LocalPlatform, pid: int, url: str | None) -> None:
        self.id = uuid.uuid4()
        self.loader = Loader()
        self.spoils: dict[int, str] = {}
        self.silent = False
        self._platform = platform
        self._pid = pid
        self._url = url

    async def look(self) -> None:
        """Apply what is deployed, and say so."""
        if self.silent:
            return
        stack = Stack(cast("Any", None), cast("Any", None), Events(echo=None))
        functions = await self.loader.apply(await active_rows(self._platform), stack)
        for report in functions.values():
            if report["version"] in self.spoils:
                report |= {"ok": False, "error": self.spoils[report["version"]]}
        await self._tell(functions)

    async def _tell(self, functions: Any) -> None:
        if self.silent:  # fell silent meanwhile: what it has just learned is not told either
            return
        parameters = {"id": self.id, "pid": self._pid, "url": self._url, "functions": json.dumps(functions)}
        await self._platform.query(_BEAT, parameters)

    async def die(self) -> None:
        """Stop without a word; the heartbeat is already old."""
        self.silent = True
        statement = "update agentops.servers set heartbeat_at = now() - interval '1 minute' where id = %(id)s"
        await self._platform.query(statement, {"id": self.id})


@asynccontextmanager
async def serving(database_url: str, pid: int = 1, url: str | None = None) -> AsyncIterator[Server]:
    """A live server on the database, looking for changes 100 times a second."""
    async with opened(database_url) as platform:
        server = Server(platform, pid, url)
        await server.look()

        async def work() -> None:
            while True:
                await server.look()
                await asyncio.sleep(0.01)

        task = asyncio.create_task(work())
        try:
            yield server
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
