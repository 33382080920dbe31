"""The three peers as one ASGI application, with windows to look at what they received.

    /openai/v1/responses, /models               OpenAI; the model is `sandbox.model`
    /graph/{version}/{phone_id}/messages        Meta's Graph for WhatsApp
    /slack/{path}                               Slack's incoming webhooks
    /sandbox/messages?to=%2B250…&after=N        what Graph received, oldest first
    /sandbox/slack?after=N                      what Slack received
    /sandbox/faults                             what goes wrong with the next sends (`sandbox.faults`)

Told where, Graph's peer sends back signed status webhooks (`sandbox.statuses`).

State is in memory, bounded, and ends with the process. Every answer carries `x-agentops-simulation: true`.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from agentops.sandbox import checks, model
from agentops.sandbox.faults import Fault, Faults

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agentops.sandbox.statuses import Statuses

KEPT = 10_000  # the newest messages and posts that are remembered
TEXT_LIMIT = 4096
_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


class Received:
    """What a peer received, numbered from 1 in order of arrival; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.last = 0

    def add(self, **fields: object) -> None:
        """Remember one."""
        self.last += 1
        self._kept.append({"n": self.last, "received_at": time.time(), **fields})

    def after(self, number: int, **wanted: str) -> list[dict[str, Any]]:
        """Those with a higher number, and with all the wanted values."""
        newer = (each for each in self._kept if each["n"] > number)
        return [each for each in newer if all(each.get(name) == value for name, value in wanted.items())]


class Peers:
    """The endpoints, and the memory that they share."""

    def __init__(self, statuses: Statuses | None = None) -> None:
        self.messages = Received()
        self.posts = Received()
        self.faults = Faults()
        self._statuses = statuses

    async def responses(self, request: Request) -> Response:
        """`POST /openai/v1/responses`."""
        if not _bearer(request):
            return _no_key()
        body = await _json(request)
        refused = checks.refusal(body)
        if refused:
            return JSONResponse(refused.body(), refused.status, headers=_request_id())
        answer = model.answer(body, nonce=secrets.token_hex(16), created_at=int(time.time()))
        return JSONResponse(answer, headers=_request_id())

    async def models(self, request: Request) -> Response:
        """`GET /openai/v1/models`."""
        if not _bearer(request):
            return _no_key()
        data = [
            {"id": name, "object": "model", "created": created, "owned_by": "agentops-simulation", "shutdown_date": end}
            for name, (created, end) in checks.MODELS.items()
        ]
        return JSONResponse({"object": "list", "data": data}, headers=_request_id())

    async def graph(self, request: Request) -> Response:
        """`POST /graph/{version}/{phone_id}/messages`: a text, or a read mark with a typing indicator."""
        if not _bearer(request):
            return _graph_error(401, 190, "Invalid OAuth access token - Cannot parse access token", "OAuthException")
        body = await _json(request)
        match body:
            case {"messaging_product": "whatsapp", "status": "read", "message_id": str(message_id)}:
                self._keep(request, type="read", message_id=message_id, typing="typing_indicator" in body)
                return JSONResponse({"success": True})
            case {"messaging_product": "whatsapp", "type": "text", "text": {"body": str(text)}} | {
                "messaging_product": "whatsapp",
                "type": "interactive",
                "interactive": {"type": "request_contact_info", "body": {"text": str(text)}},
            } if isinstance(to := body.get("to", body.get("recipient")), str):
                return await self._faulty(request, to, text, body.get("biz_opaque_callback_data"))
        return _graph_error(400, 100, "(#100) Invalid parameter")

    async def _faulty(self, request: Request, to: str, text: str, callback_data: object) -> Response:
        fault = self.faults.next()
        match fault:
            case Fault("code", code):
                return _graph_error(400, code, f"(#{code}) scripted")
            case Fault("500"):
                return PlainTextResponse("scripted", 500)
        answer = self._text(request, to, text, callback_data, fault)
        if fault and fault.fault == "silence":
            await asyncio.sleep(fault.seconds)
        return answer

    def _text(self, request: Request, to: str, text: str, callback_data: object, fault: Fault | None) -> Response:
        if not 0 < len(text) <= TEXT_LIMIT:
            length = f"(#100) Param text['body'] must be between 1 and {TEXT_LIMIT} characters long."
            return _graph_error(400, 100, length)
        if not _USER_ID.fullmatch(to) and (not to.startswith("+") or not to[1:].isdigit()):
            # Graph takes such a number, and sends to another country. The simulation shows the mistake at once.
            return _graph_error(400, 131009, "(#131009) Parameter value is not valid: to")
        message_id = _wamid(to[1:])
        named = fault.fault if fault else None
        self._keep(
            request, type="text", to=to, body=text, message_id=message_id, callback_data=callback_data, fault=named
        )
        if self._statuses:
            failed = fault.code if fault and named == "failed" else None
            self._statuses.tell(request.path_params["phone_id"], to, message_id, callback_data, failed)
        contacts = [{"input": to, "wa_id": to[1:]} if to.startswith("+") else {"input": to, "user_id": to}]
        return JSONResponse({"messaging_product": "whatsapp", "contacts": contacts, "messages": [{"id": message_id}]})

    def _keep(self, request: Request, **fields: object) -> None:
        phone_id, correlation_id = request.path_params["phone_id"], request.headers.get("x-correlation-id")
        self.messages.add(phone_id=phone_id, correlation_id=correlation_id, **fields)

    async def slack(self, request: Request) -> Response:
        """`POST /slack/{path}`."""
        body = await _json(request)
        if not isinstance(body, dict):
            return PlainTextResponse("invalid_payload", 400)
        if not body.get("text") and not body.get("blocks"):
            return PlainTextResponse("no_text", 400)
        self.posts.add(path=request.path_params["path"], text=body.get("text"), blocks=body.get("blocks"))
        return PlainTextResponse("ok")

    async def list_messages(self, request: Request) -> Response:
        """`GET /sandbox/messages`: `{"messages": [{n, type, to, body, message_id, callback_data, …}], "last": n}`."""
        # An unescaped `+` in a query arrives as a space.
        to = request.query_params.get("to", "").replace(" ", "+")
        found = self.messages.after(_number(request), **({"to": to} if to else {}))
        return JSONResponse({"messages": found, "last": self.messages.last})

    async def list_posts(self, request: Request) -> Response:
        """`GET /sandbox/slack`: `{"posts": [{n, path, text, …}], "last": n}`."""
        return JSONResponse({"posts": self.posts.after(_number(request)), "last": self.posts.last})


class Labelled:
    """Adds the header that says: this is a simulation."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-agentops-simulation"] = "true"
            await send(message)

        await self._app(scope, receive, labelled)


def app(statuses: Statuses | None = None) -> Starlette:
    """The peers, with an empty memory; `statuses` is whom Graph tells what became of its messages."""
    peers = Peers(statuses)
    routes = [
        Route("/openai/v1/responses", peers.responses, methods=["POST"]),
        Route("/openai/v1/models", peers.models, methods=["GET"]),
        Route("/graph/{version}/{phone_id}/messages", peers.graph, methods=["POST"]),
        Route("/slack/{path:path}", peers.slack, methods=["POST"]),
        Route("/sandbox/messages", peers.list_messages, methods=["GET"]),
        Route("/sandbox/slack", peers.list_posts, methods=["GET"]),
        Route("/sandbox/faults", peers.faults.endpoint, methods=["GET", "POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Labelled)])


def _bearer(request: Request) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())


async def _json(request: Request) -> Any:  # noqa: ANN401 - whatever was sent
    try:
        return await request.json()
    except ValueError:
        return None


def _number(request: Request) -> int:
    after = request.query_params.get("after", "0")
    return int(after) if after.isdecimal() else 0


def _request_id() -> dict[str, str]:
    return {"x-request-id": f"req_simulated_{secrets.token_hex(12)}"}


def _no_key() -> Response:
    error = {"message": "You didn't provide an API key.", "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, 401, headers=_request_id())


def _graph_error(status: int, code: int, message: str, kind: str = "OAuthException") -> Response:
    error = {"message": message, "type": kind, "code": code, "fbtrace_id": f"A{secrets.token_urlsafe(16)}"}
    return JSONResponse({"error": error}, status)


def _wamid(wa_id: str) -> str:
    """An id of the shape of WhatsApp's own: base64 over the number, a few marks and 18 hexadecimal digits."""
    token = secrets.token_hex(9).upper().encode()
    raw = b"\x1c\x18" + bytes([len(wa_id)]) + wa_id.encode() + b"\x15\x02\x00\x11\x18\x12" + token + b"\x00"
    return f"wamid.{base64.b64encode(raw).decode()}"
