from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.agent import policy
from agentops.agent.tools import Principal, Refused, tool, tools
from agentops.errors import NotFound
from agentops.settings import CHAT, CUSTOMER_LOOKUP, VOICE, VOUCHERS
from tests.fakes.stacks import ALL_ON, open_stack, recorded, set_flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agentops.stack import Stack

PHONE, OTHER = "+250788000001", "+250788000002"
OPERATOR = Principal("http", "service_role", operator=True)
CUSTOMER = Principal("chat", "customer", PHONE)
STAFF = Principal("chat", "staff", PHONE, staff=True)
NOBODY = Principal("http", "anonymous")
CREATE = {"customer_msisdn": PHONE, "amount": 100}


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with open_stack(url, **options) as stack:
            await act(stack)

    asyncio.run(run())


async def call(stack: Stack, name: str, arguments: Any, principal: Principal = OPERATOR, key: str | None = None) -> Any:
    return await tool(name).call(arguments, principal, stack, correlation_id="c-1", idempotency_key=key)


async def count(stack: Stack, table: str = "vouchers") -> int:
    return int((await stack.database.query(f"select count(*) as n from {table}"))[0]["n"])  # noqa: S608 - ours


def test_the_tools_are_the_four_of_the_contract() -> None:
    assert [each.name for each in tools()] == ["create_voucher", "lookup_customer", "redeem_voucher", "void_voucher"]
    with pytest.raises(NotFound):
        tool("transfer")


def keys(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        return [*schema, *(key for value in schema.values() for key in keys(value))]
    return [key for value in schema for key in keys(value)] if isinstance(schema, list) else []


@pytest.mark.parametrize("each", tools(), ids=lambda each: each.name)
def test_a_customers_schema_is_strict_and_knows_no_phone(each: Any) -> None:
    schema = each.chat_schema(CUSTOMER)
    parameters = schema["parameters"]
    assert schema["strict"] is True
    assert parameters["additionalProperties"] is False
    assert parameters["required"] == list(parameters["properties"])
    assert not any("phone" in text.lower() or "msisdn" in text.lower() for text in (json.dumps(schema), *keys(schema)))
    assert "anyOf" not in keys(schema)


def test_staff_and_operators_schemas_name_the_customer() -> None:
    for principal, kind in ((STAFF, ["string", "null"]), (OPERATOR, "string")):
        assert (
            tool("create_voucher").chat_schema(principal)["parameters"]["properties"]["customer_msisdn"]["type"] == kind
        )
        assert tool("lookup_customer").chat_schema(principal)["parameters"]["properties"]["msisdn"]["type"] == kind
    assert "phone" not in json.dumps(tool("void_voucher").chat_schema(STAFF)).lower()


def test_the_channels_flags_are_the_same_in_memory_and_in_the_database(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        for channel, flag in policy.CHANNEL_FLAGS.items():
            for name in (CHAT, VOICE, VOUCHERS):
                await set_flag(stack.database, name, enabled=name in {flag, VOUCHERS})
            enabled = "select agentops.vouchers_on(%(channel)s) as enabled"
            assert (await stack.database.query(enabled, {"channel": channel}))[0]["enabled"]
            if flag:
                await set_flag(stack.database, flag, enabled=False)
                assert not (await stack.database.query(enabled, {"channel": channel}))[0]["enabled"]

    in_stack(database_url, act)


def test_a_customer_creates_and_redeems_their_own_voucher_without_naming_themselves(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        created = await tool("create_voucher").run(
            '{"amount": 500, "currency": null}', CUSTOMER, stack, correlation_id="c"
        )
        voucher = created.model_dump()["voucher_id"]
        row = (await stack.database.query("select whatsapp_e164, currency from vouchers"))[0]
        assert row == {"whatsapp_e164": PHONE, "currency": "RWF"}
        redeemed = await call(stack, "redeem_voucher", {"voucher_id": voucher.upper()}, CUSTOMER)
        assert redeemed.body["status"] == "redeemed"

    in_stack(database_url, act)


def test_a_customer_cannot_touch_anothers(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        voucher = (await call(stack, "create_voucher", {"customer_msisdn": OTHER, "amount": 5})).body["voucher_id"]
        missing = "00000000-0000-4000-8000-000000000000"
        for name in ("redeem_voucher", "void_voucher"):
            theirs = await call(stack, name, {"voucher_id": voucher}, CUSTOMER)
            none = await call(stack, name, {"voucher_id": missing}, CUSTOMER)
            assert theirs == none
            assert (theirs.status, theirs.body["error"]) == (404, "Voucher not found")
        named = {"voucher_id": voucher, "customer_msisdn": OTHER}
        assert (await call(stack, "redeem_voucher", named, CUSTOMER)).status == 403
        assert (await call(stack, "create_voucher", {"customer_msisdn": OTHER, "amount": 5}, CUSTOMER)).status == 403
        assert (await call(stack, "lookup_customer", {"msisdn": OTHER}, CUSTOMER)).status == 403
        assert (await stack.database.query("select status from vouchers")) == [{"status": "issued"}]

    in_stack(database_url, act)


def test_staff_act_for_another_and_it_is_audited(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        created = await call(stack, "create_voucher", {"customer_msisdn": OTHER, "amount": 5}, STAFF)
        assert (await call(stack, "lookup_customer", {"msisdn": OTHER}, STAFF)).status == 200
        assert (await call(stack, "lookup_customer", {"msisdn": None}, STAFF)).body["msisdn"] == PHONE
        assert (await call(stack, "void_voucher", {"voucher_id": created.body["voucher_id"]}, STAFF)).status == 200
        audit = await stack.database.query("select action, actor, detail from agentops.audit order by id")
        assert [row["action"] for row in audit] == ["voucher.issue", "customer.lookup", "voucher.void"]
        assert {row["actor"] for row in audit} == {"staff"}
        assert audit[0]["detail"]["customer_masked"] == "+2507***002"

    in_stack(database_url, act)


@pytest.mark.parametrize("off", [VOUCHERS, CHAT])
def test_a_flag_that_is_off_in_the_database_wins_over_the_stack_in_memory(database_url: str, off: str) -> None:
    async def act(stack: Stack) -> None:
        voucher = (await call(stack, "create_voucher", {"amount": 5}, CUSTOMER)).body["voucher_id"]
        before = [await count(stack, table) for table in ("vouchers", "agentops.ledger", "agentops.audit")]
        await set_flag(stack.database, off, enabled=False)
        assert stack.flag(off)
        for name, arguments in (
            ("create_voucher", {"amount": 5}),
            ("redeem_voucher", {"voucher_id": voucher}),
            ("void_voucher", {"voucher_id": voucher}),
        ):
            outcome = await call(stack, name, arguments, CUSTOMER, key=f"k-{name}")
            assert (outcome.status, outcome.body["error"]) == (403, "feature_disabled")
        assert [await count(stack, table) for table in ("vouchers", "agentops.ledger", "agentops.audit")] == before
        assert await count(stack, "agentops.idempotency") == 0
        await set_flag(stack.database, off, enabled=True)
        assert (
            await call(stack, "redeem_voucher", {"voucher_id": voucher}, CUSTOMER, key="k-redeem_voucher")
        ).status == 200

    in_stack(database_url, act)


def test_a_tool_needs_its_flag_and_its_channels(database_url: str) -> None:
    cases: list[tuple[Mapping[str, bool], Principal, str, int]] = [
        ({VOUCHERS: True}, OPERATOR, "lookup_customer", 200),
        ({VOUCHERS: True, CUSTOMER_LOOKUP: False}, OPERATOR, "lookup_customer", 403),
        ({CUSTOMER_LOOKUP: True}, OPERATOR, "lookup_customer", 200),
        ({}, OPERATOR, "lookup_customer", 403),
        ({VOUCHERS: True}, CUSTOMER, "lookup_customer", 403),
        ({VOUCHERS: True, CHAT: True}, CUSTOMER, "lookup_customer", 200),
        ({CUSTOMER_LOOKUP: True, CHAT: True, VOICE: True}, OPERATOR, "create_voucher", 403),
    ]

    async def act(stack: Stack) -> None:
        for flags, principal, name, status in cases:
            outcome = await call(replace(stack, flags=flags), name, {"msisdn": PHONE, **CREATE}, principal)
            assert outcome.status == status, (flags, name)

    in_stack(database_url, act)


def test_each_call_has_one_start_and_one_end_and_shows_no_phone(database_url: str) -> None:
    cases: list[tuple[str, Any, Principal, str]] = [
        ("create_voucher", CREATE, OPERATOR, "success"),
        ("create_voucher", {**CREATE, "amount": "100"}, OPERATOR, "error"),
        ("create_voucher", "{", OPERATOR, "error"),
        ("create_voucher", CREATE, NOBODY, "unauthorized"),
        ("create_voucher", {**CREATE, "customer_msisdn": OTHER}, CUSTOMER, "unauthorized"),
        ("void_voucher", {"voucher_id": "00000000-0000-4000-8000-000000000000"}, OPERATOR, "not_found"),
        ("lookup_customer", {"msisdn": PHONE}, OPERATOR, "success"),
    ]

    async def act(stack: Stack) -> None:
        for name, arguments, principal, end in cases:
            recorded(stack).events.clear()
            await call(stack, name, arguments, principal)
            assert recorded(stack).names == [f"ai.tool.{name}.start", f"ai.tool.{name}.{end}"]
            last = recorded(stack).events[-1]
            assert (last.correlation_id, last.function) == ("c-1", tool(name).slug)
            assert isinstance(last.data["latency_ms"], int)
            assert last.data["channel"] == principal.channel
            assert "788000" not in recorded(stack).text
            assert ("+2507***001" in last.data.values()) is (end == "success" or "amount" in str(last.data["error"]))

    in_stack(database_url, act)


def test_other_ends_have_their_own_events(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        voucher = (await call(stack, "create_voucher", CREATE)).body["voucher_id"]
        for _ in range(2):
            last = await call(stack, "void_voucher", {"voucher_id": voucher, "reason": "call +250788000001\x00\n"})
        assert last.body["error"] == "Voucher cannot be voided (current status: void)"
        assert recorded(stack).names[-1] == "ai.tool.void_voucher.invalid_status"
        assert recorded(stack).events[-3].data["voucher_id"] == voucher
        detail = (await stack.database.query("select detail from agentops.audit where action = 'voucher.void'"))[0]
        assert detail["detail"]["reason"] == "call +2507***001"
        off = replace(stack, flags={**ALL_ON, VOUCHERS: False})
        await call(off, "void_voucher", {"voucher_id": voucher})
        assert recorded(stack).names[-1] == "ai.tool.void_voucher.feature_disabled"

    in_stack(database_url, act)


def test_a_defect_is_told_by_type_and_place_and_leaks_nothing(database_url: str) -> None:
    async def broken(*_: object) -> Any:
        raise RuntimeError(f"Ada at {PHONE} wrote something")

    async def act(stack: Stack) -> None:
        for name, field in (("lookup_customer", "msisdn"), ("create_voucher", "customer_msisdn")):
            mutant = replace(tool(name), perform=broken)
            outcome = await mutant.call({field: PHONE, "amount": 1}, OPERATOR, stack, correlation_id="c-1")
            assert (outcome.status, outcome.body) == (500, {"success": False, "error": "internal error"})
            assert recorded(stack).names[-1] == f"ai.tool.{name}.exception"
            assert "RuntimeError in broken (test_tool.py:" in str(recorded(stack).events[-1].data["error"])
        assert "Ada" not in recorded(stack).text

    in_stack(database_url, act)


def test_a_cancelled_call_still_ends_in_an_event(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        async with stack.database.transaction() as rival:
            voucher = (await call(stack, "create_voucher", CREATE)).body["voucher_id"]
            await rival.query("select id from vouchers for update")
            waiting = asyncio.create_task(call(stack, "void_voucher", {"voucher_id": voucher}))
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert recorded(stack).names[-2:] == ["ai.tool.void_voucher.start", "ai.tool.void_voucher.error"]
        assert await stack.database.query("select status from vouchers") == [{"status": "issued"}]

    in_stack(database_url, act)


def test_run_raises_what_call_tells(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        with pytest.raises(Refused) as caught:
            await tool("void_voucher").run({"voucher_id": "x"}, OPERATOR, stack, correlation_id="c")
        assert (caught.value.status, caught.value.error) == (400, "Invalid voucher_id")

    in_stack(database_url, act)
