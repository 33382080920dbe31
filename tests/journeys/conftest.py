"""A whole stack as it runs in production: `agentops serve` with two web processes and a worker, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from agentops import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.conftest import StackKeys

READY_SECONDS = 30.0


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


@pytest.fixture(scope="module")
def served(
    postgres: str, template: str, stack_keys: StackKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """All flags on, everything deployed."""
    name = f"journey_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
    address, folder, port = postgres.format(database=name), tmp_path_factory.mktemp("journey"), free_port()
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
    environment = kept | {
        "AGENTOPS_HOME": str(folder / "home"),
        "AGENTOPS_TARGET": address,
        "AGENTOPS_STACK_KEY": stack_keys.private,
        "AGENTOPS_ACTOR": "tester@here",
    }
    command = [sys.executable, "-m", "agentops", "serve", "--processes", "2", "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        await_ready(url, process, folder / "serve.log")
        bare = Served(url, address, {}, environment)
        bare.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")
        yield Served(url, address, bare.json("status", "--show-keys")["keys"], environment)
    finally:
        process.terminate()
        assert process.wait(12) == 0, (folder / "serve.log").read_text()
        with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())


def await_ready(url: str, process: subprocess.Popen[bytes], log: Any) -> None:
    """Wait until the server answers that it is ready."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def psql() -> str:
    """The psql that comes with the embedded PostgreSQL."""
    return str(embedded.binaries() / "psql")
