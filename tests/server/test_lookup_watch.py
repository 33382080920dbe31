"""Every server forgets a customer when they change, and everybody when it might not hear of changes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from agentops.agent.tools import Principal, tool
from agentops.platforms import bundle
from agentops.server import lookup_watch
from agentops.settings import CUSTOMER_LOOKUP, VOUCHERS
from tests.fakes.servers import Watched, eventually, watched
from tests.fakes.stacks import open_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from agentops.stack import Stack
    from tests.conftest import StackKeys

PHONE, OTHER = "+250788000001", "+250788000002"
OPERATOR = Principal("http", "service_role", operator=True)
SECONDS = 60.0


@asynccontextmanager
async def server(url: str, keys: StackKeys) -> AsyncIterator[Watched]:
    """A server process's parts, its lookups watched over."""
    async with watched(url, keys) as found:
        await found.platform.set_flags([CUSTOMER_LOOKUP, VOUCHERS], enabled=True, seconds=None, check=False)
        await eventually(lambda: found.context.stack().flag(VOUCHERS), SECONDS)
        task = asyncio.create_task(lookup_watch.run(found.context))
        try:
            await knows(found)
            yield found
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def lookup(stack: Stack, phone: str = PHONE) -> None:
    outcome = await tool("lookup_customer").call({"msisdn": phone}, OPERATOR, stack, correlation_id="c-1")
    assert outcome.status == 200


async def knows(found: Watched, *phones: str) -> None:
    """Ask until what is asked is kept: the watch may just be opening."""
    for phone in phones or (PHONE,):
        size = len(found.context.lookups)
        async with asyncio.timeout(SECONDS):
            while len(found.context.lookups) == size:
                await lookup(found.context.stack(), phone)
                await asyncio.sleep(0.01)


async def backend(stack: Stack) -> int:
    """The process of PostgreSQL that the watch listens on."""
    rows = await stack.database.query(
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and (query ilike '%%agentops_lookups%%' or query like 'select 1 as alive%%')"
    )
    assert len(rows) == 1
    return int(rows[0]["pid"])


def test_a_customers_vouchers_change_and_two_servers_forget_them_and_nobody_else(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def run() -> None:
        async with (
            server(database_url, stack_keys) as first,
            server(database_url, stack_keys) as second,
            open_stack(database_url, set_flags=False) as elsewhere,
        ):
            voucher = ""
            for act in ("create", "redeem"):
                for each in (first, second):
                    each.context.lookups.forget(PHONE)
                    each.context.lookups.forget(OTHER)
                    await knows(each, PHONE, OTHER)
                arguments = {"customer_msisdn": PHONE, "amount": 100} if act == "create" else {"voucher_id": voucher}
                arguments["customer_msisdn"] = PHONE
                outcome = await tool(f"{act}_voucher").call(arguments, OPERATOR, elsewhere, correlation_id="c-2")
                assert outcome.status == 200
                voucher = str(outcome.body["voucher_id"])
                await eventually(lambda: len(first.context.lookups) == len(second.context.lookups) == 1, SECONDS)

    asyncio.run(run())


def test_whoever_changes_profiles_may_say_so(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with server(database_url, stack_keys) as found:
            await knows(found, OTHER)
            for text in ("", "x" * 9_000, PHONE):
                await found.platform.query("select agentops.customer_changed(%(text)s)::text", {"text": text})
            await eventually(lambda: len(found.context.lookups) == 1, SECONDS)

    asyncio.run(run())


def test_a_broken_line_forgets_everybody_until_it_stands_again(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with server(database_url, stack_keys) as found:
            pid = await backend(found.context.stack())
            await found.platform.query("select pg_terminate_backend(%(pid)s)", {"pid": pid})
            await eventually(lambda: len(found.context.lookups) == 0, SECONDS)
            await knows(found)

    asyncio.run(run())


def test_a_line_that_is_silent_forgets_everybody_too(
    database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_watch, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(lookup_watch, "ANSWER_SECONDS", 1.0)

    async def run() -> None:
        async with server(database_url, stack_keys) as found:
            pid = await backend(found.context.stack())
            os.kill(pid, signal.SIGSTOP)
            try:
                await eventually(lambda: len(found.context.lookups) == 0, SECONDS)
                await lookup(found.context.stack())
                assert len(found.context.lookups) == 0, "nothing is kept meanwhile"
            finally:
                os.kill(pid, signal.SIGCONT)
            await knows(found)

    asyncio.run(run())


def test_a_forced_deploy_forgets_everybody(database_url: str, stack_keys: StackKeys, tmp_path: Path) -> None:
    async def run() -> None:
        async with server(database_url, stack_keys) as found:
            mine = [bundle.read("ai-lookup-customer", tmp_path)]
            await found.platform.deploy(mine, force=False, check=False)
            stack = found.context.stack()
            await lookup(stack)
            await stack.database.query(
                "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, 'Ada')", {"phone": PHONE}
            )
            asked = {"msisdn": PHONE}
            stale = await tool("lookup_customer").call(asked, OPERATOR, stack, correlation_id="c")
            assert stale.body["exists"] is False, "as the page says: stale for five minutes, if changed behind our back"
            (done,) = await found.platform.deploy(mine, force=True, check=False)
            assert done.changed
            fresh = await tool("lookup_customer").call(asked, OPERATOR, found.context.stack(), correlation_id="c")
            assert fresh.body["name"] == "Ada"

    asyncio.run(run())
