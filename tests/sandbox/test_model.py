from __future__ import annotations

import json
from typing import Any

import pytest

from agentops.sandbox.model import answer, decide

VOUCHER = "0198c1a2-7b3c-7def-8123-456789abcdef"


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "name": name, "strict": True, "parameters": schema}


TEXT, MAYBE = {"type": "string"}, {"type": ["string", "null"]}
CUSTOMER = [
    tool("lookup_customer"),
    tool("create_voucher", amount={"type": "number"}, currency=MAYBE),
    tool("redeem_voucher", voucher_id=MAYBE),
    tool("void_voucher", voucher_id=TEXT, reason=MAYBE),
]
STAFF = [
    tool("lookup_customer", msisdn=TEXT),
    tool("create_voucher", customer_msisdn=TEXT, amount={"type": "number"}, currency=MAYBE),
    tool("redeem_voucher", voucher_id=TEXT, customer_msisdn=TEXT),
]


def ask(text: str, tools: list[dict[str, Any]], *before: dict[str, Any]) -> dict[str, Any]:
    return {"model": "gpt-6-luna", "input": [*before, {"role": "user", "content": text}], "tools": tools}


@pytest.mark.parametrize(
    ("text", "tools", "name", "arguments"),
    [
        ("lookup +250788000000", STAFF, "lookup_customer", {"msisdn": "+250788000000"}),
        ("Look up 0788 000 000, no: 0788000000", STAFF, "lookup_customer", {"msisdn": "+250788000000"}),
        ("lookup me", CUSTOMER, "lookup_customer", {}),
        ("create voucher 10000", CUSTOMER, "create_voucher", {"amount": 10000, "currency": None}),
        ("Hi! Please CREATE a voucher of 10,000 rwf", CUSTOMER, "create_voucher", {"amount": 10000, "currency": "RWF"}),
        ("create voucher 10 000", CUSTOMER, "create_voucher", {"amount": 10000, "currency": None}),
        ("create voucher 12.5k", CUSTOMER, "create_voucher", {"amount": 12500, "currency": None}),
        ("create voucher -5", CUSTOMER, "create_voucher", {"amount": -5, "currency": None}),
        (
            "create voucher 10000 for +250788000000",
            STAFF,
            "create_voucher",
            {"customer_msisdn": "+250788000000", "amount": 10000, "currency": None},
        ),
        ("create voucher 10000 for +250788000000", CUSTOMER, "create_voucher", {"amount": 10000, "currency": None}),
        (f"redeem {VOUCHER}", CUSTOMER, "redeem_voucher", {"voucher_id": VOUCHER}),
        (f"redeem {VOUCHER.upper()}", CUSTOMER, "redeem_voucher", {"voucher_id": VOUCHER}),
        ("I want to redeem my voucher", CUSTOMER, "redeem_voucher", {"voucher_id": None}),
        (
            f"redeem {VOUCHER} for +250788000000",
            STAFF,
            "redeem_voucher",
            {"voucher_id": VOUCHER, "customer_msisdn": "+250788000000"},
        ),
        (
            f"void {VOUCHER} because it was a mistake.",
            CUSTOMER,
            "void_voucher",
            {"voucher_id": VOUCHER, "reason": "it was a mistake"},
        ),
    ],
)
def test_a_command_becomes_a_call_that_fits_the_schema(
    text: str, tools: list[dict[str, Any]], name: str, arguments: dict[str, Any]
) -> None:
    move = decide(ask(text, tools))
    assert (move.tool, move.arguments) == (name, arguments)


@pytest.mark.parametrize(
    ("text", "tools", "question"),
    [
        ("create a voucher", CUSTOMER, "For what amount should the voucher be?"),
        ("create voucher 10000", STAFF, "For which phone number, with its country code?"),
        ("void it", CUSTOMER, "Which voucher do you mean? Please send me its number."),
    ],
)
def test_what_a_schema_requires_and_nobody_said_is_asked_for(
    text: str, tools: list[dict[str, Any]], question: str
) -> None:
    move = decide(ask(text, tools))
    assert (move.tool, move.text) == (None, question)


def test_it_means_the_voucher_that_was_spoken_of_last() -> None:
    earlier = {"role": "assistant", "content": f"Your voucher {VOUCHER} for 10,000 RWF is ready."}
    assert decide(ask("redeem it", CUSTOMER, earlier)).arguments == {"voucher_id": VOUCHER}


@pytest.mark.parametrize("greeting", ["hello", "Hi", "MURAHO!", "hey there"])
def test_a_greeting_is_returned_with_what_it_can_do(greeting: str) -> None:
    move = decide(ask(greeting, CUSTOMER))
    assert move.tool is None
    assert move.text.startswith("Hello! I can create a voucher")


def test_anything_else_gets_a_short_sentence() -> None:
    move = decide(ask("What is the weather, this Friday?", []))
    assert move.text == "I am the voucher assistant. I can only talk at the moment."


def test_a_tool_that_is_not_offered_is_not_called() -> None:
    move = decide(ask("create voucher 10000", [tool("lookup_customer")]))
    assert move.tool is None
    assert move.text.startswith("I cannot do that here. I can look a customer up")


def test_no_tool_is_called_where_the_caller_forbids_it() -> None:
    assert decide({**ask("create voucher 10000", CUSTOMER), "tool_choice": "none"}).tool is None


def test_text_parts_are_read_like_a_text() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "create voucher 500"}]}
    assert decide({"model": "m", "input": [item], "tools": CUSTOMER}).arguments["amount"] == 500


@pytest.mark.parametrize(
    ("name", "output", "sentence"),
    [
        (
            "create_voucher",
            {"success": True, "voucher_id": VOUCHER, "status": "issued", "amount": 10000, "currency": "RWF"},
            f"Your voucher {VOUCHER} for 10,000 RWF is ready.",
        ),
        (
            "create_voucher",
            {"success": True, "status": "pending_approval", "approval_id": 7, "amount": 90000, "currency": "RWF"},
            "Your voucher for 90,000 RWF waits for approval. You will hear of it here.",
        ),
        ("redeem_voucher", {"success": True, "voucher_id": VOUCHER}, f"Voucher {VOUCHER} is redeemed. Thank you!"),
        ("void_voucher", {"success": True, "voucher_id": VOUCHER}, f"Voucher {VOUCHER} is void now."),
        (
            "lookup_customer",
            {"success": True, "exists": True, "name": "Aline", "msisdn": "+250788000000"},
            "Yes, Aline with +250788000000 is known to us.",
        ),
        ("lookup_customer", {"success": True, "exists": False}, "I found no customer."),
        (
            "create_voucher",
            {"success": False, "error": "feature_disabled"},
            "This is switched off at the moment. Please try again later.",
        ),
        (
            "redeem_voucher",
            {"success": False, "error": "Voucher cannot be redeemed (current status: void)"},
            "That did not work: voucher cannot be redeemed (current status: void).",
        ),
        ("redeem_voucher", "not json", "The answer is: not json"),
    ],
)
def test_a_result_is_told_in_one_sentence(name: str, output: Any, sentence: str) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": name, "arguments": "{}"}
    said = output if isinstance(output, str) else json.dumps(output)
    result = {"type": "function_call_output", "call_id": "c1", "output": said}
    body = {"model": "gpt-6-luna", "input": [{"role": "user", "content": "…"}, call, result], "tools": CUSTOMER}
    assert decide(body).text == sentence


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (None, "Your voucher for 90,000 RWF waits for approval. You will hear of it here."),
        (
            "+250788000000",
            "The voucher for 90,000 RWF waits for approval. Its customer will hear of it, if they chat with us.",
        ),
    ],
)
def test_only_who_will_be_told_is_promised_to_hear_of_an_approval(named: str | None, sentence: str) -> None:
    arguments = json.dumps({"customer_msisdn": named, "amount": 90000, "currency": None})
    call = {"type": "function_call", "call_id": "c1", "name": "create_voucher", "arguments": arguments}
    waits = {"success": True, "status": "pending_approval", "approval_id": 7, "amount": 90000, "currency": "RWF"}
    result = {"type": "function_call_output", "call_id": "c1", "output": json.dumps(waits)}
    assert decide({"model": "gpt-6-luna", "input": [call, result], "tools": STAFF}).text == sentence


def test_two_results_are_told_in_order() -> None:
    calls = [{"type": "function_call", "call_id": i, "name": "void_voucher", "arguments": "{}"} for i in "ab"]
    results = [{"type": "function_call_output", "call_id": i, "output": f'{{"voucher_id": "{i}"}}'} for i in "ab"]
    body = {"model": "gpt-6-luna", "input": [*calls, *results]}
    assert decide(body).text == "Voucher a is void now. Voucher b is void now."


def test_equal_requests_get_equal_answers_and_a_nonce_changes_only_the_ids() -> None:
    body = ask("create voucher 10000", CUSTOMER)
    one, again, other = answer(body), answer(body), answer(body, nonce="2")

    assert one == again
    assert one["output"][0]["call_id"] != other["output"][0]["call_id"]
    assert one["output"][0]["arguments"] == other["output"][0]["arguments"]


def test_longer_conversations_use_more_tokens_and_a_long_prompt_is_cached() -> None:
    short, long = ask("hello", []), ask("hello " * 400, [])
    cached = {**short, "instructions": "x" * 8000, "prompt_cache_key": "v1"}

    assert answer(short)["usage"]["input_tokens"] < answer(long)["usage"]["input_tokens"]
    assert answer(short)["usage"]["input_tokens_details"]["cached_tokens"] == 0
    assert answer(cached)["usage"]["input_tokens_details"]["cached_tokens"] == 1920
