"""A stack that is attacked: `agentops serve` with two web processes and a worker, over scripted providers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from tests.fakes.providers import Providers, serving
from tests.fakes.whatsapp import APP_SECRET, signed
from tests.journeys.conftest import Served, await_ready, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StackKeys

CANARIES = {"WA_TOKEN": "canary-wa-token-7731", "OPENAI_API_KEY": "canary-openai-key-7732"}
STAFF = "+250788000009"


@dataclass(frozen=True)
class Attacked(Served):
    """A served stack, its providers, its output and the process that serves."""

    providers: Providers
    log: Path
    pid: int

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def deliver(self, content: object, **headers: str) -> httpx.Response:
        """One signed delivery to the webhook."""
        request = signed(content)
        address = f"{self.url}/functions/v1/ai-whatsapp-webhook"
        return httpx.post(address, content=request.body, headers={**request.headers, **headers}, timeout=30)

    def say(self, *parts: bytes, seconds: float = 5.0) -> bytes:
        """What the server answers to these bytes until it closes or has said nothing for `seconds`."""
        heard = b""
        with socket.create_connection(("127.0.0.1", self.port)) as peer:
            peer.settimeout(seconds)
            try:
                for part in parts:
                    peer.sendall(part)
                while received := peer.recv(65536):
                    heard += received
            except (TimeoutError, ConnectionError):
                return heard
        return heard

    def pids(self, role: str) -> list[int]:
        """The live processes of a role."""
        return [int(each["pid"]) for each in self.json("status")["servers"] if each["role"] == role]


@contextmanager
def attackable(address: str, folder: Path, private_key: str | None = None) -> Iterator[Attacked]:
    """Serve the database at `address` until the block ends."""
    port = free_port()
    with serving(Providers()) as providers:
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
        environment = {**kept, **providers.environment, "AGENTOPS_HOME": str(folder / "home")}
        environment |= {"AGENTOPS_TARGET": address, "AGENTOPS_ACTOR": "tester@here"}
        if private_key:
            environment["AGENTOPS_STACK_KEY"] = private_key
        command = [sys.executable, "-m", "agentops", "serve", "--processes", "2", "--port", str(port)]
        with (folder / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            url = f"http://127.0.0.1:{port}"
            await_ready(url, process, folder / "serve.log")
            bare = Served(url, address, {}, environment)
            secrets = {**CANARIES, "WA_APP_SECRET": APP_SECRET, "WA_PHONE_ID": "106540352242922"}
            lines = "".join(f"{name}={value}\n" for name, value in {**secrets, "AGENT_STAFF_MSISDNS": STAFF}.items())
            (folder / "secrets.env").write_text(lines)
            bare.json("secrets", "set", "--env-file", str(folder / "secrets.env"))
            bare.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")
            keys = bare.json("status", "--show-keys")["keys"]
            yield Attacked(url, address, keys, environment, providers, folder / "serve.log", process.pid)
        finally:
            process.terminate()
            assert process.wait(15) == 0, (folder / "serve.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def attacked(
    postgres: str, template: str, stack_keys: StackKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """All flags on, everything deployed."""
    name = f"attacked_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
        folder = tmp_path_factory.mktemp("attacked")
        with attackable(postgres.format(database=name), folder, stack_keys.private) as running:
            yield running
        connection.execute(f"drop database {name} with (force)".encode())


def lines(text: str) -> list[dict[str, object]]:
    """The events among a server's output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
