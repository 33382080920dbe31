"""A provider that answers whatever a test tells it to, over a real socket, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from tests.fakes.sockets import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send


@dataclass
class Peer:
    """Set what it answers, then read what it `heard`: (path, headers, JSON body) of each request."""

    port: int = 0
    status: int = 200
    body: str = "{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    trickle: float = 0.0
    heard: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, status: int, body: object, **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, str) else json.dumps(body)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        raw = await request.body()
        self.heard.append((request.url.path, dict(request.headers), json.loads(raw) if raw else None))
        await asyncio.sleep(self.delay)
        if self.trickle:
            await self._drip(send)
            return
        response = Response(self.body, self.status, self.headers, self.content_type)
        await response(scope, receive, send)

    async def _drip(self, send: Send) -> None:
        """Bytes that come often enough for every read, and never to an end."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(self.trickle)
        await send({"type": "http.response.body", "body": b"{}"})


class Desk:
    """One server for a whole run: each test seats a fresh peer, and no test waits for a server to stop."""

    def __init__(self) -> None:
        self.port = 0
        self._seated = Peer()

    def seat(self) -> Peer:
        self._seated = Peer(self.port)
        return self._seated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._seated(scope, receive, send)


@contextmanager
def desk() -> Iterator[Desk]:
    """A running desk."""
    opened = Desk()
    with serving(opened) as opened.port:
        yield opened
