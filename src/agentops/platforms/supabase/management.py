"""Supabase's Management API: one request with its token, its limits and its errors in agentops's words.

    Management.get(path)                    read: tried again on 408, 429, 5xx and a broken connection
    Management.send(method, path, repeatable=…)   write: tried again on 429, and on the rest only where twice is once

A 429 was not carried out, so it is safe to repeat; it is waited out as `Retry-After` or `X-RateLimit-Reset` say. Where
a refusal may come from a project that is paused or not there, the project itself is looked at once, and that is said.
The token is in no error, no repr and no log, also where the API repeats it.

Source: https://supabase.com/docs/reference/api/introduction
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentops.errors import AgentOpsError, Conflict, NotAuthorised, NotFound, TimedOut, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

BASE_URL = "https://api.supabase.com"
SECONDS = 30.0
CONNECT_SECONDS = 5.0
ATTEMPTS = 4
# The limit is counted by the minute: no wait is longer.
LONGEST_WAIT = 65.0
# Without a user and a password: they would be sent along, and shown.
ADDRESS = re.compile(r"https?://[^/\s?#@]+(?:/[^\s?#@]*)?")
_TOKEN = re.compile(r"[!-~]{8,}")
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_WORDS = 300
_SQL = "/database/query"
# Changes nothing, although it is a POST: without an answer nothing may have been carried out.
READ_ONLY = f"{_SQL}/read-only"
# As the API words it: `Failed to run sql query: ERROR:  42P01: relation "x" does not exist`, older ones without a code.
_REFUSED_SQL = re.compile(r"Failed to run sql query: (?:ERROR: +)?(?:(?P<state>[0-9A-Z]{5}): )?(?P<words>.*)")
_FIRST_PAUSE = 0.25
# Spreads requests that were told to wait for the same moment.
_SPREAD = 0.25
_LOOK_SECONDS = 5.0
# What an attempt gets at least, where all of them together have a bound.
_LAST_SECONDS = 5.0
# A project in these states works; in any other one its refusals come from that.
_WORKING = {"ACTIVE_HEALTHY", "ACTIVE_UNHEALTHY", "UNKNOWN", ""}
_ASLEEP = {"INACTIVE", "PAUSING", "PAUSE_FAILED", "GOING_DOWN"}


class Management:
    """One project.

    Args:
        ref: the project's reference, 20 small letters.
        token: a personal access token; held, never shown.
        base_url: another address, for a proxy.
        told: is given a sentence before a long wait.

    Raises:
        UsageError: the token or the address is none.
    """

    def __init__(
        self,
        ref: str,
        token: str,
        *,
        base_url: str = BASE_URL,
        told: Callable[[str], None] = lambda _words: None,
    ) -> None:
        if not ADDRESS.fullmatch(base_url):
            raise UsageError("SUPABASE_API_URL is no HTTP address", f"it looks like {BASE_URL}")
        if not _TOKEN.fullmatch(token):
            raise UsageError("SUPABASE_ACCESS_TOKEN is no token", "make one in the dashboard, then: agentops login")
        self.ref = ref
        self._token = token
        self._base = base_url.rstrip("/")
        self._told = told
        self._client: httpx.AsyncClient | None = None
        # How many requests that change the project have been sent; SQL is none of them.
        self.changes = 0
        self._quiet_until = 0.0
        self._look: asyncio.Task[AgentOpsError | None] | None = None

    def __repr__(self) -> str:
        return f"Management({self.ref!r}, {self._base!r})"

    async def get(self, path: str, parameters: Mapping[str, str] | None = None, *, attempts: int = ATTEMPTS) -> Any:  # noqa: ANN401 - as the API says
        """Read `/v1/projects/{ref}{path}`; its JSON.

        Raises:
            NotAuthorised, NotFound, Conflict, UsageError, Unavailable: see `_refusal`.
        """
        return _json(await self._request("GET", path, attempts=attempts, repeatable=True, params=parameters))

    async def get_parts(self, path: str) -> httpx.Response:
        """Read a multipart answer."""
        headers = {"accept": "multipart/form-data"}
        return await self._request("GET", path, attempts=ATTEMPTS, repeatable=True, headers=headers)

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        parameters: Mapping[str, str] | None = None,
        files: Sequence[tuple[str, tuple[str | None, bytes, str | None]]] | None = None,
        repeatable: bool,
        attempts: int | None = None,
        seconds: float | None = None,
        within: float | None = None,
    ) -> Any:  # noqa: ANN401 - as the API says
        """Write to `/v1/projects/{ref}{path}`; its JSON, None where the answer is empty.

        Args:
            method: POST, PUT, PATCH or DELETE.
            path: below the project.
            json: the body.
            parameters: the query.
            files: the parts of a multipart body, instead of `json`.
            repeatable: twice is the same as once, so a lost answer may be asked for again.
            attempts: how often it is tried at most; ATTEMPTS where nothing is said.
            seconds: how long one attempt may take; SECONDS where nothing is said.
            within: how long all attempts together may take, their waits included; a longer wait is cut short.

        Raises:
            TimedOut: no answer, or none that can be read, and it may have been carried out.
            SqlRefused: it was SQL, and PostgreSQL refuses it.
            NotAuthorised, NotFound, Conflict, UsageError, Unavailable: see `_refusal`.
        """
        if not path.startswith(_SQL):
            self.changes += 1
        answer = await self._request(
            method,
            path,
            attempts=attempts or ATTEMPTS,
            repeatable=repeatable,
            seconds=seconds,
            within=within,
            params=parameters,
            json=json,
            files=files,
        )
        if not answer.content:
            return None
        try:
            return _json(answer)
        except Unavailable as failure:
            if path == READ_ONLY:
                raise
            raise TimedOut(f"{failure.message}; the {method} may have been carried out", "look, then repeat") from None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _request(
        self,
        method: str,
        path: str,
        *,
        attempts: int,
        repeatable: bool,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        within: float | None = None,
        **content: Any,  # noqa: ANN401 - passed on to httpx
    ) -> httpx.Response:
        ends = math.inf if within is None else time.monotonic() + within
        url = f"{self._base}/v1/projects/{self.ref}{path}"
        sent = {"authorization": f"Bearer {self._token}", "accept": "application/json", **(headers or {})}
        for attempt in range(1, attempts + 1):
            longest = min(seconds or SECONDS, max(round(ends - time.monotonic(), 1), _LAST_SECONDS))
            try:
                async with asyncio.timeout(longest):
                    answer = await self._http().request(method, url, headers=sent, timeout=_timeout(longest), **content)
            except Exception as failure:
                lost = _lost(failure, "GET" if path == READ_ONLY else method, longest)
                if lost is None:
                    raise
                left = _left(ends)
                if attempt == attempts or left <= 0 or not (repeatable or isinstance(lost, _NotSent)):
                    raise lost from None
                await asyncio.sleep(min(_pause(attempt), left))
                continue
            if answer.is_success:
                return answer
            wait, left = _wait(answer, attempt, repeatable=repeatable), _left(ends)
            if attempt == attempts or left <= 0 or wait is None:
                raise await self._refused(answer)
            if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                self._tell(wait, left)
            await asyncio.sleep(min(wait, left))
        raise AssertionError

    def _tell(self, wait: float, left: float) -> None:
        """Say that a wait begins, and where it is cut short; once for all requests that wait for the same moment."""
        now = time.monotonic()
        if wait > 1 and now >= self._quiet_until:
            self._quiet_until = now + min(wait, left)
            again = f"; tried again in {left:.0f} s all the same" if left < wait else ""
            self._told(f"note: Supabase asks to wait {wait:.0f} s (too many requests){again}")

    async def _refused(self, answer: httpx.Response) -> AgentOpsError:
        """What a refusal means; where the project itself may be the reason, it is asked, once."""
        status = answer.status_code
        refused = _sql_refusal(answer, self._token)
        if refused is not None:
            return refused
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if self._look is None:
                self._look = asyncio.ensure_future(self._standing())
            found = await asyncio.shield(self._look)
            if found is not None:
                return found
        return _refusal(answer, self.ref, self._token)

    async def _standing(self) -> AgentOpsError | None:
        """What keeps the whole project from working; None where nothing does, or where that cannot be told."""
        import httpx

        url, sent = f"{self._base}/v1/projects/{self.ref}", {"authorization": f"Bearer {self._token}"}
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                answer = await self._http().get(url, headers=sent)
            status = str(answer.json().get("status", ""))
        except (httpx.HTTPError, TimeoutError, ValueError, AttributeError):
            return None
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return NotFound(f"the access token sees no project {self.ref}", "agentops target show --origin")
        if not answer.is_success or status in _WORKING:
            return None
        dashboard = f"https://supabase.com/dashboard/project/{self.ref}"
        if status in _ASLEEP:
            return Unavailable(f"project {self.ref} is paused ({status})", f"restore it, then repeat: {dashboard}")
        return Unavailable(f"project {self.ref} is not ready ({status})", f"wait, then repeat; see {dashboard}")

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = client(self._base)
        return self._client


class SqlRefused(UsageError):
    """PostgreSQL refuses a statement: in its own `words`, with its SQLSTATE as `state` (empty: not told)."""

    def __init__(self, words: str, state: str) -> None:
        super().__init__(f"PostgreSQL refuses the statement: {words}", "mend what it names, then repeat")
        self.words = words
        self.state = state


class _NotSent(Unavailable):
    """There was no connection, so nothing was carried out."""


def client(url: str) -> httpx.AsyncClient:
    """An HTTP client for `url`. The trust store, which takes a while to read, is left out where it is plain HTTP."""
    import httpx

    plain = urlsplit(url).scheme == "http"
    verify: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True
    return httpx.AsyncClient(timeout=_timeout(SECONDS), verify=verify, trust_env=not plain)


def _timeout(seconds: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(seconds, connect=CONNECT_SECONDS)


def _lost(failure: Exception, method: str, seconds: float) -> AgentOpsError | None:
    """No answer: what may have become of the request."""
    import httpx

    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return _NotSent("Supabase's API cannot be reached", "see the network and SUPABASE_API_URL")
    if isinstance(failure, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return UsageError("SUPABASE_API_URL is no HTTP address", f"it looks like {BASE_URL}")
    if not isinstance(failure, httpx.HTTPError | TimeoutError):
        return None
    late = isinstance(failure, httpx.TimeoutException | TimeoutError)
    how = f"gave no answer within {seconds:g} s" if late else f"broke off ({type(failure).__name__})"
    if method != "GET":
        return TimedOut(f"Supabase's API {how}; the {method} may have been carried out", "look, then repeat")
    return Unavailable(f"Supabase's API {how}", "try again; https://status.supabase.com")


def _left(ends: float) -> float:
    """Seconds until the last attempt has to begin, so that it has time for its answer."""
    return ends - time.monotonic() - _LAST_SECONDS


def _pause(attempt: int) -> float:
    return random.uniform(0.5, 1.0) * _FIRST_PAUSE * 2.0**attempt  # noqa: S311 - spreads load, guards nothing


def _wait(answer: httpx.Response, attempt: int, *, repeatable: bool) -> float | None:
    """Seconds until another attempt; None where there shall be none."""
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        asked = _seconds(answer)
        spread = random.uniform(0.0, _SPREAD)  # noqa: S311 - spreads load, guards nothing
        return _pause(attempt) if asked is None else min(asked, LONGEST_WAIT) + spread
    passing = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code in _AGAIN
    return _pause(attempt) if passing and repeatable else None


def _seconds(answer: httpx.Response) -> float | None:
    for name in ("retry-after", "x-ratelimit-reset"):
        text = answer.headers.get(name, "")
        if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text):
            return float(text)
        if text and name == "retry-after":
            from email.utils import parsedate_to_datetime

            try:
                return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
            except ValueError:
                continue
    return None


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401 - whatever the JSON holds
    try:
        return answer.json()
    except ValueError:
        raise Unavailable(
            f"Supabase's API answered {answer.status_code} with no readable JSON",
            "try again; https://status.supabase.com",
        ) from None


def _refusal(answer: httpx.Response, ref: str, token: str) -> AgentOpsError:
    """The API's own sentence, under the kind that its status stands for.

    401, 403 → NotAuthorised · 404 → NotFound · 409 → Conflict · 402, 429, 5xx → Unavailable · other 4xx → UsageError
    """
    status, words = answer.status_code, _message(answer, token)
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return NotAuthorised(f"Supabase refuses the access token{words}", "make a new one, then: agentops login")
        case HTTPStatus.FORBIDDEN:
            return NotAuthorised(f"the access token may not do this on project {ref}{words}", "see its permissions")
        case HTTPStatus.NOT_FOUND:
            return NotFound(f"Supabase does not find it on project {ref}{words}", "agentops target show")
        case HTTPStatus.CONFLICT:
            return Conflict(f"Supabase answers: conflict{words}", "look what is there, then repeat")
        case HTTPStatus.PAYMENT_REQUIRED:
            return Unavailable(f"the project's plan does not allow more{words}", "see its plan and usage")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable("Supabase answers: too many requests", "wait a minute, then repeat")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(f"Supabase's API answered {status}{words}", "try again; https://status.supabase.com")
    if status < HTTPStatus.BAD_REQUEST:
        return Unavailable(f"Supabase's API answered {status}, which leads elsewhere", "see SUPABASE_API_URL")
    return UsageError(f"Supabase refuses it ({status}){words}", "mend what it names, then repeat; nothing was changed")


def _sql_refusal(answer: httpx.Response, token: str) -> SqlRefused | None:
    """What PostgreSQL said; None where it is not PostgreSQL that refuses."""
    found = _REFUSED_SQL.fullmatch(_message(answer, token).removeprefix(": "))
    if answer.status_code != HTTPStatus.BAD_REQUEST or found is None:
        return None
    return SqlRefused(found["words"], found["state"] or "")


def _message(answer: httpx.Response, token: str) -> str:
    """The API's own words after a colon, in one line, without the token; nothing where it has none."""
    try:
        content = answer.json()
    except ValueError:
        return ""
    found = content.get("message") or content.get("error") if isinstance(content, dict) else None
    text = "; ".join(map(str, found)) if isinstance(found, list) else found
    if not isinstance(text, str) or not text.strip():
        return ""
    return f": {' '.join(text.replace(token, '***').split())[:_WORDS]}"
