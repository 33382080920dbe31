"""What uvicorn does not bound: how long a request may take to arrive, how large its head and its body may be.

    BoundedProtocol   a request that has not arrived whole within 10 s → 408; a head over 16 KiB → 431; closed
                      trailers are dropped, a body behind `Upgrade` is refused: neither may pass for a head
    read_body         counts the stream, whatever Content-Length says → TooLarge → 413

A body that is too large is answered at once and then read on for a moment, unkept: closing on a client that is still
sending would take the answer away from it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from agentops.web import Response, json_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

RECEIPT_SECONDS = 10.0
HEAD_BYTES = 16 * 1024
TOOL_BODY_BYTES = 64 * 1024
WEBHOOK_BODY_BYTES = 4 * 1024 * 1024
LINGER_SECONDS = 2.0
LINGER_BYTES = 32 * 1024 * 1024
_HEAD_TOO_LARGE = (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is over 16 KiB")
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class TooLarge(Exception):
    """The body is over its limit, which `limit` gives in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is over the limit of {limit // 1024} KiB")
        self.limit = limit


class Gone(Exception):
    """The client left before its request had arrived; there is nobody to answer."""


def body_limit(slug: str) -> int:
    """The largest body that a function takes, in bytes: webhooks come in batches, tools take a few fields."""
    return WEBHOOK_BODY_BYTES if slug.endswith("-webhook") else TOOL_BODY_BYTES


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it is longer than `limit` bytes, by its header or by count.
        Gone: the client went away.
    """
    for name, value in scope["headers"]:
        # The parser has bounded the number, not its leading zeros; `int` bounds its digits.
        if name == b"content-length" and value.isdigit() and int(value.lstrip(b"0") or b"0") > limit:
            raise TooLarge(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > limit:
            raise TooLarge(limit)
        if not message.get("more_body", False):
            return bytes(body)


async def refuse_body(failure: TooLarge, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    """Answer 413, then let the client finish what it is sending, within bounds, and close."""
    answer = json_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"success": False, "error": str(failure)})
    length = (b"content-length", str(len(answer.body)).encode())
    head = [(b"content-type", answer.content_type.encode()), length, (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": head})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    count = 0
    while count < LINGER_BYTES:
        message = await receive()
        count += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline for each request's arrival and a bound on its head."""

    receipt_seconds = RECEIPT_SECONDS

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - uvicorn's own, handed on
        super().__init__(*arguments, **settings)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        # What came since the head or the body last grew: trailers, chunk extensions, empty lines.
        self._idle_bytes = 0
        self._grew = False
        self._refusal = (HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request that is understood here")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """A connection counts from its first moment: it may not stay silent either."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the head as it arrives."""
        if self._deadline is None:
            self._arm()
        if self._in_head:
            self._head_bytes += len(data)
        self._grew = False
        super().data_received(data)
        self._idle_bytes = 0 if self._grew or self._in_head else self._idle_bytes + len(data)
        over = self._idle_bytes > HEAD_BYTES or (self._in_head and self._head_bytes > HEAD_BYTES)
        if over and not self.transport.is_closing():
            self._close_with(*_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A pipelined request has its own deadline."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._deadline is None:
            self._arm()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. One behind the body is a trailer, which no proxy has looked at and nobody here asked for."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; what follows is counted by whoever reads the body."""
        self._in_head, self._head_bytes, self._grew = False, 0, True
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._refuse(*_HEAD_TOO_LARGE)
        has_body = any(name in _BODY_HEADERS and value != b"0" for name, value in self.headers)
        if has_body and self.parser.should_upgrade():
            # The parser leaves the body of such a request unread, and would take it for the next request.
            self._refuse(HTTPStatus.BAD_REQUEST, "a request with a body cannot ask for an upgrade")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The body grows."""
        self._grew = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived; what it takes from here is the server's own time."""
        self._grew = True
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Say what is wrong, in our form; uvicorn calls this where the parser gave up."""
        if not self.transport.is_closing():
            self._close_with(*self._refusal)

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        """End the parser from one of its callbacks: nothing of this request is begun."""
        self._refusal = (status, words)
        raise ValueError(words)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.receipt_seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        working = cycle is not None and not cycle.response_complete and not cycle.more_body
        if not working and not self.transport.is_closing():
            self._close_with(HTTPStatus.REQUEST_TIMEOUT, f"the request took over {self.receipt_seconds:g} s to arrive")

    def _close_with(self, status: HTTPStatus, words: str) -> None:
        """Answer, unless an answer is under way, and close: the parser's state is not worth keeping."""
        cycle: RequestResponseCycle | None = self.cycle
        # What is written now would be taken for the answer to the request that is being worked on.
        working = cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)
        if not (working or self.pipeline):
            self.transport.write(_raw(json_response(status, {"success": False, "error": words})))
        self.transport.close()


def _raw(answer: Response) -> bytes:
    line = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    head = f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
    return (line + head).encode() + answer.body
