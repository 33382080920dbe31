"""Calls a project's functions over HTTP: for `invoke`, and to see whether they run.

Any answer but 404 and 5xx says that a function runs; so does one that carries our forwarder's header.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agentops.errors import NotAuthorised, TimedOut, Unavailable
from agentops.platforms import Invocation
from agentops.platforms.supabase.management import client

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from agentops.platforms.supabase.management import Management

SECONDS = 60.0
LOOK_SECONDS = 10.0
FLAG_HEADER = "x-agentops-flag"
# https://supabase.com/docs/guides/platform/http-status-codes
PAUSED = 540


@dataclass(frozen=True, slots=True)
class Said:
    """A function's word on its own flag: `flag` is on, off, or None where its answer has no such header."""

    answered: bool
    flag: str | None = None


class Functions:
    """The functions of one project behind one address."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def answers(self, slug: str) -> str | None:
        """None where the function answers as one that runs, else what is wrong."""
        import httpx

        try:
            answer = await self._http().get(f"{self._url}/{slug}", timeout=LOOK_SECONDS)
        except httpx.HTTPError as error:
            return f"it does not answer ({type(error).__name__})"
        if answer.status_code == PAUSED:
            return f"it answers {PAUSED}: the project is paused"
        broken = answer.status_code == HTTPStatus.NOT_FOUND or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        return f"it answers {answer.status_code}" if broken and FLAG_HEADER not in answer.headers else None

    async def probe(self, slug: str, *, webhook: bool) -> Said:
        """What the function says of its own flag, asked in a way that does nothing.

        A webhook gets a body that holds nothing, because its GET is somebody's verification; anything else a GET.
        """
        import httpx

        method, body = ("POST", {"object": "whatsapp_business_account", "entry": []}) if webhook else ("GET", None)
        try:
            answer = await self._http().request(method, f"{self._url}/{slug}", json=body, timeout=LOOK_SECONDS)
        except httpx.HTTPError:
            return Said(answered=False)
        return Said(answered=True, flag=answer.headers.get(FLAG_HEADER))

    async def call(
        self, api: Management, slug: str, method: str, body: bytes, headers: Mapping[str, str]
    ) -> Invocation:
        """Call `slug` and answer what it says, whatever the status. Errors as the local platform's `invoke`."""
        import httpx

        sent = {name.lower(): value for name, value in headers.items()}
        if not sent.keys() & {"authorization", "apikey"}:
            sent["authorization"] = f"Bearer {await _service_key(api)}"
        sent.setdefault("content-type", "application/json")
        begun = time.perf_counter()
        try:
            answer = await self._http().request(
                method, f"{self._url}/{slug}", content=body, headers=sent, timeout=SECONDS
            )
        except httpx.ConnectError as error:
            raise Unavailable(f"{self._url} does not answer", "see the network and SUPABASE_FUNCTIONS_URL") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"{slug} has not answered within {SECONDS:.0f} s", f"agentops logs show {slug}") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the call to {slug} broke off ({type(error).__name__})", "try again") from error
        return Invocation(
            slug=slug,
            status=answer.status_code,
            correlation_id=answer.headers.get("x-correlation-id") or sent.get("x-correlation-id") or None,
            latency_ms=round((time.perf_counter() - begun) * 1000),
            body=_parsed(answer.text),
        )

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = client(self._url)
        return self._client


async def _service_key(api: Management) -> str:
    """The project's service role key, which the token may or may not reveal."""
    keys = await api.get("/api-keys", {"reveal": "true"})
    for row in keys if isinstance(keys, list) else []:
        if row.get("name") == "service_role" and row.get("api_key"):
            return str(row["api_key"])
    raise NotAuthorised(
        "the access token does not reveal the service key", "bring it: --header 'Authorization: Bearer …'"
    )


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever the function answered
    try:
        return json.loads(text)
    except ValueError:
        return text
