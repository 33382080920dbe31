from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops.sandbox import addresses
from agentops.sandbox.peers import app
from tests.clients.peer import Desk, Peer, desk
from tests.fakes.sockets import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def sandbox() -> Iterator[dict[str, str]]:
    """The addresses of running sandbox peers."""
    with serving(app()) as port:
        yield {**addresses(port), "SANDBOX": f"http://127.0.0.1:{port}/sandbox"}


@pytest.fixture(scope="session")
def provider_desk() -> Iterator[Desk]:
    with desk() as opened:
        yield opened


@pytest.fixture
def provider(provider_desk: Desk) -> Peer:
    """A provider that answers what the test says."""
    return provider_desk.seat()
