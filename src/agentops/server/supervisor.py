"""Keeps server processes alive: starts them, restarts the one that dies, ends them all in order.

    bind(host, port), listen ──socket──┐
    Child(name, argv, order) ──────────┴──> Supervisor.run(stop) ──> child … child (restarted after 0.2 s, 0.4 s, … 5 s)
    stop ──> SIGTERM to all ──> those left after 8.5 s are killed

Light on purpose: it serves nothing itself, it only holds the listening socket, so that a connection made while a
process is being restarted waits in the queue instead of being refused. Each child's standard input is a pipe from
here; its end tells the child that the supervisor is gone, however it went.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Conflict, NotAuthorised, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agentops.server.order import Order

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
# Up for so long: the next death is a first one again.
STABLE_SECONDS = 30.0
# The whole of it must end within 10 s, and so must the program around it.
KILL_AFTER_SECONDS = 8.5
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep: its command line, its orders, the file descriptors it inherits.

    `environment` is added to ours. Children of a later `stage` are ended after those of an earlier one have.
    """

    name: str
    argv: tuple[str, ...]
    order: bytes = b""
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] | None = None
    stage: int = 0


def server_child(role: str, order: Order, listening: socket.socket | None, environment: Mapping[str, str]) -> Child:
    """A web or worker process; `listening` for web only."""
    argv = [sys.executable, "-P", "-m", "agentops.server.process", "--role", role]
    descriptors = () if listening is None else (listening.fileno(),)
    if listening is not None:
        argv += ["--socket", str(listening.fileno())]
    return Child(role, tuple(argv), order.line(), descriptors, environment)


def bind(host: str, port: int, command: str) -> socket.socket:
    """A TCP socket that has its address and does not listen yet; `command` is what the operator typed, for the hint.

    Raises:
        Conflict: another process has the port. NotAuthorised: this user may not. UsageError: no such address here.
    """
    with _told(host, port, command):
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((host, port))
        except BaseException:
            bound.close()
            raise
        return bound


def listen(bound: socket.socket, command: str) -> None:
    """Listen on what `bind` gave.

    Raises:
        Conflict: another process that had bound the same address was faster.
    """
    host, port = bound.getsockname()[:2]
    with _told(host, port, command):
        bound.listen(BACKLOG)


@contextmanager
def _told(host: str, port: int, command: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        another = f"{command} --port {port + 1 if port < 65535 else 54321}"  # noqa: PLR2004 - the last port
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} on {host} is taken by another process", another) from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise NotAuthorised(f"this user may not listen on port {port}", f"{command} --port 54321") from error
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror}", "look at --host") from error


@contextmanager
def stopping_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, in place of what they did before."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, before)


class Supervisor:
    """The processes of one `up` or `serve`."""

    def __init__(self, children: Sequence[Child], note: Callable[[str], None]) -> None:
        self._children = children
        self._note = note
        self._running: dict[int, tuple[Child, asyncio.subprocess.Process]] = {}
        self._ending = asyncio.Event()

    def pids(self, name: str | None = None) -> list[int]:
        """The process ids that run now, of all children or those of one name."""
        return [pid for pid, (child, _) in self._running.items() if name in {None, child.name}]

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the children alive until `stop` is set, then end them, within 10 s."""
        keepers = [asyncio.create_task(self._keep(child), name=child.name) for child in self._children]
        stopped = asyncio.create_task(stop.wait())
        try:
            # A keeper ends by itself only through a defect of ours: that ends everything.
            await asyncio.wait({stopped, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            await self._end(keepers)
        for keeper in keepers:
            if not keeper.cancelled():
                keeper.result()

    async def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE
        ran = False
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                process = await self._start(child)
            except AgentOpsError as failure:
                if not ran:
                    raise
                # It could be started before: the machine is short of something, and that may pass.
                ended = failure.message
            else:
                ran = True
                code = await process.wait()
                del self._running[process.pid]
                ended = f"{child.name} process {process.pid} ended ({_how(code)})"
            if self._ending.is_set():
                return
            if time.monotonic() - started > STABLE_SECONDS:
                pause = FIRST_PAUSE
            self._note(f"{ended}; starting another in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        environment = {name: text for name, text in os.environ.items() if name != "AGENTOPS_STACK_KEY"}
        try:
            process = await asyncio.create_subprocess_exec(
                *child.argv,
                stdin=asyncio.subprocess.PIPE,
                pass_fds=child.descriptors,
                env={**environment, **(child.environment or {})},
                process_group=0,  # Ctrl-C is for us alone; we pass it on as an orderly end
            )
        except OSError as error:
            raise AgentOpsError(f"cannot start a {child.name} process: {error.strerror}") from error
        self._running[process.pid] = (child, process)
        if process.stdin and child.order:
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(child.order)
                await process.stdin.drain()
        return process

    async def _end(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        self._ending.set()
        deadline = time.monotonic() + KILL_AFTER_SECONDS
        for stage in sorted({child.stage for child in self._children}):
            await self._end_stage(stage, deadline)
        for keeper in keepers:
            keeper.cancel()  # one that was waiting to restart its child
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _end_stage(self, stage: int, deadline: float) -> None:
        for number, until in ((signal.SIGTERM, deadline), (signal.SIGKILL, deadline + 1)):
            ending = [process for child, process in self._running.values() if child.stage == stage]
            for process in ending:
                with suppress(ProcessLookupError):
                    process.send_signal(number)
            if ending:
                waits = [asyncio.create_task(process.wait()) for process in ending]
                await asyncio.wait(waits, timeout=max(until - time.monotonic(), 0.0))


def _how(code: int) -> str:
    return f"exit {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
