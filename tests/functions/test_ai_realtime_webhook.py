from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentops.functions import ai_realtime_webhook
from agentops.settings import VOICE, VOUCHERS
from tests.fakes.stacks import bare_stack, open_stack, parsed, post, recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.stack import Stack

PHONE = "+250788000001"


def event(name: str, arguments: object, call_id: str = "call_1", kind: str = "call_tool") -> dict[str, object]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": kind, "event_id": "ev_1", "call_id": call_id, "name": name, "arguments": text}


async def send(stack: Stack, content: object) -> tuple[int, Any]:
    response = await ai_realtime_webhook.handle(post("ai-realtime-webhook", content), stack)
    return response.status, parsed(response)


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with open_stack(url, **options) as stack:
            await act(stack)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["call_tool", "response.function_call_arguments.done"])
def test_a_tool_call_is_answered_for_the_session(database_url: str, kind: str) -> None:
    async def act(stack: Stack) -> None:
        asked = event("create_voucher", {"customer_msisdn": PHONE, "amount": 100}, kind=kind)
        status, body = await send(stack, asked)
        assert (status, body["type"], body["call_id"]) == (200, "function_call_output", "call_1")
        output = json.loads(body["output"])
        assert (output["success"], output["status"]) == (True, "issued")
        assert recorded(stack).names == [
            "ai.realtime.webhook.received",
            "ai.realtime.tool.call",
            "ai.tool.create_voucher.start",
            "ai.tool.create_voucher.success",
            "ai.realtime.tool.success",
        ]
        assert (await stack.database.query("select channel from agentops.ledger")) == [{"channel": "voice"}]
        assert "788000" not in recorded(stack).text
        assert await send(stack, asked) == (status, body)
        assert len(await stack.database.query("select id from vouchers")) == 1

    in_stack(database_url, act)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("void_voucher", {"voucher_id": "x"}, "Invalid voucher_id"),
        ("void_voucher", "{", "The text of the arguments is not valid JSON"),
        ("void_voucher", "[]", "The text of the arguments must be a JSON object"),
        ("transfer", {}, "no tool is named 'transfer'"),
        ("", {}, "no tool is named ''"),
    ],
)
def test_a_refusal_is_inside_the_output(name: str, arguments: object, error: str) -> None:
    async def act(stack: Stack) -> None:
        status, body = await send(stack, event(name, arguments))
        assert status == 200
        output = json.loads(body["output"])
        assert (output["success"], output["error"]) == (False, error)
        assert recorded(stack).names[-1] == "ai.realtime.tool.error"

    asyncio.run(act(bare_stack()))


def test_arguments_may_be_an_object_but_nothing_else(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        _, body = await send(stack, {**event("lookup_customer", ""), "arguments": {"msisdn": PHONE}})
        assert json.loads(body["output"])["msisdn"] == PHONE
        _, body = await send(stack, {**event("lookup_customer", ""), "arguments": 5})
        assert json.loads(body["output"]) == {"success": False, "error": "Invalid arguments"}

    in_stack(database_url, act)


def test_other_events_are_received_and_a_call_needs_its_id() -> None:
    async def act(stack: Stack) -> None:
        assert await send(stack, {"type": "session.updated"}) == (200, {"received": True})
        assert await send(stack, {}) == (200, {"received": True})
        status, body = await send(stack, {"type": "call_tool", "name": "lookup_customer"})
        assert (status, body["error"]) == (400, "Invalid call_id")
        assert recorded(stack).names[-1] == "ai.realtime.webhook.exception"

    asyncio.run(act(bare_stack()))


def test_a_disabled_webhook_answers_that_it_received() -> None:
    async def act(stack: Stack) -> None:
        assert await send(stack, event("create_voucher", {})) == (200, {"received": True})
        assert recorded(stack).names == ["ai.realtime.webhook.disabled"]

    asyncio.run(act(bare_stack({VOUCHERS: True, VOICE: False})))
