from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from agentops.errors import AgentOpsError, Conflict, NotFound, Unavailable
from agentops.events import Events
from agentops.server.app import app
from agentops.server.context import ServerContext
from agentops.server.limits import TOOL_BODY_BYTES, WEBHOOK_BODY_BYTES
from agentops.stack import Stack
from agentops.web import Request, Response, json_response, text_response
from tests.fakes.stacks import Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handle = Callable[[Request, Stack], Awaitable[Response]]


@dataclass
class _Function:
    handle: Handle


class _Loader:
    """Functions without a database; the real one has tests of its own."""

    def __init__(self, **functions: Handle) -> None:
        self._functions = {slug.replace("_", "-"): _Function(handle) for slug, handle in functions.items()}

    def get(self, slug: str) -> _Function | None:
        return self._functions.get(slug)

    def failed(self, slug: str) -> bool:
        return slug == "broken"


async def _echo(request: Request, stack: Stack) -> Response:
    content = {"method": request.method, "bytes": len(request.body), "query": dict(request.query)}
    return json_response(200, content | {"headers": dict(request.headers), "generation": stack.generation})


def _server(**functions: Handle) -> tuple[ServerContext, Recorded]:
    recorded = Recorded()
    events = Events(recorded, echo=None)
    loader = cast("Any", _Loader(echo=_echo, echo_webhook=_echo, **functions))
    context = ServerContext(uuid.uuid4(), "web", None, cast("Any", None), loader, events)
    context.swap(Stack(cast("Any", None), cast("Any", None), events, generation=7))
    context.answered_at, context.settled = time.monotonic(), True
    return context, recorded


def _ask(context: ServerContext, method: str, path: str, **request: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=app(context))
        async with httpx.AsyncClient(transport=transport, base_url="http://stack") as client:
            return await client.request(method, path, **request)

    return asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_reaches_the_function(method: str) -> None:
    answer = _ask(_server()[0], method, "/functions/v1/echo?a=1&a=2&b=", headers={"X-Thing": "yes"})
    assert answer.status_code == 200
    assert answer.json()["method"] == method
    assert answer.json()["query"] == {"a": "2", "b": ""}
    assert answer.json()["headers"]["x-thing"] == "yes"
    assert answer.json()["generation"] == 7


@pytest.mark.parametrize("given", ["abc-123", "A.b_c:d-1", "x" * 128])
def test_a_correlation_id_is_kept_and_returned(given: str) -> None:
    answer = _ask(_server()[0], "GET", "/functions/v1/echo", headers={"x-correlation-id": given})
    assert answer.headers["x-correlation-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", 'quote"', "semi;colon"])
def test_another_correlation_id_is_replaced_by_a_uuid(given: str) -> None:
    answer = _ask(_server()[0], "GET", "/functions/v1/echo", headers={"x-correlation-id": given})
    assert answer.headers["x-correlation-id"] == str(uuid.UUID(answer.headers["x-correlation-id"]))


def test_an_unknown_slug_says_how_to_see_the_known_ones() -> None:
    answer = _ask(_server()[0], "POST", "/functions/v1/nope")
    assert answer.status_code == 404
    assert answer.json()["success"] is False
    assert "agentops deploy list" in answer.json()["error"]
    assert answer.headers["x-correlation-id"]


def test_a_function_that_is_deployed_and_not_here_is_503_and_not_404() -> None:
    broken = _ask(_server()[0], "POST", "/functions/v1/broken")
    assert (broken.status_code, "could not be loaded" in broken.json()["error"]) == (503, True)
    starting, _ = _server()
    starting.settled = False
    early = _ask(starting, "POST", "/functions/v1/anything")
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")


def test_another_page_says_where_functions_are() -> None:
    answer = _ask(_server()[0], "GET", "/functions/v2/echo")
    assert (answer.status_code, answer.json()["success"]) == (404, False)
    assert "/functions/v1/" in answer.json()["error"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [(NotFound("Voucher not found"), 404), (Conflict("someone else"), 409), (Unavailable("away"), 503)],
)
def test_an_error_of_ours_becomes_its_kinds_status(failure: AgentOpsError, status: int) -> None:
    async def fail(_request: Request, _stack: Stack) -> Response:
        raise failure

    answer = _ask(_server(fail=fail)[0], "POST", "/functions/v1/fail")
    assert answer.status_code == status
    assert answer.json() == {"success": False, "error": failure.message}
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_defect_shows_its_type_in_an_event_and_nothing_to_the_client() -> None:
    async def fail(_request: Request, _stack: Stack) -> Response:
        raise ValueError("the customer +250788123456 said: secret words")

    context, recorded = _server(fail=fail)
    answer = _ask(context, "POST", "/functions/v1/fail", headers={"x-correlation-id": "abc-123"})
    assert answer.status_code == 500
    assert "abc-123" in answer.json()["error"]
    assert "secret words" not in answer.text + recorded.text
    [event] = recorded.events
    assert (event.event, event.level, event.function, event.correlation_id) == (
        "ai.server.exception",
        "error",
        "fail",
        "abc-123",
    )
    assert event.data["exception"] == "ValueError"
    assert "test_app.py" in str(event.data["at"])


def test_a_function_that_answers_no_response_is_a_defect_like_any_other() -> None:
    async def fail(_request: Request, _stack: Stack) -> Response:
        return cast("Response", {"success": True})

    context, recorded = _server(fail=fail)
    assert _ask(context, "POST", "/functions/v1/fail").status_code == 500
    assert recorded.names == ["ai.server.exception"]


def test_a_function_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentops.server.app.ANSWER_SECONDS", 0.05)

    async def hang(_request: Request, _stack: Stack) -> Response:
        await asyncio.sleep(60)
        return text_response(200, "too late")

    answer = _ask(_server(hang=hang)[0], "POST", "/functions/v1/hang")
    assert (answer.status_code, answer.json()["success"]) == (504, False)


@pytest.mark.parametrize(("slug", "limit"), [("echo", TOOL_BODY_BYTES), ("echo-webhook", WEBHOOK_BODY_BYTES)])
def test_a_body_up_to_its_limit_is_taken_and_one_over_it_refused(slug: str, limit: int) -> None:
    context, _ = _server()
    assert _ask(context, "POST", f"/functions/v1/{slug}", content=b"x" * limit).json()["bytes"] == limit
    answer = _ask(context, "POST", f"/functions/v1/{slug}", content=b"x" * (limit + 1))
    assert answer.status_code == 413
    assert answer.json() == {"success": False, "error": f"the request body is over the limit of {limit // 1024} KiB"}
    assert answer.headers["x-correlation-id"]


def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1024

    assert _ask(_server()[0], "POST", "/functions/v1/echo", content=chunks()).status_code == 413


def test_a_header_sent_twice_matches_nothing() -> None:
    headers = [("apikey", "one"), ("apikey", "two")]
    answer = _ask(_server()[0], "GET", "/functions/v1/echo", headers=headers)
    assert answer.json()["headers"]["apikey"] == "one, two"


def test_readiness_follows_settings_database_and_drain() -> None:
    context, _ = _server()
    assert _ask(context, "GET", "/readyz").json() == {"status": "ok", "generation": 7}
    context.draining = True
    assert _ask(context, "GET", "/readyz").status_code == 503
    context.draining = False
    context.answered_at = time.monotonic() - 60
    answer = _ask(context, "GET", "/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert _ask(context, "GET", "/livez").status_code == 200


def test_before_the_first_settings_functions_are_unavailable() -> None:
    context, _ = _server()
    context._stack = None
    assert _ask(context, "GET", "/functions/v1/echo").status_code == 503


def test_the_root_points_at_health() -> None:
    assert _ask(_server()[0], "GET", "/").json()["ready"] == "/readyz"
