"""How a PostgreSQL address is shown, and when two of them lead to the same database."""

from __future__ import annotations

import pytest

from agentops.addresses import places, without_password


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:s3cret@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://me:s3@cret@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://me:s3/cret@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://me:s3?cret@/stack?host=%2Frun", "postgresql://me:***@/stack?host=%2Frun"),
        ("postgresql://me:s3?cret=x@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://me:s3/cr?et@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://me:s3?cret=/x@db/stack", "postgresql://me:***@db/stack"),
        ("postgresql://:s3cret@db/stack", "postgresql://:***@db/stack"),
        ("postgresql://me:s3cret@[bad/stack", "postgresql://me:***@[bad/stack"),
        ("postgresql://me:s3cret@one:1,two:2/stack", "postgresql://me:***@one:1,two:2/stack"),
        ("postgresql://me:s3cret/stack", "postgresql://me:***/stack"),
        ("postgresql://db/stack?user=me&password=s3cret&a=b", "postgresql://db/stack?user=me&password=***&a=b"),
        ("postgresql://db/stack?pass%77ord=s3cret", "postgresql://db/stack?pass%77ord=***"),
        ("postgresql://db/stack?sslpassword=s3cret", "postgresql://db/stack?sslpassword=***"),
        ("postgresql://db/stack?sslkey=s3cret&passfile=s3cret", "postgresql://db/stack?sslkey=***&passfile=***"),
        ("host=db password=s3cret user=me", "host=db password=*** user=me"),
        ("host=db password = 's3 cret' user=me", "host=db password = *** user=me"),
        ("postgresql://me@db/stack?application_name=a@b", "postgresql://me@db/stack?application_name=a@b"),
        ("postgresql://db:5432/stack?user=a@b", "postgresql://db:5432/stack?user=a@b"),
        ("postgresql://me:s3cret@db/stack?user=a@b", "postgresql://me:***@db/stack?user=a@b"),
        ("postgresql://[::1]:5432/stack", "postgresql://[::1]:5432/stack"),
        ("postgresql://one:1,two:2/stack", "postgresql://one:1,two:2/stack"),
        ("supabase://abcdefghijklmnopqrst", "supabase://abcdefghijklmnopqrst"),
        ("local", "local"),
    ],
)
def test_a_password_is_masked_wherever_it_stands_and_nothing_else(address: str, shown: str) -> None:
    assert without_password(address) == shown


SAME = "postgresql://me:s3cret@db.example:5432/stack"


@pytest.mark.parametrize(
    "other",
    [
        "postgres://me:s3cret@db.example:5432/stack",
        "postgresql://db.example/stack",
        "postgresql://other@DB.Example.:5432/stack?application_name=x",
        "postgresql://me:a?b@db.example/stack",
        "postgresql:///stack?host=db.example",
        "postgresql://db.example?dbname=stack",
        "postgresql://stack@db.example",
        "postgresql://standby:5433,db.example:5432/stack",
        "postgresql://db.exampl%65/st%61ck",
    ],
)
def test_one_database_is_known_however_its_address_is_written(other: str) -> None:
    assert places(SAME) & places(other)


@pytest.mark.parametrize(
    "other",
    [
        "postgresql://db.example:5433/stack",
        "postgresql://db.example/other",
        "postgresql://other.example/stack",
        "postgresql:///stack?host=/run/postgresql",
        "supabase://abcdefghijklmnopqrst",
        "local",
    ],
)
def test_another_host_port_or_database_is_another_one(other: str) -> None:
    assert not places(SAME) & places(other)


def test_this_machine_and_its_sockets_are_told_apart() -> None:
    assert places("postgresql://localhost/x") == places("postgresql://127.0.0.1/x") == places("postgresql://[::1]/x")
    assert places("postgresql:///x?host=%2Frun%2Fa") == places("postgres:///x?host=/run/a&application_name=b")
    assert not places("postgresql:///x?host=/run/a") & places("postgresql:///x?host=/run/b")
