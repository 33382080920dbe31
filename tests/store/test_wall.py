"""The second wall is built where the database user may build it, and nothing breaks where they may not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from agentops.platforms.local import LocalPlatform
from agentops.store import schema
from agentops.store.database import Customer, Database

if TYPE_CHECKING:
    from collections.abc import Iterator

STRANGER, OTHER = "wall_stranger", "wall_other"
EXISTING = """
create table public.profiles (
    user_id uuid primary key default gen_random_uuid(), whatsapp_e164 text, display_name text);
create table public.vouchers (
    id uuid primary key default gen_random_uuid(), code_5 text not null, amount_minor integer not null,
    currency text not null default 'RWF', status text not null default 'issued', user_id uuid,
    whatsapp_e164 text not null, policy_number text not null, qr_payload text, issued_at timestamptz default now(),
    redeemed_at timestamptz, notes text, created_at timestamptz default now(), updated_at timestamptz default now());
insert into public.profiles (whatsapp_e164, display_name) values ('+250788000001', 'Ada');
"""


def as_user(url: str, user: str, database: str | None = None) -> str:
    fresh = url.replace("user=agentops", f"user={user}")
    return fresh.replace(urlsplit(url).path, f"/{database}", 1) if database else fresh


@pytest.fixture
def stranger(postgres: str) -> Iterator[str]:
    """A database with tables of its own, whose owner may create no roles and is no superuser."""
    admin, name = postgres.format(database="agentops"), "wall_existing"
    with psycopg.connect(admin, autocommit=True) as connection:
        for role in (STRANGER, OTHER):
            connection.execute(f"create role {role} login".encode())
        connection.execute(f"create database {name}".encode())
        connection.execute(f"grant create on database {name} to {STRANGER}".encode())
    inside = postgres.format(database=name)
    with psycopg.connect(inside, autocommit=True) as connection:
        connection.execute(EXISTING.encode())
        connection.execute(f"grant create on schema public to {STRANGER}".encode())
        for table in ("vouchers", "profiles"):
            connection.execute(f"alter table public.{table} owner to {STRANGER}".encode())
            connection.execute(f"grant all on public.{table} to {OTHER}".encode())
    yield inside
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())
        for role in (STRANGER, OTHER):
            connection.execute(f"drop role {role}".encode())


async def migrated(url: str) -> str | None:
    platform = await LocalPlatform.open(url, label="test", actor="tester@here", home=Path("unused"))
    try:
        await schema.migrate(platform)
        return await schema.wall_missing(platform)
    finally:
        await platform.close()


def whoami(url: str) -> str:
    async def run() -> str:
        database = await Database.open(url, size=1)
        try:
            async with database.money(Customer("+250788000001", "customer 1")) as own:
                return str((await own.query("select current_user as me"))[0]["me"])
        finally:
            await database.close()

    return asyncio.run(run())


def test_a_migrated_database_has_it(database_url: str) -> None:
    assert asyncio.run(migrated(database_url)) is None
    assert whoami(database_url) == "agentops_agent"


def test_a_user_who_may_not_build_it_migrates_all_the_same_and_is_told(stranger: str) -> None:
    url = as_user(stranger, STRANGER)
    missing = asyncio.run(migrated(url))
    assert missing
    assert whoami(url) == STRANGER, "the policy of the program stands alone"

    async def build() -> str | None:
        platform = await LocalPlatform.open(stranger, label="test", actor="tester@here", home=Path("unused"))
        try:
            return await schema.build_wall(platform)
        finally:
            await platform.close()

    assert asyncio.run(build()) is None, "a user who may builds it later"
    with psycopg.connect(stranger, autocommit=True) as connection:
        connection.execute(f"grant agentops_agent to {STRANGER}, {OTHER}".encode())
    assert whoami(url) == "agentops_agent"
    with psycopg.connect(as_user(stranger, OTHER)) as connection:
        rows = connection.execute("select display_name from public.profiles").fetchall()
        assert rows == [("Ada",)], "other roles keep what they could do, members that have not become the role too"
