"""Calls functions over HTTP on the first live web server, with the stack's own service key."""

from __future__ import annotations

import json
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx

from agentops import seal
from agentops.errors import NotAuthorised, TimedOut, Unavailable
from agentops.platforms import Invocation
from agentops.platforms.local import secrets, servers
from agentops.settings import SERVICE_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Protocol

    from agentops.platforms import Queries

    class _Stack(Queries, Protocol):
        @property
        def home(self) -> Path: ...

        def client(self) -> httpx.AsyncClient: ...


_SECONDS = 60


def client() -> httpx.AsyncClient:
    """A client for the servers' own addresses, straight to them: a proxy of the environment is for the outside.

    Servers speak plain HTTP. The trust store, which takes a while to read, is left out: HTTPS would be refused.
    """
    return httpx.AsyncClient(timeout=_SECONDS, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


async def call(stack: _Stack, slug: str, method: str, body: bytes, headers: Mapping[str, str]) -> Invocation:
    """Call `slug` and answer what it says, whatever the status.

    Raises:
        Unavailable: no server is alive, or it does not answer.
        NotAuthorised: this machine has not the stack's private key, and `headers` brings no Authorization.
        TimedOut: no answer within 60 s.
    """
    url = await _address(stack)
    sent = {name.lower(): value for name, value in headers.items()}
    if not sent.keys() & {"authorization", "apikey"}:
        sent["authorization"] = f"Bearer {await _service_key(stack)}"
    sent.setdefault("content-type", "application/json")
    try:
        http = stack.client()
        begun = time.perf_counter()
        answer = await http.request(method, f"{url}/functions/v1/{slug}", content=body, headers=sent)
        seconds = time.perf_counter() - begun
    except httpx.ConnectError as error:
        raise Unavailable(f"the server at {url} does not answer: {error}", "agentops status") from error
    except httpx.TimeoutException as error:
        raise TimedOut(f"{slug} has not answered within {_SECONDS} s", f"agentops logs show {slug}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"the call to {url} broke off: {error}", f"agentops logs show {slug}") from error
    return Invocation(
        slug=slug,
        status=answer.status_code,
        correlation_id=answer.headers.get("x-correlation-id") or sent.get("x-correlation-id") or None,
        latency_ms=round(seconds * 1000),
        body=_parsed(answer.text),
    )


async def _address(queries: Queries) -> str:
    url = next((server.url for server in await servers.live(queries) if server.role == "web" and server.url), None)
    if url is None:
        raise Unavailable("no server runs here, so there is nobody to call", "agentops up")
    return url.rstrip("/")


async def _service_key(stack: _Stack) -> str:
    private = seal.private_key(stack.home)
    if private is None:
        raise NotAuthorised(
            "this machine has not the stack's private key, so it does not know the service key",
            "set AGENTOPS_STACK_KEY, or bring your own: --header 'Authorization: Bearer …'",
        )
    key = (await secrets.values(stack, private)).get(SERVICE_KEY)
    if not key:
        raise NotAuthorised(f"the stack has no {SERVICE_KEY}", "agentops up makes one")
    return key


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever the function answered
    try:
        return json.loads(text)
    except ValueError:
        return text
