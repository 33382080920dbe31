"""The cluster on disk: how it is made, which settings it runs with, what is refused, what a crash may leave behind."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from agentops import embedded
from agentops.embedded.place import locate
from agentops.errors import Unavailable
from tests.embedded.helpers import environment, execute, postmaster, serves, stop, supervisor, value

if TYPE_CHECKING:
    from pathlib import Path


def test_a_half_made_cluster_is_discarded_and_made_anew(fresh: Path) -> None:
    execute(embedded.attach(fresh).url, "create table half_made ()")
    embedded.release(fresh)
    stop(fresh)
    place = locate(fresh)
    place.data.rename(place.unfinished_data)  # as if initdb had been killed before its last step
    attachment = embedded.attach(fresh)
    assert value(attachment.url, "select to_regclass('half_made')") is None
    assert not place.unfinished_data.exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("track_commit_timestamp", "on"),
        ("listen_addresses", ""),
        ("port", "5432"),
        ("max_connections", "100"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
        ("log_parameter_max_length", "0"),
        ("log_parameter_max_length_on_error", "0"),
        ("log_error_verbosity", "terse"),
    ],
)
def test_the_server_runs_with_its_profile(state_in_use: str, setting: str, expected: str) -> None:
    assert value(state_in_use, f"select current_setting('{setting}')") == expected


def test_the_database_compares_text_by_code_point(state_in_use: str) -> None:
    query = "select concat(datlocprovider, ' ', datlocale) from pg_database where datname = current_database()"
    assert value(state_in_use, query) == "b C.UTF-8"


def test_the_url_serves_psql_too(state_in_use: str) -> None:
    command = [str(embedded.binaries() / "psql"), "-XAtc", "select 1 + 1", state_in_use]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2\n"


def test_the_operators_pg_variables_do_not_reach_the_server(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"PGPORT": "6543", "PGDATA": "/nowhere", "PGHOST": "/nowhere", "PGOPTIONS": "-c wrong=1"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("OPENAI_API_KEY", "made up")
    embedded.attach(state)
    assert embedded.running(state)
    for pid in (supervisor(state), postmaster(state)):
        assert [name for name in environment(pid) if name.startswith("PG") or name == "OPENAI_API_KEY"] == []


def test_data_of_another_major_version_are_refused_in_a_clear_sentence(state: Path) -> None:
    version = locate(state).data / "PG_VERSION"
    version.write_text("17\n")
    try:
        with pytest.raises(Unavailable, match="holds data of PostgreSQL 17, and agentops brings PostgreSQL 18"):
            embedded.attach(state)
    finally:
        version.write_text("18\n")
    assert serves(embedded.attach(state).url)


def test_a_server_that_does_not_start_says_why_and_where_its_log_is(state: Path) -> None:
    config = locate(state).data / "postgresql.auto.conf"
    before = config.read_text()
    config.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(Unavailable, match="no_such_setting") as failure:
            embedded.attach(state)
    finally:
        config.write_text(before)
    assert failure.value.hint is not None
    assert str(locate(state).log) in failure.value.hint
    stop(state)  # the failed attempt keeps nothing alive


def test_the_pid_of_a_killed_server_may_be_another_process_by_now(state: Path) -> None:
    data = locate(state).data
    owner = data.stat()
    other = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)  # noqa: S607
    try:
        pid_file = data / "postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{data}\n1700000000\n5432\n\n\n\n")
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        assert serves(embedded.attach(state).url)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.fixture
def state_in_use(_shared: Path) -> str:
    return embedded.attach(_shared).url
