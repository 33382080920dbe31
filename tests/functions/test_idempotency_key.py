from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentops.functions import ai_create_voucher, ai_redeem_voucher, ai_void_voucher
from tests.fakes.stacks import SERVICE_KEY, open_stack, parsed, post, recorded

if TYPE_CHECKING:
    from agentops.stack import Stack
    from agentops.web import Response

PHONE = "+250788000001"
MISSING = "00000000-0000-4000-8000-000000000000"


async def create(stack: Stack, key: str, amount: int = 100, phone: str = PHONE) -> Response:
    body = {"customer_msisdn": phone, "amount": amount}
    return await ai_create_voucher.handle(post("ai-create-voucher", body, idempotency_key=key), stack)


async def vouchers(stack: Stack) -> int:
    return int((await stack.database.query("select count(*) as n from vouchers"))[0]["n"])


def test_fifty_callers_with_one_key_get_one_voucher_and_one_answer(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            answers = await asyncio.gather(*(create(stack, "k-1") for _ in range(50)))
            assert {answer.status for answer in answers} == {200}
            assert len({answer.body for answer in answers}) == 1
            assert sum(answer.headers.get("Idempotent-Replayed") == "true" for answer in answers) == 49
            assert await vouchers(stack) == 1
            assert len(await stack.database.query("select id from agentops.ledger")) == 1
            assert recorded(stack).names.count("ai.tool.create_voucher.success") == 50

    asyncio.run(run())


def test_a_key_is_not_good_for_another_request(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            await create(stack, "k-1")
            same = await create(stack, "k-1", phone="0788 000 001")
            assert same.headers["Idempotent-Replayed"] == "true"
            for other in (await create(stack, "k-1", amount=200), await create(stack, "k-1", phone="+250788000002")):
                assert (other.status, parsed(other)) == (
                    422,
                    {"success": False, "error": "Idempotency-Key was used with another request"},
                )
            assert await vouchers(stack) == 1
            assert (await create(stack, "k-2")).status == 200
            assert await vouchers(stack) == 2

    asyncio.run(run())


def test_a_decided_refusal_is_kept_under_its_key(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            voucher = parsed(await create(stack, "k-1"))["voucher_id"]
            named = {"voucher_id": voucher, "customer_msisdn": PHONE}
            keyed = post("ai-redeem-voucher", named, idempotency_key="k-1")
            answers = [await ai_redeem_voucher.handle(keyed, stack) for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 200]
            assert answers[0].body == answers[1].body
            voiding = post("ai-void-voucher", {"voucher_id": voucher}, idempotency_key="k-3")
            answers = [await ai_void_voucher.handle(voiding, stack) for _ in range(2)]
            assert [answer.status for answer in answers] == [409, 409]
            assert answers[1].headers["Idempotent-Replayed"] == "true"
            assert answers[0].body == answers[1].body
            assert recorded(stack).names[-1] == "ai.tool.void_voucher.invalid_status"
            missing = post("ai-void-voucher", {"voucher_id": MISSING}, idempotency_key="k-4")
            assert [(await ai_void_voucher.handle(missing, stack)).status for _ in range(2)] == [404, 404]

    asyncio.run(run())


def test_a_request_that_is_still_under_way_is_a_conflict_to_come_back_to(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            async with stack.database.transaction() as rival:
                await rival.query(
                    "insert into agentops.idempotency (scope, key, fingerprint, status, body)"
                    " values ('create_voucher:http', 'k-1', 'f', 0, '{}')"
                )
                answer = await create(stack, "k-1")
                assert answer.status == 409
                assert answer.headers["Retry-After"] == "1"
            assert await vouchers(stack) == 0

    asyncio.run(run())


def test_an_unusable_key_is_refused_and_a_lookup_needs_none(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            for key in ("", "x" * 256, "a\x00b"):
                answer = await create(stack, key)
                assert (answer.status, parsed(answer)["error"]) == (400, "Invalid Idempotency-Key")
            assert await vouchers(stack) == 0
            assert SERVICE_KEY not in recorded(stack).text

    asyncio.run(run())
