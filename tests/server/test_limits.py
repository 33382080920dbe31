from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from agentops.events import Events
from agentops.server.app import app
from agentops.server.context import ServerContext
from agentops.server.limits import HEAD_BYTES, WEBHOOK_BODY_BYTES, BoundedProtocol
from agentops.stack import Stack
from agentops.web import Request, Response, json_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RECEIPT_SECONDS = 0.4


class _Hasty(BoundedProtocol):
    receipt_seconds = RECEIPT_SECONDS


class _Function:
    async def handle(self, request: Request, _stack: Stack) -> Response:
        await asyncio.sleep(float(request.query.get("sleep", "0")))
        return json_response(200, {"bytes": len(request.body)})


class _Loader:
    def get(self, _slug: str) -> _Function:
        return _Function()


@asynccontextmanager
async def _serving(protocol: type[asyncio.Protocol] = _Hasty) -> AsyncIterator[int]:
    """A real server with a short patience; its port."""
    events = Events(None, echo=None)
    context = ServerContext(uuid.uuid4(), "web", None, cast("Any", None), cast("Any", _Loader()), events)
    context.swap(Stack(cast("Any", None), cast("Any", None), events))
    config = uvicorn.Config(
        app(context), http=protocol, ws="none", lifespan="off", log_config=None, server_header=False, port=0
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield port
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown()


async def _talk(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send parts with pauses between; everything that came back, and how long until the server closed."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer, time.monotonic() - begun


def _body(answer: bytes) -> dict[str, Any]:
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def test_a_head_that_does_not_end_is_answered_408_and_closed() -> None:
    async def run() -> None:
        async with _serving() as port:
            answer, seconds = await _talk(port, b"GET /functions/v1/echo HTTP/1.1\r\nhost: x\r\n")
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert _body(answer)["success"] is False
            assert RECEIPT_SECONDS * 0.9 < seconds < RECEIPT_SECONDS + 1

    asyncio.run(run())


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def run() -> None:
        async with _serving() as port:
            _, seconds = await _talk(port)
            assert seconds < RECEIPT_SECONDS + 1

    asyncio.run(run())


def test_a_body_that_trickles_is_answered_408_and_closed() -> None:
    async def run() -> None:
        async with _serving() as port:
            head = b"POST /functions/v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
            answer, seconds = await _talk(port, head, *[b"x"] * 3, pause=0.1)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert seconds < RECEIPT_SECONDS + 1

    asyncio.run(run())


def test_the_work_of_a_function_does_not_count_as_arrival() -> None:
    async def run() -> None:
        async with _serving() as port:
            head = b"GET /functions/v1/echo?sleep=0.8 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            # A stray line end behind the request, as old clients send it, starts no deadline for the answer.
            answer, _ = await _talk(port, head, b"\r\n", pause=0.01)
            assert answer.startswith(b"HTTP/1.1 200 ")

    asyncio.run(run())


def test_each_request_of_a_connection_has_its_own_deadline() -> None:
    async def run() -> None:
        async with _serving() as port:
            whole = b"GET /functions/v1/echo HTTP/1.1\r\nhost: x\r\n\r\n"
            answer, _ = await _talk(port, whole, whole, whole, b"GET /fun", pause=0.2)
            assert answer.count(b"HTTP/1.1 200 ") == 3
            assert answer.count(b"HTTP/1.1 408 ") == 1

    asyncio.run(run())


def test_an_endless_head_is_refused_by_its_size() -> None:
    async def run() -> None:
        async with _serving() as port:
            part = b"x-filler: " + b"y" * 1000 + b"\r\n"
            answer, seconds = await _talk(port, b"GET / HTTP/1.1\r\n", *[part] * (HEAD_BYTES // 1000 + 2))
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert seconds < RECEIPT_SECONDS

    asyncio.run(run())


def test_a_client_that_sends_too_much_still_reads_why() -> None:
    async def run() -> None:
        async with _serving() as port:
            size = WEBHOOK_BODY_BYTES + 1_000_000
            head = f"POST /functions/v1/echo-webhook HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode()
            answer, _ = await _talk(port, head, b"x" * size)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"4096 KiB" in answer
            assert b"server: uvicorn" not in answer.lower()

    asyncio.run(run())


def test_an_endless_chunked_body_is_cut_off() -> None:
    async def run() -> None:
        async with _serving() as port:
            head = b"POST /functions/v1/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
            answer, seconds = await _talk(port, head, *[chunk] * 40)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert seconds < 5

    asyncio.run(run())


def test_uvicorn_alone_waits_forever() -> None:
    """The mutant: without our protocol nothing bounds the arrival, so the tests above can fail."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    async def run() -> None:
        async with _serving(HttpToolsProtocol) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n")
            done, _ = await asyncio.wait({asyncio.create_task(reader.read())}, timeout=RECEIPT_SECONDS * 3)
            assert not done
            writer.close()

    asyncio.run(run())
