"""Migrations: each is applied once, by whoever comes first, and opens nothing to web visitors."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops.platforms.local import LocalPlatform
from agentops.store import migrations, schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentops.store.schema import Applied

TABLES = ("public.profiles", "public.vouchers")


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """A database without our schema."""
    name = f"schema_{os.getpid()}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        yield postgres.format(database=name)
        connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def visited(empty: str) -> Iterator[str]:
    """The same, where web visitors are granted every table that is made in `public`, as Supabase has it."""
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("create role anon nologin")
        connection.execute("create role authenticated nologin")
        connection.execute("alter default privileges in schema public grant all on tables to anon, authenticated")
        yield empty
        connection.execute("drop owned by anon, authenticated")
        connection.execute("drop role anon, authenticated")


def migrated(url: str, times: int = 1) -> list[list[Applied]]:
    async def one() -> list[Applied]:
        platform = await LocalPlatform.open(url, label="test", actor="tester@here", home=Path("unused"))
        try:
            return await schema.migrate(platform)
        finally:
            await platform.close()

    async def all_at_once() -> list[list[Applied]]:
        return await asyncio.gather(*(one() for _ in range(times)))

    return asyncio.run(all_at_once())


def open_to_visitors(url: str) -> list[bool]:
    with psycopg.connect(url, autocommit=True) as connection:
        statement = b"select has_table_privilege('anon', t, 'insert') from unnest(%s::text[]) t"
        return [row[0] for row in connection.execute(statement, (list(TABLES),)).fetchall()]


def test_migrators_at_once_apply_each_once(empty: str) -> None:
    results = migrated(empty, times=4)
    applied = [item.version for each in results for item in each if item.changed]
    assert sorted(applied) == [item.version for item in migrations.migrations()]
    assert [item.changed for item in migrated(empty)[0]] == [False] * migrations.needed()


def test_tables_that_are_made_are_not_open_to_web_visitors(visited: str) -> None:
    migrated(visited)
    assert open_to_visitors(visited) == [False, False]


def test_tables_that_were_there_keep_their_grants(visited: str) -> None:
    with psycopg.connect(visited, autocommit=True) as connection:
        connection.execute("create table public.profiles (user_id uuid primary key, whatsapp_e164 text)")
    migrated(visited)
    assert open_to_visitors(visited) == [True, False]
