"""OpenAI's Responses API with function tools: one turn of the model, one request.

    agent.loop → OpenAI.respond(items, tools) → POST {base_url}/responses → Reply(items, text, calls, usage, …)

Nothing is stored at OpenAI (`store: false`), so the caller keeps the history: append all of `Reply.items` (reasoning
items too), then one `function_call_output` per call, and ask again.

What OpenAI says → what is raised:

    no connection, no answer in time                     Unavailable
    408, 409, 5xx                                        Overloaded (an Unavailable)
    429                                                  RateLimited (an Unavailable; it may pass by waiting)
    429 or 403 with a code that waiting cannot cure      SpendLimit (an Unavailable; stop calling, tell a person)
    401, 403                                             NotAuthorised
    400, 404, 422 and the rest                           UsageError: the model, the schema or the history is wrong

The SDK is imported when the first request is made: it takes a second, which no command should pay to say hello.
Source: https://developers.openai.com/api/reference/responses
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from agentops.clients.breaker import Breaker
from agentops.errors import AgentOpsError, NotAuthorised, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import openai
    from openai.types.responses import Response, ResponseInputParam, ToolParam

BASE_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 3.0

# https://help.openai.com/en/articles/6614457: these 429s stay until somebody pays or lifts a limit.
SPEND_CODES = frozenset(
    {
        "credit_balance_exhausted",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
# What a peer calls a code, parameter or request id; anything else from outside stays out of our own words.
_WORD = re.compile(r"[A-Za-z0-9_.\[\]:-]{1,80}")


class RateLimited(Unavailable):
    """Too many requests or tokens a minute. `retry_after` is the wait in seconds that OpenAI asked for, if it did."""

    def __init__(self, message: str, hint: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """OpenAI failed and says when to come again: `retry_after` in seconds, None where it does not."""

    def __init__(self, message: str, hint: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class SpendLimit(Unavailable):
    """The account's money or hard limit is used up: `code` says which. Asking again cannot succeed."""

    def __init__(self, message: str, hint: str | None = None, *, code: str) -> None:
        super().__init__(message, hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. `arguments` is its JSON text, unchecked: validate it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply; all are 0 where the server did not count.

    `cached_tokens` (read from the cache) and `cache_write_tokens` are parts of `input_tokens`.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One turn of the model.

    `items` are the output items as JSON objects, to be sent back as they are; `text` is what it says (may be empty);
    `incomplete` is None or why it stopped early (`max_output_tokens`, `content_filter`).
    """

    items: list[dict[str, Any]]
    text: str
    calls: tuple[ToolCall, ...]
    usage: Usage
    model: str
    request_id: str | None
    latency_ms: int
    incomplete: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that this key may use; `shutdown_date` (YYYY-MM-DD) where its end is announced."""

    id: str
    shutdown_date: str | None = None


class OpenAI:
    """One account at OpenAI, or at any server that speaks its protocol.

    Args:
        api_key: the secret key; held, never shown.
        base_url: up to and with `/v1`.
        timeout: seconds that one read may take; the whole request has its own deadline.

    Raises:
        UsageError: the key or the address is none.
    """

    def __init__(self, api_key: str, *, base_url: str = BASE_URL, timeout: float = 30.0) -> None:
        if not re.fullmatch(r"[!-~]+", api_key):
            raise UsageError("OPENAI_API_KEY is no key", "set it: agentops secrets set OPENAI_API_KEY")
        if not re.fullmatch(r"https?://[^/\s?#@]+[^\s?#]*", base_url):
            raise UsageError("OPENAI_BASE_URL is no HTTP address", f"it looks like {BASE_URL}")
        self._api_key = api_key
        self._base_url = base_url
        self._timeout = timeout
        # Kept by the one who asks; `respond` itself makes every request that it is told to.
        self.breaker = Breaker("OpenAI")
        self._client: openai.AsyncOpenAI | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OpenAI(base_url={self._base_url!r})"

    async def respond(
        self,
        *,
        model: str,
        instructions: str,
        items: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        safety_identifier: str,
        cache_key: str,
        correlation_id: str,
        deadline_seconds: float,
        reasoning_effort: str | None = None,
        max_output_tokens: int | None = None,
    ) -> Reply:
        """Ask the model for its next turn.

        Args:
            model: a model's id.
            instructions: the system prompt, sent with every request.
            items: the conversation so far, as Responses input items.
            tools: `{name, description, parameters}` each; sent as strict function tools, so `parameters` must require
                every property and forbid others.
            safety_identifier: a stable hash of the person, at most 128 characters.
            cache_key: routes equal prompts to one cache; change it when the prompt changes.
            correlation_id: sent as `x-correlation-id`.
            deadline_seconds: for everything, connection included.
            reasoning_effort: `none`, `low`, …, for models that know it; None sends nothing.
            max_output_tokens: a hard end, reasoning included; None sends nothing.

        Raises:
            RateLimited, SpendLimit, Unavailable, NotAuthorised, UsageError: see the module.
        """
        options: dict[str, Any] = {}
        if reasoning_effort is not None:
            options["reasoning"] = {"effort": reasoning_effort}
        if max_output_tokens is not None:
            options["max_output_tokens"] = max_output_tokens
        functions = [cast("ToolParam", {**tool, "type": "function", "strict": True}) for tool in tools]
        history = cast("ResponseInputParam", list(items))
        async with self._call(deadline_seconds) as client:
            begun = time.perf_counter()
            response = await client.responses.create(
                model=model,
                instructions=instructions,
                input=history,
                tools=functions,
                store=False,
                include=["reasoning.encrypted_content"],
                safety_identifier=safety_identifier,
                prompt_cache_key=cache_key,
                extra_headers={"x-correlation-id": correlation_id},
                **options,
            )
            return _reply(response, model, round((time.perf_counter() - begun) * 1000))

    async def models(self, *, deadline_seconds: float = 15.0) -> list[Model]:
        """The models that this key may use, by id.

        Raises:
            RateLimited, Unavailable, NotAuthorised, UsageError: see the module.
        """
        async with self._call(deadline_seconds) as client:
            page = await client.models.list()
            found = [Model(item.id, getattr(item, "shutdown_date", None)) for item in page.data]
            return sorted(found, key=lambda each: each.id)

    async def warm(self) -> None:
        """Import the SDK now, in a thread, so that the first request need not."""
        await self._open()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    @asynccontextmanager
    async def _call(self, deadline_seconds: float) -> AsyncIterator[openai.AsyncOpenAI]:
        """The open client; what goes wrong inside, or takes longer than the deadline, leaves as an error of ours."""
        try:
            async with asyncio.timeout(deadline_seconds):
                yield await self._open()
        except AgentOpsError:
            raise
        except TimeoutError:
            raise Unavailable(f"OpenAI gave no answer within {deadline_seconds:g} s") from None
        except Exception as error:  # noqa: BLE001 - OpenAIError has no name before its import; all is raised again
            raise _translated(error) from None  # the SDK's words may quote the key or the customer

    async def _open(self) -> openai.AsyncOpenAI:
        async with self._opening:
            if self._client is None:
                # The import takes a second of CPU; in a thread the server's other work goes on meanwhile.
                self._client = await asyncio.to_thread(self._connect)
            return self._client

    def _connect(self) -> openai.AsyncOpenAI:
        import httpx2  # the SDK's own HTTP library; it comes with the SDK
        import openai

        return openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            timeout=httpx2.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout)),
            max_retries=0,
        )


def _reply(response: Response, model: str, latency_ms: int) -> Reply:
    # A compatible server may leave out anything, and the SDK does not check: read defensively.
    output = getattr(response, "output", None)
    if not isinstance(output, list):
        raise Unavailable("OpenAI's answer is no response", "see whether OPENAI_BASE_URL is a Responses API")
    request_id = getattr(response, "_request_id", None)
    if response.status in {"failed", "cancelled"}:
        code = _word(getattr(response.error, "code", None))
        raise Unavailable(f"OpenAI could not finish the response ({code or response.status})", _quote(request_id))
    details = getattr(response, "incomplete_details", None)
    return Reply(
        items=[item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in output],
        text=response.output_text,
        calls=tuple(_tool_call(item) for item in output if item.type == "function_call"),
        usage=_usage(getattr(response, "usage", None)),
        model=_word(getattr(response, "model", None)) or model,
        request_id=request_id,
        latency_ms=latency_ms,
        incomplete=(_word(getattr(details, "reason", None)) or "unknown") if response.status == "incomplete" else None,
    )


def _tool_call(item: Any) -> ToolCall:  # noqa: ANN401 - the SDK fills fields that the answer lacks with None
    if not all(isinstance(each, str) and each for each in (item.call_id, item.name)):
        raise Unavailable("OpenAI's answer is no response", "see whether OPENAI_BASE_URL is a Responses API")
    return ToolCall(item.call_id, item.name, item.arguments or "{}")


def _usage(usage: object) -> Usage:
    def count(holder: object, name: str) -> int:
        return int(getattr(holder, name, None) or 0)

    details = getattr(usage, "input_tokens_details", None)
    tokens_in, tokens_out = count(usage, "input_tokens"), count(usage, "output_tokens")
    total = count(usage, "total_tokens") or tokens_in + tokens_out
    return Usage(tokens_in, count(details, "cached_tokens"), count(details, "cache_write_tokens"), tokens_out, total)


def _translated(error: Exception) -> Exception:
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Unavailable("OpenAI gave no answer in time")
    if isinstance(error, openai.APIStatusError):
        return _refused(error)
    if isinstance(error, openai.APIConnectionError):
        return Unavailable("OpenAI cannot be reached", "see the network, OPENAI_BASE_URL and status.openai.com")
    if isinstance(error, (openai.OpenAIError, ValueError, TypeError, AttributeError)):
        # Not JSON, or JSON of another shape: whatever answered is not OpenAI's API.
        return Unavailable("OpenAI's answer is no response", "see whether OPENAI_BASE_URL is a Responses API")
    return error


def _refused(error: openai.APIStatusError) -> AgentOpsError:
    status, code, quote = error.status_code, _word(error.code), _quote(error.request_id)
    spent = next((word for word in (code, _word(error.type)) if word in SPEND_CODES), None)
    if spent:
        return SpendLimit(f"OpenAI refuses: {spent}", "top up the account or lift its limit", code=spent)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(f"OpenAI's rate limit is reached ({code or status})", quote, retry_after=_after(error))
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        hint = "set a key that may do this: agentops secrets set OPENAI_API_KEY"
        return NotAuthorised(f"OpenAI refuses the key ({code or status})", hint)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Overloaded(f"OpenAI failed ({status})", quote, retry_after=_after(error))
    what = ", ".join(word for word in (code, _word(error.param)) if word) or str(int(status))
    if code == "model_not_found" or status == HTTPStatus.NOT_FOUND:
        return UsageError(f"OpenAI does not know this model or address ({what})", "set OPENAI_RESPONSES_MODEL anew")
    return UsageError(f"OpenAI refuses the request ({what})", quote)


def _after(error: openai.APIStatusError) -> float | None:
    after = error.response.headers.get("retry-after", "")
    return float(after) if re.fullmatch(r"\d{1,6}(\.\d+)?", after) else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _quote(request_id: object) -> str | None:
    word = _word(request_id)
    return f"quote request id {word} to OpenAI" if word else None
