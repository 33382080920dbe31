"""A whole stack as it runs in production: `agentops serve` with two web processes and a worker, over real sockets."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops import embedded
from tests.fakes.serve import Served, serving, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StackKeys


@pytest.fixture(scope="module")
def served(
    postgres: str, template: str, stack_keys: StackKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """All flags on, everything deployed."""
    name = f"journey_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
    address, folder = postgres.format(database=name), tmp_path_factory.mktemp("journey")
    environment = surroundings(address, folder, stack_keys.private)
    try:
        with serving(environment, folder) as process:
            bare = Served(process.url, address, {}, environment)
            bare.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")
            yield Served(process.url, address, bare.json("status", "--show-keys")["keys"], environment)
    finally:
        with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def psql() -> str:
    """The psql that comes with the embedded PostgreSQL."""
    return str(embedded.binaries() / "psql")
