"""A real PostgreSQL for every test: the embedded one, a migrated template per run, a copy per test."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops import embedded, seal
from agentops.platforms.local import LocalPlatform
from agentops.store import schema
from tests.fakes import management_api
from tests.fakes.management_api import ManagementApi
from tests.fakes.providers import Providers, last, say, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.management_api import Stage

_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --update-golden` writes the golden texts anew, to be reviewed as a diff."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("AGENTOPS_", "FEATURE_AGENT_", "OPENAI_", "WA_", "WHATSAPP_", "SUPABASE_", "SLACK_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("AGENTOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGENTOPS_ACTOR", "tester@here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running PostgreSQL, without a database name: a callable of `str.format(database=…)`."""
    state = tmp_path_factory.mktemp("postgres")
    url = embedded.attach(state).url
    yield url.replace("/agentops?", "/{database}?")
    embedded.remove(state)


@pytest.fixture(scope="session")
def _stage() -> Iterator[Stage]:
    with management_api.staged() as stage:
        yield stage


@pytest.fixture
def project_api(_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> ManagementApi:
    """A hosted project without functions and secrets; this process's environment leads to it."""
    api = _stage.show(ManagementApi())
    for name, value in api.environment.items():
        monkeypatch.setenv(name, value)
    return api


@pytest.fixture
def providers() -> Iterator[Providers]:
    """OpenAI, which says what it was asked, and Graph; a file with a script of its own has its own."""
    with serving(Providers(think=lambda body: say(f"You said {last(body)}."))) as found:
        yield found


@dataclass(frozen=True)
class StackKeys:
    """The key pair that test databases are sealed to."""

    private: str
    public: str


@pytest.fixture(scope="session")
def stack_keys() -> StackKeys:
    """One key pair for the whole run."""
    return StackKeys(*seal.new_key())


@pytest.fixture(scope="session")
def template(postgres: str, stack_keys: StackKeys) -> str:
    """A migrated, live stack's database, to be copied."""
    name = "template_stack"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())

    async def prepare() -> None:
        platform = await LocalPlatform.open(
            postgres.format(database=name), label="test", actor="tester@here", home=Path("unused")
        )
        await schema.migrate(platform)
        await platform.query(
            "insert into agentops.stack (kind, public_key) values ('live', %(key)s)", {"key": stack_keys.public}
        )
        await platform.close()

    asyncio.run(prepare())
    return name


@pytest.fixture
def database_url(postgres: str, template: str) -> Iterator[str]:
    """A fresh copy of the template, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
        yield postgres.format(database=name)
        connection.execute(f"drop database {name} with (force)".encode())
