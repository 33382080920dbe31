"""Looking a customer up asks the database once in five minutes, and tells nobody what they may not see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentops.agent.tools import Principal, tool
from agentops.settings import CUSTOMER_LOOKUP, VOUCHERS
from agentops.stack import Deployed
from agentops.store.lookups import Lookups
from tests.fakes.stacks import ALL_ON, open_stack, set_flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.stack import Stack

PHONE, OTHER = "+250788000001", "+250788000002"
OPERATOR = Principal("http", "service_role", operator=True)
CUSTOMER = Principal("chat", "customer 1", PHONE)
STAFF = Principal("chat", "staff 2", OTHER, staff=True)


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]]) -> None:
    """A stack whose watch over its lookups stands."""

    async def run() -> None:
        async with open_stack(url) as stack:
            lookups = Lookups()
            lookups.open()
            await stack.database.query(
                "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, 'Ada')", {"phone": PHONE}
            )
            await act(replace(stack, lookups=lookups))

    asyncio.run(run())


async def name(stack: Stack, principal: Principal, phone: str = PHONE) -> Any:
    """The name that is told, or the error."""
    arguments = {} if principal.phone == phone else {"msisdn": phone}
    outcome = await tool("lookup_customer").call(arguments, principal, stack, correlation_id="c-1")
    return outcome.body.get("name") or outcome.body.get("error")


async def rename(stack: Stack, to: str) -> None:
    """Behind the stack's back."""
    await stack.database.query("update profiles set display_name = %(name)s", {"name": to})


def test_a_second_question_is_answered_from_memory_also_while_the_database_is_away(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        assert [await name(stack, each) for each in (CUSTOMER, OPERATOR)] == ["Ada", "Ada"]
        await stack.database.close()
        assert [await name(stack, each) for each in (CUSTOMER, OPERATOR)] == ["Ada", "Ada"]
        assert await name(stack, OPERATOR, OTHER) == "temporarily unavailable"

    in_stack(database_url, act)


def test_without_a_watch_nothing_is_kept(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        stack = replace(stack, lookups=Lookups())
        assert await name(stack, CUSTOMER) == "Ada"
        await rename(stack, "Bea")
        assert await name(stack, CUSTOMER) == "Bea"

    in_stack(database_url, act)


def test_what_an_operator_saw_is_not_told_to_a_customer(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        assert await name(stack, OPERATOR) == "Ada"
        other = Principal("chat", "customer 3", OTHER)
        assert await name(stack, other, PHONE) == "not allowed for another customer"
        await rename(stack, "Bea")
        assert await name(stack, CUSTOMER) == "Bea", "theirs is another question: it is asked behind the wall"
        assert await name(stack, Principal("http", "anonymous"), PHONE) == "unauthorized"

    in_stack(database_url, act)


def test_staff_who_look_another_up_are_audited_every_time(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        assert await name(stack, OPERATOR) == "Ada"
        for _ in range(3):
            assert await name(stack, STAFF) == "Ada"
        rows = await stack.database.query("select actor, subject from agentops.audit where action = 'customer.lookup'")
        assert [(row["actor"], row["subject"]) for row in rows] == [("staff 2", "+2507***001")] * 3
        for _ in range(2):
            await name(stack, STAFF, OTHER)
        assert await stack.database.query("select count(*) as n from agentops.audit") == [{"n": 3}]

    in_stack(database_url, act)


def test_a_flag_that_is_off_is_obeyed_at_once_and_money_asks_the_database(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        assert await name(stack, CUSTOMER) == "Ada"
        off = replace(stack, flags={**ALL_ON, CUSTOMER_LOOKUP: False})
        assert await name(off, CUSTOMER) == "feature_disabled"
        await set_flag(stack.database, VOUCHERS, enabled=False)
        made = await tool("create_voucher").call({"amount": 100}, CUSTOMER, stack, correlation_id="c-1")
        assert made.body["error"] == "feature_disabled"

    in_stack(database_url, act)


def test_loading_the_function_again_forgets_what_was_kept(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        first = replace(stack, functions={"ai-lookup-customer": Deployed("ai-lookup-customer", 3, "12:00:00.000Z")})
        again = replace(stack, functions={"ai-lookup-customer": Deployed("ai-lookup-customer", 3, "12:00:00.001Z")})
        assert await name(first, CUSTOMER) == "Ada"
        await rename(stack, "Bea")
        assert await name(first, CUSTOMER) == "Ada"
        assert await name(again, CUSTOMER) == "Bea"

    in_stack(database_url, act)
