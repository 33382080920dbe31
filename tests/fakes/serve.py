"""`agentops serve` as a process of its own, and how to run commands against it.

surroundings(address, folder, key) → environment → start → Popen … await_ready → Served(url, …).run(…)
serving(environment, folder)       all of it, ended in order with the block
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READY_SECONDS = 60.0
ENDED_SECONDS = 20.0
ROOT = Path(__file__).parents[2]
TWO_WEB = ("--processes", "2")
PROGRAM = ("-m", "agentops")


@dataclass(frozen=True)
class Served:
    """A stack that serves, and how to run commands against it."""

    url: str
    database_url: str
    keys: Mapping[str, str]
    environment: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run an agentops command as typed, its output captured."""
        return subprocess.run(
            [sys.executable, "-m", "agentops", *arguments],
            env=dict(self.environment),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON of a command that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def post(self, slug: str, body: object, **headers: str) -> httpx.Response:
        """POST JSON to a function with the service key."""
        return httpx.post(
            f"{self.url}/functions/v1/{slug}", json=body, headers={**self.authorization, **headers}, timeout=20
        )

    @property
    def authorization(self) -> dict[str, str]:
        """The header that makes a caller an operator."""
        return {"authorization": f"Bearer {self.keys['service_role_key']}"}


@dataclass(frozen=True)
class Process:
    """A supervisor, where its web processes listen, and what it and its children wrote."""

    url: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid


def surroundings(address: str, folder: Path, private_key: str | None, **more: str) -> dict[str, str]:
    """What `serve` is told: its database, its key, a state folder below `folder`, and `more`."""
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
    told = {**kept, "AGENTOPS_HOME": str(folder / "home"), "AGENTOPS_TARGET": address, "AGENTOPS_ACTOR": "tester@here"}
    return {**told, **({"AGENTOPS_STACK_KEY": private_key} if private_key else {}), **more}


def start(
    environment: Mapping[str, str],
    folder: Path,
    port: int,
    *,
    options: Sequence[str] = TWO_WEB,
    program: Sequence[str] = PROGRAM,
) -> Process:
    """Begin to serve on `port`. Another start in the same folder goes on in the same `serve.log`."""
    command = [sys.executable, *program, "serve", *options, "--port", str(port)]
    log = folder / "serve.log"
    with log.open("ab") as output:
        popen = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output, cwd=folder)
    return Process(f"http://127.0.0.1:{port}", popen, log)


@contextmanager
def serving(
    environment: Mapping[str, str],
    folder: Path,
    *,
    options: Sequence[str] = TWO_WEB,
    program: Sequence[str] = PROGRAM,
) -> Iterator[Process]:
    """Serve on a free port until the block ends; it must then end well."""
    process = start(environment, folder, free_port(), options=options, program=program)
    try:
        await_ready(process)
        yield process
    finally:
        process.popen.terminate()
        assert process.popen.wait(ENDED_SECONDS) == 0, process.log.read_text()[-3000:]


def await_ready(process: Process) -> None:
    """Wait until the server answers that it is ready."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.popen.poll() is None, process.log.read_text()[-3000:]
        try:
            if httpx.get(f"{process.url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(process.log.read_text()[-3000:])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
