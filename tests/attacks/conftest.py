"""A stack that is attacked: `agentops serve` with two web processes and a worker, over scripted providers."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fakes.databases import copied
from tests.fakes.providers import Providers
from tests.fakes.providers import serving as scripted
from tests.fakes.serve import Served, serving, surroundings
from tests.fakes.whatsapp import APP_SECRET, signed

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
    with scripted(Providers()) as providers:
        environment = surroundings(address, folder, private_key, **providers.environment)
        with serving(environment, folder) as process:
            bare = Served(process.url, address, {}, environment)
            settle(bare, folder)
            keys = bare.json("status", "--show-keys")["keys"]
            yield Attacked(process.url, address, keys, environment, providers, process.log, process.pid)


def settle(served: Served, folder: Path) -> None:
    """Give a stack its secrets, and all its features."""
    secrets = {**CANARIES, "WA_APP_SECRET": APP_SECRET, "WA_PHONE_ID": "106540352242922"}
    lines = "".join(f"{name}={value}\n" for name, value in {**secrets, "AGENT_STAFF_MSISDNS": STAFF}.items())
    (folder / "secrets.env").write_text(lines)
    served.json("secrets", "set", "--env-file", str(folder / "secrets.env"))
    served.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")


@pytest.fixture(scope="module")
def attacked(
    postgres: str, template: str, stack_keys: StackKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """All flags on, everything deployed."""
    with (
        copied(postgres, template) as address,
        attackable(address, tmp_path_factory.mktemp("attacked"), stack_keys.private) as running,
    ):
        yield running


def lines(text: str) -> list[dict[str, object]]:
    """The events among a server's output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
