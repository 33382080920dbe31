from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentops.settings import CHAT
from agentops.store import inbox
from tests.fakes import cli
from tests.fakes.servers import operator, put_function
from tests.fakes.stacks import open_stack

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import StackKeys


# A function that says which conversation it has, and goes on with it when the gate opens.
GATED = """
import asyncio
from agentops.store import inbox
from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {})

async def work(job, stack):
    await stack.database.query("insert into public.began values (%(lane)s)", {"lane": job.lease.lane})
    while await stack.database.query("select shut from public.gate"):
        await asyncio.sleep(0.05)
    await inbox.finish(stack.database, job.lease, job.messages, "done")
"""


@pytest.fixture(autouse=True)
def _key(stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)


def _serving(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    return dict(next(line for line in map(json.loads, process.stdout) if "target" in line))


def test_it_takes_database_url_deploys_into_the_empty_and_ends_well_on_sigterm(database_url: str) -> None:
    port = cli.free_port()
    process = cli.start("serve", "--processes", "2", "--port", str(port), DATABASE_URL=database_url)
    serving = _serving(process)
    assert serving["url"] == f"http://127.0.0.1:{port}"
    status = cli.answer("--target", database_url, "status")
    assert sorted(server["role"] for server in status["servers"]) == ["web", "web", "worker"]
    assert len(cli.answer("--target", database_url, "deploy", "list")) == 6
    begun = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=15)
    assert (process.returncode, time.monotonic() - begun < 10) == (0, True)
    assert "not used" not in err


def test_a_worker_alone_listens_nowhere(database_url: str) -> None:
    process = cli.start("serve", "--role", "worker", AGENTOPS_TARGET=database_url)
    serving = _serving(process)
    assert (serving["url"], serving["role"]) == (None, "worker")
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode == 0


def test_a_worker_has_as_many_conversations_side_by_side_as_its_concurrency_says(database_url: str) -> None:
    async def three_customers_write() -> None:
        async with operator(database_url) as platform, open_stack(database_url) as stack:
            await put_function(platform, "gated", 1, GATED)
            messages = [
                inbox.Incoming(f"m{number}", "1", f"RW.{number}", None, "text", answerable=True, payload={})
                for number in range(3)
            ]
            await inbox.receive(stack.database, "gated", "corr-1", CHAT, messages)

    with psycopg.connect(database_url, autocommit=True) as connection:

        def began() -> int:
            return len(connection.execute(b"select distinct lane from public.began").fetchall())

        def shows(count: int, seconds: float) -> bool:
            deadline = time.monotonic() + seconds
            while began() < count and time.monotonic() < deadline:
                time.sleep(0.02)
            return began() >= count

        connection.execute(b"create table public.began (lane text); create table public.gate (shut boolean)")
        connection.execute(b"insert into public.gate values (true)")
        asyncio.run(three_customers_write())
        process = cli.start("serve", "--role", "worker", "--concurrency", "2", AGENTOPS_TARGET=database_url)
        try:
            assert shows(2, 30)
            # Longer than a worker waits before it looks again.
            assert not shows(3, 1.5)
            connection.execute(b"delete from public.gate")
            assert shows(3, 20)
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert process.returncode == 0


def test_without_the_matching_key_it_does_not_listen(database_url: str) -> None:
    port = str(cli.free_port())
    failed = cli.failure("serve", "--port", port, AGENTOPS_TARGET=database_url, AGENTOPS_STACK_KEY="A" * 43)
    assert (failed["exit"], failed["error"]) == (2, "usage")
    assert "not the one" in failed["message"]


def test_a_bad_role_is_a_usage_error(database_url: str) -> None:
    assert cli.run("serve", "--role", "nobody", AGENTOPS_TARGET=database_url)[0] == 2
