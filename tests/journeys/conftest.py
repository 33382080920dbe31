"""A whole stack as it runs in production: `agentops serve` with two web processes and a worker, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops import embedded
from tests.fakes.databases import copied
from tests.fakes.serve import Served, serving, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StackKeys


@pytest.fixture(scope="module")
def served(
    postgres: str, template: str, stack_keys: StackKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """All flags on, everything deployed."""
    folder = tmp_path_factory.mktemp("journey")
    with copied(postgres, template) as address:
        environment = surroundings(address, folder, stack_keys.private)
        with serving(environment, folder) as process:
            bare = Served(process.url, address, {}, environment)
            bare.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")
            yield Served(process.url, address, bare.json("status", "--show-keys")["keys"], environment)


@pytest.fixture(scope="session")
def psql() -> str:
    """The psql that comes with the embedded PostgreSQL."""
    return str(embedded.binaries() / "psql")
