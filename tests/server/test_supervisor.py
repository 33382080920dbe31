from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from agentops.errors import Conflict, UsageError
from agentops.server import supervisor as module
from agentops.server.supervisor import Child, Supervisor, bind, listen, stopping_signals
from tests.fakes.servers import eventually

if TYPE_CHECKING:
    from pathlib import Path

# Writes a line for each start, then waits for SIGTERM or the end of its orders.
OBEDIENT = """
import os, signal, sys
log = open(sys.argv[1], "a")
print("start", os.getpid(), os.read(0, 100).decode().strip(), file=log, flush=True)
def end(*_):
    print("end", file=log, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
os.read(0, 1)
print("orphan", file=log, flush=True)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write("start\\n")
time.sleep(60)
"""


def _child(script: str, log: Path, stage: int = 0) -> Child:
    return Child("web", (sys.executable, "-c", script, str(log)), b"orders\n", stage=stage)


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_a_child_gets_its_orders_and_is_ended_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        log, stop = tmp_path / "log", asyncio.Event()
        supervisor = Supervisor([_child(OBEDIENT, log)], print)
        task = asyncio.create_task(supervisor.run(stop))
        await eventually(lambda: _lines(log))
        [pid] = supervisor.pids("web")
        assert _lines(log) == [f"start {pid} orders"]
        stop.set()
        await task
        assert _lines(log)[-1] == "end"
        assert supervisor.pids() == []

    asyncio.run(run())


def test_a_child_that_dies_is_replaced_and_that_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        log, stop, told = tmp_path / "log", asyncio.Event(), list[str]()
        supervisor = Supervisor([_child(OBEDIENT, log)], told.append)
        task = asyncio.create_task(supervisor.run(stop))
        for starts in (1, 2, 3):
            await eventually(lambda: len(_lines(log)) == starts and supervisor.pids())  # noqa: B023 - awaited at once
            if starts < 3:
                os.kill(supervisor.pids()[0], signal.SIGKILL)
        stop.set()
        await task
        assert "SIGKILL" in told[0]
        assert [line.rpartition(" in ")[2] for line in told] == ["0.2 s", "0.4 s"]

    asyncio.run(run())


def test_one_that_does_not_listen_is_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER_SECONDS", 0.3)

    async def run() -> None:
        log, stop = tmp_path / "log", asyncio.Event()
        supervisor = Supervisor([_child(STUBBORN, log)], print)
        task = asyncio.create_task(supervisor.run(stop))
        await eventually(lambda: _lines(log))
        begun = time.monotonic()
        stop.set()
        await task
        assert 0.2 < time.monotonic() - begun < 1.3

    asyncio.run(run())


def test_a_later_stage_ends_after_an_earlier_one(tmp_path: Path) -> None:
    async def run() -> None:
        log, stop = tmp_path / "log", asyncio.Event()
        slow = OBEDIENT.replace('print("end"', 'import time; time.sleep(0.3); print("end first"')
        children = [_child(OBEDIENT, log, stage=1), _child(slow, log)]
        task = asyncio.create_task(Supervisor(children, print).run(stop))
        await eventually(lambda: len(_lines(log)) == 2)
        stop.set()
        await task
        assert _lines(log)[2:] == ["end first", "end"]

    asyncio.run(run())


def test_children_learn_that_the_supervisor_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import asyncio, sys\nfrom agentops.server.supervisor import Child, Supervisor\n"
        f"child = Child('web', (sys.executable, '-c', {OBEDIENT!r}, {str(log)!r}), b'orders\\n')\n"
        "async def run():\n    await Supervisor([child], print).run(asyncio.Event())\nasyncio.run(run())\n"
    )

    async def run() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
        await eventually(lambda: _lines(log))
        process.kill()
        await process.wait()
        await eventually(lambda: _lines(log)[-1] == "orphan")

    asyncio.run(run())


def test_a_taken_port_names_the_option_for_another() -> None:
    with bind("127.0.0.1", 0, "agentops up") as taken:
        listen(taken, "agentops up")
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} on 127.0.0.1 is taken") as caught:
            bind("127.0.0.1", port, "agentops up")
    assert caught.value.hint == f"agentops up --port {port + 1}"


def test_of_two_that_bound_one_port_at_the_same_time_one_is_told_when_it_listens() -> None:
    with bind("127.0.0.1", 0, "agentops up") as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port, "agentops up") as second:
            listen(first, "agentops up")
            with pytest.raises(Conflict, match=f"port {port} on 127.0.0.1 is taken"):
                listen(second, "agentops up")


def test_a_socket_that_is_only_bound_refuses_who_connects() -> None:
    with bind("127.0.0.1", 0, "agentops up") as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname())


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 54321, "agentops serve")


def test_a_connection_before_the_first_process_waits_in_the_queue() -> None:
    with bind("127.0.0.1", 0, "agentops up") as listening:
        listen(listening, "agentops up")
        with socket.create_connection(listening.getsockname()) as early:
            early.sendall(b"x")
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(1) == b"x"


def test_sigterm_and_sigint_stop_and_are_given_back() -> None:
    async def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        for number in (signal.SIGTERM, signal.SIGINT):
            with stopping_signals() as stop:
                os.kill(os.getpid(), number)
                async with asyncio.timeout(1):
                    await stop.wait()
        assert signal.getsignal(signal.SIGINT) is before

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


def test_the_supervisor_is_light() -> None:
    import subprocess

    probe = "import sys, agentops.server.supervisor, agentops.server.order; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not {"starlette", "uvicorn", "openai", "pydantic", "psycopg", "httpx"} & set(loaded)
