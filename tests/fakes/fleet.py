"""Servers that are killed and started again: each a supervisor with a web and a worker process, on its own port."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes import serve, serve_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.fakes.serve import Process

AGAIN_SECONDS = 60.0


@dataclass
class Server:
    """One server. `process` is its present supervisor."""

    folder: Path
    environment: Mapping[str, str]
    program: Sequence[str]
    port: int
    process: Process
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def children(self) -> dict[int, str]:
        """The roles of the supervisor's children that live now, by pid."""
        return {pid: role for pid in _children(self.process.pid) if (role := _role(pid))}

    @property
    def gave_up(self) -> bool:
        """Whether the supervisor ended, and not by a kill."""
        return (self.process.popen.poll() or 0) > 0

    def start_again(self, ended: Process) -> None:
        """As an init system does. The port is free as soon as orphaned web processes hear that they are."""
        ended.popen.wait(10)
        deadline = time.monotonic() + AGAIN_SECONDS
        with self._turn:
            while self.process is ended:
                assert time.monotonic() < deadline, ended.log.read_text()[-2000:]
                begun = serve.start(self.environment, self.folder, self.port, options=(), program=self.program)
                while begun.popen.poll() is None and self.process is ended:
                    time.sleep(0.05)
                    if len(_children(begun.pid)) == 2:
                        self.process = begun


@contextmanager
def fleet(
    folder: Path, count: int, environment: Callable[[Path], dict[str, str]], variants: Sequence[str]
) -> Iterator[list[Server]]:
    """So many servers that answer, with `environment` for the folder of each; none of their processes is left."""
    program = serve_variant.PROGRAM if variants else serve.PROGRAM
    servers: list[Server] = []
    try:
        for number in range(count):
            place = folder / f"server{number}"
            place.mkdir()
            told, port = environment(place) | serve_variant.variant(*variants), serve.free_port()
            begun = serve.start(told, place, port, options=(), program=program)
            servers.append(Server(place, told, program, port, begun))
        for server in servers:
            serve.await_ready(server.process)
        yield servers
    finally:
        left = {pid for server in servers for pid in server.children}
        for server in servers:
            server.process.popen.terminate()
        for server in servers:
            server.process.popen.wait(serve.ENDED_SECONDS)
        for pid in filter(_role, left):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _role(pid: int) -> str:
    """`web` or `worker`; empty where the process is gone or not yet what it will be."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return words[words.index("--role") + 1] if "--role" in words else ""
