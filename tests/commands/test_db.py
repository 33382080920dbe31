"""`agentops db`: on a fresh stack, on none, and on one whose tables were there before us."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops.commands import db
from tests.commands.line import typed

if TYPE_CHECKING:
    from collections.abc import Iterator

# The tables as a deployed stack has them, its defect included: `cancelled` is allowed and `void` refused.
_EXISTING = b"""
create table public.profiles (user_id uuid primary key, whatsapp_e164 text, display_name text, locale text);
create table public.vouchers (
    id uuid primary key default gen_random_uuid(), code_5 text not null, amount_minor integer not null,
    currency text not null default 'RWF',
    status text not null check (status = any (array['issued', 'redeemed', 'expired', 'cancelled'])),
    user_id uuid, whatsapp_e164 text not null, policy_number text not null, plate text, qr_payload text,
    issued_at timestamptz default now(), redeemed_at timestamptz, created_at timestamptz default now());
insert into public.vouchers (code_5, amount_minor, status, whatsapp_e164, policy_number)
values ('00001', 100, 'cancelled', '+250788000000', 'OLD-1');
"""


@pytest.fixture
def empty_url(postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without our schema, the target of every command."""
    name = f"empty_{os.getpid()}"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        monkeypatch.setenv("AGENTOPS_TARGET", postgres.format(database=name))
        yield postgres.format(database=name)
        connection.execute(f"drop database {name} with (force)".encode())


def run(url: str, statement: bytes) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_an_empty_database_is_refused_until_it_is_migrated(empty_url: str) -> None:
    assert empty_url
    refused = typed("flags", "list")
    assert refused.code == 2
    assert "agentops db migrate" in refused.err
    assert typed("db", "status", "--json").code == 3
    assert typed("db", "migrate", "--check").code == 3
    assert typed("flags", "list").code == 2, "a check writes nothing"
    assert {entry["changed"] for entry in typed("db", "migrate", "--json").json} == {True}
    assert {entry["changed"] for entry in typed("db", "migrate", "--json").json} == {False}
    assert typed("db", "migrate", "--check").code == 0
    assert typed("flags", "list").code == 0


def test_an_existing_stack_is_used_as_it_is_and_may_void_afterwards(empty_url: str) -> None:
    run(empty_url, _EXISTING)
    before = typed("db", "status", "--json")
    assert (before.code, before.json["version"], before.json["refuses_void"]) == (3, None, "vouchers_status_check")
    assert "widen vouchers_status_check, which refuses status void" in before.json["finding"]
    assert typed("db", "migrate").code == 0
    after = typed("db", "status", "--json").json
    assert (after["refuses_void"], after["version"]) == (None, after["needed"])
    assert {table["name"]: table["missing"] for table in after["tables"]} == {
        "profiles": [],
        "vouchers": ["notes", "updated_at"],
    }
    run(empty_url, b"update public.vouchers set status = 'void'")
    with pytest.raises(psycopg.errors.CheckViolation):
        run(empty_url, b"update public.vouchers set status = 'nonsense'")
    assert run(empty_url, b"select policy_number from public.vouchers") == [("OLD-1",)]


def test_a_constraint_that_comes_back_is_named_and_widened_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    run(database_url, b"alter table public.vouchers drop constraint vouchers_status_check")
    run(database_url, b"alter table public.vouchers add constraint mine check (status in ('issued', 'redeemed'))")
    assert typed("db", "status", "--json").json["refuses_void"] == "mine"
    assert typed("db", "migrate", "--check").code == 3
    assert typed("db", "migrate", "--json").json[-1]["name"] == "allow void in mine"
    assert typed("db", "status").code == 0


def test_psql_gets_its_arguments_and_its_exit_code_counts(database_url: str) -> None:
    environment = {**os.environ, "AGENTOPS_TARGET": database_url, "PYTHONPATH": "src"}
    command = [sys.executable, "-m", "agentops", "db", "psql", "--", "-At", "-c"]
    good = subprocess.run([*command, "select 40 + 2"], env=environment, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, "42\n")
    bad = subprocess.run([*command, "select 1/0"], env=environment, capture_output=True, text=True, check=False)
    assert bad.returncode == 1


@pytest.mark.parametrize(
    ("url", "without", "password"),
    [
        ("postgresql://me:s%40cret@db:1/stack?sslmode=on", "postgresql://me@db:1/stack?sslmode=on", "s@cret"),
        ("postgresql:///stack?host=%2Frun&password=x", "postgresql:///stack?host=%2Frun", "x"),
        ("postgresql://db/stack", "postgresql://db/stack", None),
    ],
)
def test_no_password_is_on_psqls_command_line(url: str, without: str, password: str | None) -> None:
    assert db._without_password(url) == (without, password)
