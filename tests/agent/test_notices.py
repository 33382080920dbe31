"""A customer hears of a decision once, through the outbox; where nobody may write to them, the model knows it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentops.agent import granting
from agentops.settings import CHAT
from agentops.store import limits
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, last, serving
from tests.fakes.stacks import set_flag
from tests.fakes.whatsapp import CUSTOMER, deliver, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentops.stack import Stack
    from agentops.store.approvals import Approval

REJECTED = "The voucher of 60,000 RWF for you was not approved."


@pytest.fixture
def providers() -> Iterator[Providers]:
    with serving(Providers()) as found:
        yield found


async def converse(stack: Stack, *messages: dict[str, Any]) -> None:
    async with working(stack):
        await deliver(stack, *messages)
        await until(lambda: settled(stack), 60)


async def asked(stack: Stack) -> int:
    """The customer asks for a voucher that has to be approved; the number of their request."""
    rules = {"voucher-approval-above": 100, "voucher-max": None, "customer-day-sum": None}
    await limits.change(stack.database, rules, [], "tests")
    await converse(stack, text("create voucher 60000"))
    rows = await stack.database.query("select id from agentops.approvals where status = 'pending'")
    return int(rows[0]["id"])


async def approved(stack: Stack, number: int, actor: str = "op") -> Approval:
    return (await granting.approve(stack.database, number, actor=actor))[0]


async def replies(stack: Stack) -> list[dict[str, Any]]:
    return await stack.database.query("select state, body, error from agentops.outbox order by created_at")


def test_who_waits_is_told_so_and_hears_of_the_approval_once_however_often_it_is_given(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            assert "waits for approval" in providers.texts[0]
            ends = await asyncio.gather(*(approved(stack, number, f"op {n}") for n in range(3)))
            voucher = ends[0].voucher_id
            async with working(stack):
                await until(lambda: settled(stack), 60)
            told = f"The voucher of 60,000 RWF for you was approved. Its number is {voucher}."
            assert providers.texts[1:] == [told]
            assert [each["state"] for each in await replies(stack)] == ["sent", "sent"]
            assert {each["to"] for each in providers.sent} == {CUSTOMER}
            assert (await approved(stack, number)).told == "sent"
            assert await states(stack) == ["done", "done"]

            await converse(stack, text("redeem it"))
            assert {"role": "assistant", "content": told} in providers.asked[-1]["input"]
            assert await stack.database.query("select id::text, status from vouchers") == [
                {"id": voucher, "status": "redeemed"}
            ]

    asyncio.run(check())


def test_a_rejection_is_told_without_its_reason(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            done, _ = await granting.reject(stack.database, number, actor="op", reason="looks like fraud")
            assert done.told == "queued"
            async with working(stack):
                await until(lambda: settled(stack), 60)
            assert providers.texts[1:] == [REJECTED]

    asyncio.run(check())


def test_what_the_customer_writes_in_the_same_moment_is_answered_apart(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            await deliver(stack, text("hello"))
            await granting.reject(stack.database, number, actor="op", reason=None)
            await deliver(stack, text("are you there"))
            async with working(stack, burst_seconds=1.2):
                await until(lambda: settled(stack), 60)
            assert len(providers.texts) == 4
            assert providers.texts[2] == REJECTED
            assert [last(body) for body in providers.asked[2:]] == ["hello", "are you there"]

    asyncio.run(check())


def test_where_whatsapp_lets_nobody_write_nothing_is_sent_and_the_model_tells_it_in_the_next_turn(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            await stack.database.query("update agentops.conversations set newest_at = now() - interval '25 h'")
            done, _ = await granting.reject(stack.database, number, actor="op", reason=None)
            assert (done.told, await states(stack)) == ("window_closed", ["done"])
            await converse(stack, text("hello"))
            assert len(providers.texts) == 2
            note = {"role": "developer", "content": f"{REJECTED} The customer has not been told yet: tell them now."}
            assert providers.asked[-1]["input"][-2:-1] == [note]

    asyncio.run(check())


def test_where_chat_is_off_nothing_is_sent_not_even_later(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            first = await asked(stack)
            await set_flag(stack.database, CHAT, enabled=False)
            assert (await approved(stack, first)).told == "chat_off"
            await set_flag(stack.database, CHAT, enabled=True)
            second = await asked(stack)
            assert (await approved(stack, second)).told == "queued"
            await set_flag(stack.database, CHAT, enabled=False)
            await set_flag(stack.database, CHAT, enabled=True)
            async with working(stack):
                await until(lambda: settled(stack), 60)
            assert len(providers.texts) == 2
            assert (await approved(stack, second)).told == "failed"

    asyncio.run(check())


def test_who_never_wrote_or_has_the_number_no_more_is_not_written_to(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            # The number is another customer's by now; the conversation is still shown under it.
            await stack.database.query("update agentops.customers set phone = null")
            assert (await approved(stack, number)).told == "no_conversation"
            assert await states(stack) == ["done"]

    asyncio.run(check())


@pytest.mark.parametrize("apart", [False, pytest.param(True, id="apart")])
def test_an_operator_who_is_killed_leaves_no_decision_that_nobody_hears_of(
    database_url: str,
    providers: Providers,
    apart: bool,  # noqa: FBT001 - the known-bad variant
) -> None:
    """The command is killed where it would tell the customer; then it is typed again."""

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            number = await asked(stack)
            line = ["-m", "tests.fakes.approver", database_url, str(number), *(["apart"] * apart)]
            async with stack.database.transaction() as held:
                await held.query("select id from agentops.conversations for update")
                killed = await asyncio.create_subprocess_exec(sys.executable, *line)
                await until(lambda: waiting(stack), 60)
                killed.kill()
                await killed.wait()
            again = await asyncio.create_subprocess_exec(sys.executable, *line)
            assert await again.wait() == 0
            async with working(stack):
                await until(lambda: settled(stack), 60)
            assert len(await stack.database.query("select id from vouchers")) == 1
            assert len(providers.texts[1:]) == (0 if apart else 1)

    asyncio.run(check())


async def waiting(stack: Stack) -> bool:
    """Whether a statement waits for a lock that another transaction has."""
    sql = (
        "select 1 as yes from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() "
        "and query like '%%numbered%%'"
    )
    return bool(await stack.database.query(sql))
