from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentops.platforms import bundle
from tests.fakes.servers import operator, put_function, running

if TYPE_CHECKING:
    from agentops.platforms.local import LocalPlatform
    from tests.conftest import StackKeys


async def _alive(platform: LocalPlatform, count: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while len(await platform.servers()) != count:
        assert time.monotonic() < deadline, f"never {count} servers"
        await asyncio.sleep(0.02)


def test_a_web_process_answers_a_shipped_function_and_stores_its_events(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def run() -> None:
        async with operator(database_url) as platform:
            await platform.deploy([bundle.read("ai-lookup-customer", Path("nowhere"))], force=False, check=False)
            async with running(database_url, stack_keys) as server:
                health = await server.ask("/functions/v1/ai-lookup-customer")
                assert health.json()["slug"] == "ai-lookup-customer"
                assert "server" not in health.headers
                refused = await server.ask(
                    "/functions/v1/ai-lookup-customer", "POST", json={}, headers={"x-correlation-id": "abc-123"}
                )
                assert refused.json()["success"] is False
                assert refused.headers["x-correlation-id"] == "abc-123"
            # The last events are stored before a process ends, and its heartbeat is gone.
            events = await platform.query("select event from agentops.logs where correlation_id = 'abc-123'")
            assert events
            assert await platform.servers() == []

    asyncio.run(run())


def test_processes_share_the_socket_and_one_that_is_killed_costs_no_later_request(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def run() -> None:
        async with operator(database_url) as platform:
            await put_function(platform, "echo", 1)
            async with running(database_url, stack_keys, web=2, workers=1) as server:
                await _alive(platform, 3)
                assert {row.role for row in await platform.servers()} == {"web", "worker"}
                pids: set[int] = set()
                deadline = time.monotonic() + 10
                while len(pids) < 2 and time.monotonic() < deadline:
                    answers = await asyncio.gather(*[server.ask("/functions/v1/echo") for _ in range(8)])
                    pids |= {answer.json()["pid"] for answer in answers}
                assert pids == set(server.supervisor.pids("web"))
                for pid in server.supervisor.pids("web"):
                    os.kill(pid, signal.SIGKILL)
                # Nobody listens now; the connection waits until the next process takes it.
                answer = await server.ask("/functions/v1/echo")
                assert answer.json()["pid"] not in pids

    asyncio.run(run())


def test_a_request_under_way_is_finished_before_the_process_ends(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with operator(database_url) as platform:
            await put_function(platform, "echo", 1)
            async with running(database_url, stack_keys) as server:
                await server.ask("/functions/v1/echo")
                slow = asyncio.create_task(server.ask("/functions/v1/echo", "POST", json={"sleep": 1.0}))
                await asyncio.sleep(0.3)
                [pid] = server.supervisor.pids("web")
                begun = time.monotonic()
                os.kill(pid, signal.SIGTERM)
                assert (await slow).json()["pid"] == pid
                assert time.monotonic() - begun < 5

    asyncio.run(run())


def test_neither_address_nor_key_stand_where_others_read_them(database_url: str, stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with operator(database_url) as platform, running(database_url, stack_keys) as server:
            await _alive(platform, 1)
            [pid] = server.supervisor.pids("web")
            seen = _public(pid)
            assert stack_keys.private.encode() not in seen
            assert database_url.encode() not in seen

    asyncio.run(run())


def _public(pid: int) -> bytes:
    """What other processes may read of one."""
    return b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "environ"))


def test_without_a_database_it_says_503_and_to_come_again(stack_keys: StackKeys) -> None:
    async def run() -> None:
        async with running("postgresql://nobody@127.0.0.1:1/nothing", stack_keys) as server:
            for path in ("/readyz", "/functions/v1/echo"):
                answer = await server.ask(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert (await server.ask("/livez")).status_code == 200

    asyncio.run(run())
