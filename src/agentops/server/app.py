"""The HTTP side of a web process: request in, the deployed function's answer out.

    /functions/v1/{slug}   limits → loader.get(slug) → handle(request, stack) → answer, with its x-correlation-id
    /livez                 this process runs            /readyz   settings applied, database answering, not draining
    /                      where to look

A function's `AgentOpsError` becomes its kind's status; anything else that it raises is 500, told by type and place in
an event and by nothing to the client.
"""

from __future__ import annotations

import asyncio
import random
import re
import traceback
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.responses import Response as HTTPResponse
from starlette.routing import Route

from agentops import __version__
from agentops.agent import phones
from agentops.errors import AgentOpsError, Kind, Unavailable
from agentops.server.limits import Gone, TooLarge, body_limit, read_body, refuse_body
from agentops.web import Request, Response, json_response

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest
    from starlette.types import Receive, Scope, Send

    from agentops.server.context import ServerContext

# A function that has not answered by then is given up; money transactions end long before.
ANSWER_SECONDS = 30.0
RETRY_AFTER = {"retry-after": "1"}
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# One line of what latin-1 can say.
_HEADER = re.compile(r"[!-9;-~]+: [\t -~\xa0-\xff]*")


def app(context: ServerContext) -> Starlette:
    """The ASGI application of one web process."""

    async def livez(_request: HTTPRequest) -> HTTPResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: HTTPRequest) -> HTTPResponse:
        if context.ready:
            return JSONResponse({"status": "ok", "generation": context.stack().generation})
        words = "draining" if context.draining else "the database does not answer, or no settings have been read yet"
        return JSONResponse({"status": "unavailable", "error": words}, Kind.UNAVAILABLE.status, RETRY_AFTER)

    async def root(_request: HTTPRequest) -> HTTPResponse:
        places = {"functions": "/functions/v1/<slug>", "live": "/livez", "ready": "/readyz"}
        return JSONResponse({"name": "agentops", "version": __version__, **places})

    return Starlette(
        routes=[
            Route("/functions/v1/{slug}", FunctionEndpoint(context)),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/", root),
        ],
        exception_handlers={HTTPStatus.NOT_FOUND: _no_page, HTTPStatus.METHOD_NOT_ALLOWED: _no_page},
    )


async def _no_page(_request: HTTPRequest, failure: Exception) -> HTTPResponse:
    words = "no such page; functions are at /functions/v1/<slug>"
    return JSONResponse({"success": False, "error": words}, getattr(failure, "status_code", HTTPStatus.NOT_FOUND))


class FunctionEndpoint:
    """ASGI: any method on one function. Everything below it deals in `web.Request` and `web.Response`."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        slug = scope["path_params"]["slug"]
        headers = _headers(scope)
        correlation_id = headers.get("x-correlation-id", "")
        # It goes into every event and out to providers, so it may not be somebody's number.
        if not _CORRELATION_ID.fullmatch(correlation_id) or phones.within(correlation_id):
            # It names a request and guards nothing, so it need not cost a system call.
            correlation_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        marks = [(b"x-correlation-id", correlation_id.encode())]
        try:
            body = await read_body(scope, receive, body_limit(slug))
        except TooLarge as failure:
            self._context.events.bind(correlation_id, slug).warning("ai.server.body_too_large", limit=failure.limit)
            await refuse_body(failure, receive, send, marks)
            return
        except Gone:
            return
        raw_query = scope["query_string"].decode("latin-1")
        query = dict(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else {}
        answer = await self._answer(Request(scope["method"], slug, correlation_id, headers, query, body))
        head = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"content-length", str(len(answer.body)).encode()),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()),
            *marks,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: Request) -> Response:
        events = self._context.events.bind(request.correlation_id, request.slug)
        try:
            # Taken once: the request keeps its version and its settings to its end.
            stack, function = self._context.stack(), self._context.loader.get(request.slug)
            if function is None:
                return self._absent(request.slug)
            async with asyncio.timeout(ANSWER_SECONDS):
                # What an operator's code answers may be anything, whatever its annotations say.
                answer: object = await function.handle(request, stack)
            return _checked(answer)
        except TimeoutError:
            events.error("ai.server.timeout", seconds=ANSWER_SECONDS)
            words = f"{request.slug} did not answer within {ANSWER_SECONDS:g} s"
            return json_response(Kind.TIMED_OUT.status, {"success": False, "error": words}, RETRY_AFTER)
        except AgentOpsError as failure:
            events.error("ai.server.error", kind=failure.kind.label, error=failure.message)
            again = RETRY_AFTER if failure.kind is Kind.UNAVAILABLE else {}
            return json_response(failure.kind.status, {"success": False, "error": failure.message}, again)
        except Exception as defect:  # noqa: BLE001 - the door: whatever a function raises ends here
            events.error("ai.server.exception", exception=type(defect).__name__, at=_places(defect))
            words = f"internal error; search the logs for correlation id {request.correlation_id}"
            return json_response(Kind.FAILED.status, {"success": False, "error": words})

    def _absent(self, slug: str) -> Response:
        if not self._context.settled:
            raise Unavailable("this server has not loaded its functions yet", "agentops health")
        if self._context.loader.failed(slug):
            # It is deployed: the caller may come again, the operator finds the reason in `deploy list` and the log.
            raise Unavailable(f"{slug} could not be loaded by this server", "agentops deploy list")
        return _unknown(slug)


def _checked(answer: object) -> Response:
    if not isinstance(answer, Response):
        raise TypeError(type(answer).__name__)
    if not isinstance(answer.body, bytes):
        raise TypeError(type(answer.body).__name__)
    for name, value in (("content-type", answer.content_type), *answer.headers.items()):
        if not _HEADER.fullmatch(f"{name}: {value}"):
            raise ValueError(name)
    return answer


def _unknown(slug: str) -> Response:
    words = f"no function is deployed as {slug[:80]!r}; agentops deploy list shows what is"
    return json_response(Kind.NOT_FOUND.status, {"success": False, "error": words})


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; one that is sent twice is joined, and so matches no key or signature."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _places(defect: BaseException) -> list[str]:
    """Where a defect came from, innermost last: files and lines, never its words (they may hold data)."""
    frames = traceback.extract_tb(defect.__traceback__)[-5:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
