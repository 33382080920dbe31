"""The four tool functions over HTTP: the contract's words, statuses and shapes."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.stack import Deployed
from agentops.web import Request
from tests.fakes.stacks import SERVICE_KEY, bare_stack, open_stack, parsed, post, recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.stack import Stack
    from agentops.web import Response

PHONE, OTHER = "+250788000001", "+250788000002"
MISSING = "00000000-0000-4000-8000-000000000000"
TOOLS = ("ai-lookup-customer", "ai-create-voucher", "ai-redeem-voucher", "ai-void-voucher")
SLUGS = (*TOOLS, "ai-realtime-webhook")
CREATE = {"customer_msisdn": PHONE, "amount": 10000}


async def handle(request: Request, stack: Stack) -> Response:
    module = importlib.import_module(f"agentops.functions.{request.slug.replace('-', '_')}")
    answer: Response = await module.handle(request, stack)
    return answer


async def send(stack: Stack, slug: str, content: object, **headers: str) -> tuple[int, Any]:
    response = await handle(post(slug, content, **headers), stack)
    return response.status, parsed(response)


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with open_stack(url, **options) as stack:
            await act(stack)

    asyncio.run(run())


def test_a_voucher_lives_as_the_contract_says(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        status, created = await send(stack, "ai-create-voucher", {**CREATE, "something": "unknown"})
        assert status == 200
        assert list(created) == ["success", "voucher_id", "status", "amount", "currency"]
        assert {**created, "voucher_id": "…"} == {
            "success": True,
            "voucher_id": "…",
            "status": "issued",
            "amount": 10000,
            "currency": "RWF",
        }
        assert (await stack.database.query("select amount_minor from vouchers"))[0]["amount_minor"] == 1_000_000
        named = {"voucher_id": created["voucher_id"], "customer_msisdn": "0788 000 001"}
        status, redeemed = await send(stack, "ai-redeem-voucher", named)
        assert (status, list(redeemed)) == (200, ["success", "voucher_id", "status", "redeemed_at"])
        assert redeemed["redeemed_at"].endswith("Z")
        assert await send(stack, "ai-redeem-voucher", named) == (
            409,
            {"success": False, "error": "Voucher cannot be redeemed (current status: redeemed)"},
        )
        assert await send(stack, "ai-void-voucher", named) == (
            409,
            {"success": False, "error": "Voucher cannot be voided (current status: redeemed)"},
        )
        _, second = await send(stack, "ai-create-voucher", {**CREATE, "currency": "KES"})
        status, voided = await send(stack, "ai-void-voucher", {"voucher_id": second["voucher_id"], "reason": "lost"})
        assert (status, list(voided)) == (200, ["success", "voucher_id", "status", "voided_at"])
        assert voided["status"] == "void"

    in_stack(database_url, act)


def test_not_found_and_not_yours_are_one_answer(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        _, created = await send(stack, "ai-create-voucher", CREATE)
        for voucher in (created["voucher_id"], MISSING):
            found = await send(stack, "ai-redeem-voucher", {"voucher_id": voucher, "customer_msisdn": OTHER})
            assert found == (404, {"success": False, "error": "Voucher not found"})

    in_stack(database_url, act)


def test_a_customer_is_looked_up_as_the_contract_says(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        assert await send(stack, "ai-lookup-customer", {"msisdn": "250788000001"}) == (
            200,
            {"success": True, "exists": False, "msisdn": PHONE},
        )
        added = await stack.database.query(
            "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, 'Ada') returning user_id",
            {"phone": PHONE},
        )
        status, found = await send(stack, "ai-lookup-customer", {"msisdn": PHONE})
        assert status == 200
        assert found == {
            "success": True,
            "exists": True,
            "name": "Ada",
            "msisdn": PHONE,
            "customer_id": str(added[0]["user_id"]),
        }

    in_stack(database_url, act)


@pytest.mark.parametrize(
    ("slug", "content", "error"),
    [
        ("ai-lookup-customer", {}, "Invalid msisdn parameter"),
        ("ai-lookup-customer", {"msisdn": 250788000001}, "Invalid msisdn parameter"),
        ("ai-lookup-customer", {"msisdn": "call me"}, "Invalid msisdn parameter"),
        ("ai-create-voucher", {"amount": 1}, "Invalid customer_msisdn"),
        ("ai-create-voucher", {"customer_msisdn": PHONE}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": 0}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": -5}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": 10.5}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": "10"}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": True}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": 21_000_001}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "amount": 10**400}, "Invalid amount"),
        ("ai-create-voucher", {**CREATE, "currency": "rwf"}, "Invalid currency"),
        ("ai-redeem-voucher", {"customer_msisdn": PHONE}, "Invalid voucher_id"),
        ("ai-redeem-voucher", {"voucher_id": "12345", "customer_msisdn": PHONE}, "Invalid voucher_id"),
        ("ai-redeem-voucher", {"voucher_id": MISSING + "\n", "customer_msisdn": PHONE}, "Invalid voucher_id"),
        ("ai-redeem-voucher", {"voucher_id": MISSING}, "Invalid customer_msisdn"),
        ("ai-void-voucher", {"voucher_id": [MISSING]}, "Invalid voucher_id"),
        ("ai-void-voucher", {"voucher_id": MISSING, "reason": "x" * 501}, "Invalid reason"),
        ("ai-create-voucher", b"{", "The request body is not valid JSON"),
        ("ai-create-voucher", b"", "The request body is not valid JSON"),
        ("ai-create-voucher", b"\xff\xfe\x00", "The request body is not valid JSON"),
        ("ai-create-voucher", b"[" * 100_000, "The request body is not valid JSON"),
        ("ai-create-voucher", b'{"amount": NaN}', "The request body is not valid JSON"),
        ("ai-create-voucher", b"[1]", "The request body must be a JSON object"),
    ],
)
def test_bad_input_names_the_field(slug: str, content: object, error: str) -> None:
    async def act(stack: Stack) -> None:
        status, body = await send(stack, slug, content)
        assert (status, body["success"], body["error"]) == (400, False, error)

    asyncio.run(act(bare_stack()))


def test_a_phone_that_is_refused_comes_with_what_is_expected() -> None:
    async def act(stack: Stack) -> None:
        _, body = await send(stack, "ai-lookup-customer", {"msisdn": "12"})
        assert "+250788123456" in body["hint"]

    asyncio.run(act(bare_stack()))


@pytest.mark.parametrize("slug", SLUGS)
def test_strangers_are_refused_and_the_key_is_taken_from_either_header(slug: str) -> None:
    async def act(stack: Stack) -> None:
        for headers in (
            {},
            {"authorization": "Bearer "},
            {"authorization": "Bearer wrong"},
            {"authorization": SERVICE_KEY},
            {"apikey": "wrøng"},
        ):
            response = await handle(Request("POST", slug, "c", headers, body=b"{"), stack)
            assert (response.status, parsed(response)) == (401, {"success": False, "error": "unauthorized"})
        response = await handle(Request("POST", slug, "c", {"apikey": SERVICE_KEY}, body=b"{"), stack)
        assert response.status == 400
        keyless = replace(stack, secrets={})
        assert (await handle(Request("POST", slug, "c", {"authorization": "Bearer "}), keyless)).status == 401

    asyncio.run(act(bare_stack()))


@pytest.mark.parametrize("slug", TOOLS)
def test_a_disabled_tool_refuses_before_it_looks_at_the_body(slug: str) -> None:
    async def act(stack: Stack) -> None:
        assert await send(stack, slug, b"{") == (403, {"success": False, "error": "feature_disabled"})

    asyncio.run(act(bare_stack({})))


@pytest.mark.parametrize("slug", SLUGS)
def test_get_is_health_for_anybody_and_other_methods_are_not_allowed(slug: str) -> None:
    async def act(stack: Stack) -> None:
        response = await handle(Request("GET", slug, "c"), stack)
        assert parsed(response) == {"success": True, "slug": slug, "version": None, "deployed_at": None}
        deployed = replace(stack, functions={slug: Deployed(slug, 3, "2026-01-02T03:04:05Z")})
        response = await handle(Request("GET", slug, "c"), deployed)
        assert response.status == 200
        assert parsed(response) == {
            "success": True,
            "slug": slug,
            "version": 3,
            "deployed_at": "2026-01-02T03:04:05Z",
        }
        for method in ("PUT", "DELETE", "PATCH", "HEAD"):
            response = await handle(Request(method, slug, "c"), stack)
            assert (response.status, parsed(response)["error"]) == (405, "Method not allowed")
            assert response.headers["Allow"] == "GET, POST"
        assert recorded(stack).names == []

    asyncio.run(act(bare_stack()))


def test_a_database_that_is_gone_is_an_honest_503(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        await stack.database.close()
        for slug, content in (("ai-lookup-customer", {"msisdn": PHONE}), ("ai-create-voucher", CREATE)):
            response = await handle(post(slug, content), stack)
            assert (response.status, parsed(response)) == (
                503,
                {"success": False, "error": "temporarily unavailable"},
            )
            assert response.headers["Retry-After"] == "1"
            assert recorded(stack).names[-1].endswith(".error")

    in_stack(database_url, act)


def test_a_stack_that_cannot_void_says_what_to_do(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        _, created = await send(stack, "ai-create-voucher", CREATE)
        await stack.database.query("alter table vouchers drop constraint vouchers_status_check")
        await stack.database.query("alter table vouchers add check (status in ('issued', 'redeemed', 'cancelled'))")
        for headers in ({}, {"idempotency_key": "k"}):
            status, body = await send(stack, "ai-void-voucher", {"voucher_id": created["voucher_id"]}, **headers)
            assert status == 500
            assert body["error"] == "The database refuses the status void"
            assert body["hint"] == "agentops db migrate"

    in_stack(database_url, act)
