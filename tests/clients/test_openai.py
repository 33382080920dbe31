from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentops.clients.openai import OpenAI, Overloaded, RateLimited, Reply, SpendLimit
from agentops.errors import AgentOpsError, NotAuthorised, Unavailable, UsageError
from tests.fakes.sockets import closed_port

if TYPE_CHECKING:
    from tests.clients.peer import Peer

KEY = "sk-proj-0123456789abcdef"
CREATE: dict[str, Any] = {
    "name": "create_voucher",
    "description": "Issue a voucher",
    "parameters": {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "currency": {"type": ["string", "null"]}},
        "required": ["amount", "currency"],
        "additionalProperties": False,
    },
}
DONE = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-6-luna-2026-09-22", "output": []}


def ask(url: str, *items: dict[str, Any], timeout: float = 5.0, **changes: Any) -> Reply:
    async def main() -> Reply:
        client = OpenAI(KEY, base_url=url, timeout=timeout)
        request: dict[str, Any] = {
            "model": "gpt-6-luna",
            "instructions": "You help with vouchers.",
            "items": items or ({"role": "user", "content": "hello"},),
            "tools": [CREATE],
            "safety_identifier": "5d41402abc4b2a76b9719d911017c592",
            "cache_key": "voucher-v1",
            "correlation_id": "abc-123",
            "deadline_seconds": 10.0,
        }
        try:
            return await client.respond(**{**request, **changes})
        finally:
            await client.aclose()

    return asyncio.run(main())


def failure(url: str, **changes: Any) -> AgentOpsError:
    with pytest.raises(AgentOpsError) as caught:
        ask(url, **changes)
    assert KEY not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def refused(provider: Peer, status: int, code: str | None = None, kind: str = "error", **headers: str) -> AgentOpsError:
    words = f"Incorrect API key provided: {KEY} for +250788000000"
    provider.answers(status, {"error": {"message": words, "type": kind, "param": None, "code": code}}, **headers)
    found = failure(provider.url)
    assert len(provider.heard) == 1, "a request was repeated"
    assert "+250" not in f"{found.message} {found.hint}"
    return found


def test_a_question_gets_an_answer_with_its_usage(sandbox: dict[str, str]) -> None:
    reply = ask(sandbox["OPENAI_BASE_URL"])

    assert reply.text.startswith("Hello!")
    assert reply.calls == ()
    assert reply.usage.input_tokens > 0
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    assert reply.model == "gpt-6-luna"
    assert reply.request_id
    assert reply.request_id.startswith("req_")
    assert reply.incomplete is None


def test_a_tool_loop_sends_back_the_items_and_the_outputs(sandbox: dict[str, str]) -> None:
    user = {"role": "user", "content": "create voucher 10000"}

    first = ask(sandbox["OPENAI_BASE_URL"], user, reasoning_effort="low")
    (call,) = first.calls
    output = {"success": True, "voucher_id": "v-1", "status": "issued", "amount": 10000, "currency": "RWF"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": json.dumps(output)}
    second = ask(sandbox["OPENAI_BASE_URL"], user, *first.items, result, reasoning_effort="low")

    assert call.name == "create_voucher"
    assert json.loads(call.arguments) == {"amount": 10000, "currency": None}
    assert [item["type"] for item in first.items] == ["reasoning", "function_call"]
    assert first.items[0]["encrypted_content"]
    assert second.text == "Your voucher v-1 for 10,000 RWF is ready."


def test_what_is_sent_is_stateless_strict_and_labelled(provider: Peer) -> None:
    provider.answers(200, DONE)

    ask(provider.url)

    ((path, headers, body),) = provider.heard
    assert path == "/responses"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-correlation-id"] == "abc-123"
    assert body == {
        "model": "gpt-6-luna",
        "instructions": "You help with vouchers.",
        "input": [{"role": "user", "content": "hello"}],
        "tools": [{**CREATE, "type": "function", "strict": True}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "safety_identifier": "5d41402abc4b2a76b9719d911017c592",
        "prompt_cache_key": "voucher-v1",
    }


def test_effort_and_length_are_sent_only_when_asked_for(provider: Peer) -> None:
    provider.answers(200, DONE)

    ask(provider.url, reasoning_effort="none", max_output_tokens=600)

    body = provider.heard[0][2]
    assert (body["reasoning"], body["max_output_tokens"]) == ({"effort": "none"}, 600)


def test_a_server_that_counts_nothing_gives_zeros(provider: Peer) -> None:
    provider.answers(200, DONE)
    reply = ask(provider.url)

    assert reply.usage.total_tokens == 0
    assert reply.model == "gpt-6-luna-2026-09-22"
    assert reply.request_id is None


def test_cached_tokens_are_read(provider: Peer) -> None:
    usage = {"input_tokens": 2000, "input_tokens_details": {"cached_tokens": 1920}, "output_tokens": 5}
    provider.answers(200, {**DONE, "usage": usage})

    found = ask(provider.url).usage
    assert (found.input_tokens, found.cached_tokens, found.output_tokens, found.total_tokens) == (2000, 1920, 5, 2005)


def test_a_response_cut_short_says_why(provider: Peer) -> None:
    provider.answers(200, {**DONE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}})
    assert ask(provider.url).incomplete == "max_output_tokens"


def test_a_failed_response_is_unavailable(provider: Peer) -> None:
    provider.answers(200, {**DONE, "status": "failed", "error": {"code": "server_error", "message": "secret words"}})
    found = failure(provider.url)
    assert isinstance(found, Unavailable)
    assert found.message == "OpenAI could not finish the response (server_error)"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_function_parameters", UsageError),
        (401, "invalid_api_key", NotAuthorised),
        (403, "unsupported_country_region_territory", NotAuthorised),
        (404, "model_not_found", UsageError),
        (408, None, Overloaded),
        (409, None, Overloaded),
        (422, None, UsageError),
        (429, "rate_limit_exceeded", RateLimited),
        (500, None, Overloaded),
        (503, None, Overloaded),
    ],
)
def test_each_refusal_becomes_its_kind(
    provider: Peer, status: int, code: str | None, kind: type[AgentOpsError]
) -> None:
    found = refused(provider, status, code)
    assert type(found) is kind
    assert (code or str(status)) in found.message


@pytest.mark.parametrize("code", ["credit_balance_exhausted", "project_spend_limit_exceeded"])
def test_a_used_up_account_is_told_apart_from_a_rate_limit(provider: Peer, code: str) -> None:
    found = refused(provider, 429, code)
    assert isinstance(found, SpendLimit)
    assert found.code == code


def test_a_used_up_account_is_recognised_by_its_type_too(provider: Peer) -> None:
    found = refused(provider, 429, None, kind="insufficient_quota")
    assert isinstance(found, SpendLimit)
    assert found.code == "insufficient_quota"


def test_the_wait_that_openai_asks_for_is_kept(provider: Peer) -> None:
    found = refused(provider, 429, "rate_limit_exceeded", retry_after="7")
    assert isinstance(found, RateLimited)
    assert found.retry_after == 7.0


def test_a_request_id_is_in_the_hint(provider: Peer) -> None:
    assert refused(provider, 500, None, x_request_id="req_42").hint == "quote request id req_42 to OpenAI"


def test_a_code_that_is_no_word_is_not_repeated(provider: Peer) -> None:
    assert refused(provider, 400, "see https://evil.example/ now").message == "OpenAI refuses the request (400)"


@pytest.mark.parametrize("body", ["<html>", "", "[]", "{}", '{"output": [{"type": "function_call"}]}', '"words"'])
def test_an_answer_that_is_no_response_is_unavailable(provider: Peer, body: str) -> None:
    provider.answers(200, body)
    found = failure(provider.url)
    assert isinstance(found, Unavailable)
    assert found.message == "OpenAI's answer is no response"


def test_an_html_page_is_no_response(provider: Peer) -> None:
    provider.answers(200, "<html>captive portal</html>")
    provider.content_type = "text/html"
    assert isinstance(failure(provider.url), Unavailable)


def test_nobody_listening_is_unavailable() -> None:
    with closed_port() as port:
        found = failure(f"http://127.0.0.1:{port}/v1")
    assert isinstance(found, Unavailable)
    assert found.message == "OpenAI cannot be reached"


def test_a_slow_read_ends_at_the_timeout(provider: Peer) -> None:
    provider.delay = 1.0
    found = failure(provider.url, timeout=0.2)
    assert isinstance(found, Unavailable)
    assert found.message == "OpenAI gave no answer in time"


def test_an_answer_that_trickles_ends_at_the_deadline(provider: Peer) -> None:
    provider.trickle = 0.05
    begun = time.monotonic()
    found = failure(provider.url, deadline_seconds=0.5)
    assert isinstance(found, Unavailable)
    assert found.message == "OpenAI gave no answer within 0.5 s"
    assert time.monotonic() - begun < 2.0


def test_models_come_with_their_end(sandbox: dict[str, str]) -> None:
    async def main() -> dict[str, str | None]:
        client = OpenAI(KEY, base_url=sandbox["OPENAI_BASE_URL"])
        try:
            return {model.id: model.shutdown_date for model in await client.models()}
        finally:
            await client.aclose()

    found = asyncio.run(main())
    assert found["gpt-6-luna"] is None
    assert found["gpt-5-mini"] == "2026-12-11"
    assert list(found) == sorted(found)


def test_an_unknown_model_is_a_usage_error(sandbox: dict[str, str]) -> None:
    found = failure(sandbox["OPENAI_BASE_URL"], model="gpt-3.5-turbo")
    assert isinstance(found, UsageError)
    assert "model_not_found" in found.message


@pytest.mark.parametrize("key", ["", "  ", "sk-é", "sk-1\n"])
def test_a_key_that_is_none_is_refused_at_once(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        OpenAI(key)
    assert "sk-" not in str(caught.value)


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="OPENAI_BASE_URL"):
        OpenAI(KEY, base_url="api.openai.com/v1")


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(OpenAI(KEY))


def test_the_sdk_is_not_imported_before_the_first_request() -> None:
    code = "import sys, agentops.clients.openai as o; o.OpenAI('sk-1'); print('openai' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
