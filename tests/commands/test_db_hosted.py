"""`agentops db` on a hosted project: through its API, or through DATABASE_URL."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops.commands import db
from agentops.store import migrations
from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.management_api import REF, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = f"db.{REF}.supabase.co"


@pytest.fixture
def empty(postgres: str, project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementApi]:
    """A project whose database is empty; the target."""
    name = f"hosted_{os.getpid()}"
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{REF}")
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        project_api.database_url = postgres.format(database=name)
        yield project_api
        connection.execute(f"drop database {name} with (force)".encode())


def rows(api: ManagementApi, statement: str) -> list[tuple[object, ...]]:
    assert api.database_url
    with psycopg.connect(api.database_url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def versions(api: ManagementApi) -> list[int]:
    if rows(api, "select to_regclass('agentops.migrations') is null") == [(True,)]:
        return []
    return [int(str(row[0])) for row in rows(api, "select version from agentops.migrations order by version")]


EVERY = [item.version for item in migrations.migrations()]


def test_a_project_is_migrated_through_its_api_once(empty: ManagementApi) -> None:
    before = typed("db", "status", "--json")
    assert (before.code, before.json["version"], before.json["target"]) == (3, None, f"supabase://{REF}")
    first = typed("db", "migrate", "--json")
    assert (first.code, {each["changed"] for each in first.json}) == (0, {True}), first.err
    assert versions(empty) == EVERY
    again = typed("db", "migrate", "--json")
    assert (again.code, {each["changed"] for each in again.json}) == (0, {False})
    assert typed("db", "migrate", "--check").code == 0
    after = typed("db", "status", "--json")
    assert (after.code, after.json["version"], after.json["finding"]) == (0, migrations.needed(), "up to date")


def test_check_and_status_only_read(empty: ManagementApi) -> None:
    plan = typed("db", "migrate", "--check", "--json")
    assert (plan.code, {each["changed"] for each in plan.json}) == (3, {True})
    typed("db", "status")
    assert {path for path, _ in empty.statements} == {"/database/query/read-only"}
    assert versions(empty) == []


def test_half_a_migration_is_none(empty: ManagementApi) -> None:
    """Its row and its tables are one request, so what breaks off leaves neither."""
    assert empty.database_url
    with psycopg.connect(empty.database_url, autocommit=True) as connection:
        connection.execute("create schema agentops")
        connection.execute("create table agentops.limits (in_the_way text)")
    done = typed("db", "migrate")
    assert done.code != 0
    assert 'relation "limits" already exists' in done.err
    # The first one was a transaction of its own.
    assert versions(empty) == [1]
    assert rows(empty, "select count(*) from information_schema.tables where table_name = 'approvals'") == [(0,)]


def test_an_answer_that_is_lost_is_asked_for_again(empty: ManagementApi) -> None:
    answers = iter([True])
    empty.lose = lambda _method, _below: "create schema" in empty.statements[-1][1] and next(answers, False)
    done = typed("db", "migrate", "--json")
    assert done.code == 0, done.err
    assert versions(empty) == EVERY
    assert [each["version"] for each in done.json if not each["changed"]] == [1], "its row was there by then"


@pytest.mark.usefixtures("empty")
def test_several_migrators_at_once_end_well() -> None:
    processes = [cli.start("db", "migrate", "--json") for _ in range(3)]
    answers = [process.communicate(timeout=cli.SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    applied = [each["version"] for out, _ in answers for each in json.loads(out) if each["changed"]]
    assert sorted(applied) == EVERY, "each is applied once, by one of them"


def test_a_target_marked_as_production_asks_before_it_is_migrated(
    empty: ManagementApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "agentops.toml").write_text(f'[targets.prod]\nurl = "supabase://{REF}"\nproduction = true\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_TARGET", "prod")
    assert typed("db", "migrate").code == 6
    assert versions(empty) == []
    assert typed("db", "migrate", "--confirm", "prod").code == 0


def test_database_url_goes_before_the_api(empty: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert empty.database_url
    monkeypatch.setenv("DATABASE_URL", empty.database_url)
    done = typed("db", "migrate")
    assert done.code == 0, done.err
    assert "through DATABASE_URL" in done.err
    assert typed("db", "status").code == 0
    assert (versions(empty), empty.statements) == (EVERY, [])


def test_another_projects_database_is_not_migrated(empty: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    other = HOST.replace(REF, "zyxwvutsrqponmlkjihg")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://postgres:secret@{other}:5432/postgres")
    for words in (("migrate",), ("migrate", "--check"), ("status",), ("psql",)):
        done = typed("db", *words)
        assert (done.code, "secret" in done.err) == (2, False)
        assert f"DATABASE_URL is another project's, not that of {REF}" in done.err
    assert empty.statements == []


def test_psql_needs_the_address(empty: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    done = typed("db", "psql")
    assert (done.code, "set DATABASE_URL" in done.err) == (2, True)
    assert empty.database_url
    monkeypatch.setenv("DATABASE_URL", empty.database_url)
    code, out, err = cli.run("db", "psql", "--", "-At", "-c", "select 40 + 2")
    assert (code, out) == (0, "42\n"), err


def test_no_password_of_database_url_is_shown(empty: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert empty.database_url
    monkeypatch.setenv("DATABASE_URL", empty.database_url + "&password=geheim")
    done = typed("db", "migrate")
    assert (done.code, "geheim" in done.err + done.out) == (0, False)
    assert db._without_password(os.environ["DATABASE_URL"])[1] == "geheim"


def test_whether_the_wall_stands_is_asked_for_the_user_who_works_there_not_for_the_one_who_reads(
    empty: ManagementApi, postgres: str
) -> None:
    reader = f"reader_{os.getpid()}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create role {reader} login".encode())
        connection.execute(f"grant pg_read_all_data to {reader}".encode())
        try:
            empty.reader = reader
            assert typed("db", "migrate").code == 0
            empty.statements.clear()
            done = typed("db", "status", "--json")
            assert (done.code, done.json["finding"]) == (0, "up to date"), done.err
            assert {path for path, _ in empty.statements} == {"/database/query/read-only"}
            with psycopg.connect(str(empty.database_url), autocommit=True) as owner:
                owner.execute("drop policy agentops_only_own on public.vouchers")
                assert "row-level security does not stand on every table" in typed("db", "status").out
                owner.execute(f"alter table agentops.migrations owner to {reader}".encode())
                assert f"the database user {reader} may not act as agentops_agent" in typed("db", "status").out
                owner.execute("alter table agentops.migrations owner to current_user")
        finally:
            connection.execute(f"drop role {reader}".encode())
