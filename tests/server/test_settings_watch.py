from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentops import seal
from agentops.errors import Unavailable
from agentops.server import context as context_module
from agentops.server import settings_watch
from agentops.settings import CHAT, VOICE
from tests.fakes.servers import eventually, put_function, put_secret, watched

if TYPE_CHECKING:
    from tests.conftest import StackKeys


def test_a_switched_flag_is_obeyed_and_reported_at_once(
    database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing polls within this test: only the notice can tell.
    monkeypatch.setattr(settings_watch, "POLL_SECONDS", 600.0)

    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            assert not server.context.stack().flag(CHAT)
            await server.platform.set_flags([CHAT], enabled=True, seconds=None, check=False)
            await eventually(lambda: server.context.stack().flag(CHAT))
            generation = server.context.stack().generation
            async with asyncio.timeout(20):
                while generation not in [row.generation for row in await server.platform.servers()]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_stack_once_taken_keeps_its_settings(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            before = server.context.stack()
            await server.platform.set_flags([CHAT], enabled=True, seconds=None, check=False)
            await eventually(lambda: server.context.stack().flag(CHAT))
            assert not before.flag(CHAT)

    asyncio.run(run())


def test_a_timed_flag_turns_back_by_itself(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            await server.platform.set_flags([VOICE], enabled=True, seconds=0.3, check=False)
            await eventually(lambda: server.context.stack().flag(VOICE))
            begun = time.monotonic()
            await eventually(lambda: not server.context.stack().flag(VOICE))
            assert time.monotonic() - begun < 0.6, "the turn itself was waited for, not the next poll"

    asyncio.run(run())


def test_secrets_are_unsealed_and_follow_changes(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            await put_secret(server.platform, stack_keys, "WA_TOKEN", "one")
            await eventually(lambda: server.context.stack().secret("WA_TOKEN") == "one")
            await server.platform.query("delete from agentops.secrets")
            await eventually(lambda: server.context.stack().secret("WA_TOKEN") is None)
            # Unset and set again: the version begins anew, the value must not be the remembered one.
            await put_secret(server.platform, stack_keys, "WA_TOKEN", "two")
            await eventually(lambda: server.context.stack().secret("WA_TOKEN") == "two")

    asyncio.run(run())


def test_a_secret_that_does_not_open_is_named_once_and_the_rest_served(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            sealed = seal.seal(seal.new_key()[1], "WA_TOKEN", 1, "for another stack")
            await server.platform.query(
                "insert into agentops.secrets (name, sealed, digest, version, updated_by) "
                "values ('WA_TOKEN', %(sealed)s, repeat('0', 64), 1, 'tests')",
                {"sealed": sealed},
            )
            await put_secret(server.platform, stack_keys, "WA_PHONE_ID", "100")
            await eventually(lambda: server.context.stack().secret("WA_PHONE_ID") == "100")
            assert server.context.stack().secret("WA_TOKEN") is None
            named = [event for event in server.recorded.events if event.event == "ai.server.secret_unreadable"]
            assert [event.data["secret"] for event in named] == ["WA_TOKEN"]
            assert named[0].level == "error"

    asyncio.run(run())


def test_a_deployed_function_is_loaded_and_reported(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            await put_function(server.platform, "echo", 1)
            await eventually(lambda: "echo" in server.context.stack().functions)
            assert server.context.loader.get("echo") is not None
            found: list[Any] = []

            async def heard() -> None:
                while not found:
                    [row] = await server.platform.servers()
                    found.extend(row.functions[slug] for slug in row.functions if slug == "echo")

            await asyncio.wait_for(heard(), 5)
            assert found == [{"version": 1, "reload": 0, "ok": True, "error": None}]

    asyncio.run(run())


def test_a_broken_version_leaves_the_old_one_serving_and_flags_obeyed(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            await put_function(server.platform, "echo", 1)
            await eventually(lambda: "echo" in server.context.stack().functions)
            await put_function(server.platform, "echo", 2, "import time\ntime.sleep(0.5)\nraise OSError('broken')\n")
            begun = time.monotonic()
            await server.platform.set_flags([CHAT], enabled=True, seconds=None, check=False)
            await eventually(lambda: server.context.stack().flag(CHAT))
            assert time.monotonic() - begun < 0.4, "a flag does not wait for a module that loads"
            await eventually(lambda: "ai.server.function_failed" in server.recorded.names)
            assert server.context.stack().functions["echo"].version == 1

    asyncio.run(run())


def test_a_change_made_while_the_connection_was_down_is_seen(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            before = server.context.stack().generation
            # A lost notice: the change and the end of every other connection are one statement.
            await server.platform.query(
                "with change as (insert into agentops.flags (name, enabled, updated_by) "
                "values (%(name)s, true, 'tests')) select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()",
                {"name": CHAT},
            )
            await eventually(lambda: server.context.stack().flag(CHAT))
            assert server.context.stack().generation > before
            await eventually(lambda: "ai.server.settings_fresh" in server.recorded.names)
            assert server.recorded.names.count("ai.server.settings_stale") == 1
            assert await server.context.database.query("select 1 as one") == [{"one": 1}]

    asyncio.run(run())


def test_without_an_answer_the_last_stack_stays_and_readiness_goes(
    database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_module, "FRESH_SECONDS", 0.0)

    async def run() -> None:
        async with watched(database_url, stack_keys) as server:
            assert server.context.stack().generation >= 0
            assert not server.context.ready

    asyncio.run(run())


def test_a_context_without_settings_says_so() -> None:
    bare = context_module.ServerContext.__new__(context_module.ServerContext)
    bare._stack = None
    with pytest.raises(Unavailable):
        bare.stack()
