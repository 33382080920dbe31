"""A stack of its own for a measurement: `agentops serve` on a fresh state folder, and bare comparators beside it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY_SECONDS = 30.0
AGENTOPS = str(Path(sys.executable).with_name("agentops"))


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that serves: where, its keys, and how to run a command against it."""

    url: str
    database_url: str
    keys: Mapping[str, str]
    environment: Mapping[str, str]
    pid: int

    def run(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run an agentops command on this stack; its JSON."""
        command = [AGENTOPS, *arguments, "--json"]
        done = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def signed(self, body: str) -> dict[str, str]:
        """The headers of a webhook delivery with this body."""
        digest = hmac.new(self.keys["app_secret"].encode(), body.encode(), hashlib.sha256).hexdigest()
        return {"content-type": "application/json", "x-hub-signature-256": f"sha256={digest}"}


@contextmanager
def serving(*, processes: int = 1, role: str = "all", extra: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run `agentops serve` with all flags on, from a fresh database, and end it afterwards."""
    from agentops import embedded

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        port = free_port()
        environment = {**os.environ, "AGENTOPS_HOME": str(home), "AGENTOPS_TARGET": "local", **(extra or {})}
        command = [AGENTOPS, "serve", "--role", role, "--processes", str(processes), "--port", str(port)]
        with (Path(folder) / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            await_ready(url, process)
            bare = Running(url, "", {}, environment, process.pid)
            bare.run("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")
            # `status` masks the address; the state folder is what names it for certain.
            address = embedded.attach(home / "local").url
            keys = bare.run("status", "--show-keys")["keys"]
            yield Running(url, address, keys, environment, process.pid)
        finally:
            process.terminate()
            process.wait(15)
            embedded.remove(home / "local")


@contextmanager
def bare_server(database_url: str) -> Iterator[str]:
    """The comparator: a bare Starlette application on the same database and the same kind of pool."""
    port = free_port()
    environment = {**os.environ, "BARE_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen([*command, "--no-access-log", "--ws", "none"], env=environment)
    try:
        await_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until `/readyz` answers 200."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):  # noqa: S310 - our own loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit("the server was not ready in time")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
