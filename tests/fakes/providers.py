"""OpenAI and Graph on a loopback socket, scripted: what they were asked is kept, what they answer is the test's."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentops.sandbox import model
from tests.fakes import sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

_numbers = itertools.count(1)


@dataclass
class Providers:
    """Both providers. `think` answers a Responses request, with a body or a status, as soon as `hold` is set."""

    think: Callable[[dict[str, Any]], dict[str, Any] | int] = field(default=model.answer)
    asked: list[dict[str, Any]] = field(default_factory=list)
    asked_headers: list[dict[str, str]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    sent_headers: list[dict[str, str]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    # Meta's error codes with which Graph refuses the next sends.
    refusals: list[int] = field(default_factory=list)
    # How many of the next sends are accepted, and their answers lost.
    lost: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    # Which of the model's requests wait for `hold`.
    holds: Callable[[dict[str, Any]], bool] = lambda _: True
    url: str = ""

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def texts(self) -> list[str]:
        """The replies as the customers see them, in order."""
        return [each["text"]["body"] if "text" in each else each["interactive"]["body"]["text"] for each in self.sent]

    @property
    def environment(self) -> dict[str, str]:
        """What the stack's process is told."""
        return {"OPENAI_BASE_URL": f"{self.url}/v1", "WHATSAPP_API_URL": f"{self.url}/graph"}

    def app(self) -> Starlette:
        """Both on one port."""
        return Starlette(
            routes=[
                Route("/v1/responses", self._respond, methods=["POST"]),
                Route("/graph/{number}/messages", self._graph, methods=["POST"]),
            ]
        )

    async def _respond(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.asked_headers.append(dict(request.headers))
        if self.holds(body):
            await asyncio.to_thread(self.hold.wait)
        answer = self.think(body)
        if isinstance(answer, int):
            return JSONResponse({"error": {"message": "scripted", "type": "server_error", "code": None}}, answer)
        return JSONResponse(answer)

    async def _graph(self, request: Request) -> Response:
        body = await request.json()
        if body.get("status") == "read":
            self.marks.append(body)
            return JSONResponse({"success": True})
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            error = {"message": "scripted", "type": "OAuthException", "code": refusal, "fbtrace_id": "A"}
            return JSONResponse({"error": error}, 400)
        self.sent.append(body)
        self.sent_headers.append(dict(request.headers))
        if self.lost:
            self.lost -= 1
            return Response("lost", 500)
        to = str(body.get("to") or body["recipient"])
        contacts = [{"input": to, "wa_id": to[1:]} if "to" in body else {"input": to, "user_id": to}]
        messages = [{"id": f"wamid.sent{next(_numbers)}"}]
        return JSONResponse({"messaging_product": "whatsapp", "contacts": contacts, "messages": messages})


def say(words: str) -> dict[str, Any]:
    """A model's answer in words."""
    content = [{"type": "output_text", "text": words, "annotations": []}]
    item = {"type": "message", "id": f"msg_{next(_numbers)}", "role": "assistant", "status": "completed"}
    return _answer([{**item, "content": content}])


def call(*calls: tuple[str, str]) -> dict[str, Any]:
    """A model's answer that calls tools: name and arguments (JSON text) of each."""
    number = next(_numbers)
    return _answer(
        [
            {
                "type": "function_call",
                "id": f"fc_{number}_{place}",
                "call_id": f"call_{number}_{place}",
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
            for place, (name, arguments) in enumerate(calls)
        ]
    )


def last(body: dict[str, Any]) -> str:
    """What the model was asked last: the customer's words, or a tool's output."""
    item = body["input"][-1]
    return str(item.get("output") or item.get("content"))


@contextmanager
def serving(providers: Providers) -> Iterator[Providers]:
    """The providers on a port of their own, until the block ends."""
    with sockets.serving(providers.app()) as port:
        providers.url = f"http://127.0.0.1:{port}"
        try:
            yield providers
        finally:
            providers.hold.set()


def _answer(output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"resp_{next(_numbers)}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": "gpt-6-luna",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 110,
        },
    }
