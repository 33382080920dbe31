"""A real PostgreSQL for every test: the embedded one, a migrated template per run, a copy per test."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops import embedded, seal
from agentops.platforms.local import LocalPlatform
from agentops.store import schema
from tests.fakes import databases, management_api
from tests.fakes.machines import Machines
from tests.fakes.management_api import ManagementApi
from tests.fakes.providers import Providers, last, say, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.management_api import Stage


def pytest_configure() -> None:
    """Let the commands that tests start hear Ctrl-C: a shell's background job ignores it, and so would its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests of processes wait more than they compute."""
    return (os.cpu_count() or 1) + 1


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


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL: its address with `{database}` for a name, and where databases are made fast."""

    address: str
    tablespace: str


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The PostgreSQL of this run."""
    state = tmp_path_factory.mktemp("postgres")
    url = embedded.attach(state).url
    with databases.tablespace(url) as tablespace:
        yield Cluster(url.replace("/agentops?", "/{database}?"), tablespace)
        embedded.remove(state)


@pytest.fixture(scope="session")
def postgres(cluster: Cluster) -> str:
    """The address of a running PostgreSQL, without a database name: a callable of `str.format(database=…)`."""
    return cluster.address


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
def shared_project(project_api: ManagementApi, database_url: str, monkeypatch: pytest.MonkeyPatch) -> ManagementApi:
    """The hosted project whose database has our schema, as the target."""
    project_api.database_url = database_url
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{management_api.REF}")
    return project_api


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machines:
    """Says on which machine of the team the next command is typed."""
    return Machines(monkeypatch, tmp_path)


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
def template(cluster: Cluster, stack_keys: StackKeys) -> str:
    """A migrated, live stack's database, to be copied; its copies are made where it is."""
    name = "template_stack"
    with psycopg.connect(cluster.address.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} tablespace {cluster.tablespace}".encode())

    async def prepare() -> None:
        platform = await LocalPlatform.open(
            cluster.address.format(database=name), label="test", actor="tester@here", home=Path("unused")
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
    with databases.copied(postgres, template) as url:
        yield url
