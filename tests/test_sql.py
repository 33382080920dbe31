"""Every SQL statement is one that the migrated schema understands."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from agentops import sql

PACKAGE = Path(__file__).parent.parent / "src" / "agentops"
_PLACE = re.compile(r"%(?:\((?P<name>\w+)\)s|%)")


def statements() -> list[tuple[str, str]]:
    """Every section of every .sql file beside a module, as `file:section` and text."""
    files = [file for file in sorted(PACKAGE.rglob("*.sql")) if file.parent.name != "migrations"]
    return [
        (f"{file.relative_to(PACKAGE)}:{name}", text)
        for file in files
        for name, text in sql.parse(file.read_text(encoding="utf-8")).items()
    ]


def numbered(statement: str) -> str:
    """The statement with `$1, $2, …` for its named parameters, as psycopg sends it."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "%"
        if found["name"] not in names:
            names.append(found["name"])
        return f"${names.index(found['name']) + 1}"

    return _PLACE.sub(place, statement) if _PLACE.search(statement) else statement


def test_every_statement_can_be_prepared(postgres: str, template: str) -> None:
    name = "prepared_statements"
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}".encode())
    found, wrong = statements(), []
    with psycopg.connect(postgres.format(database=name), autocommit=True) as connection:
        for number, (where, text) in enumerate(found):
            if "do $$" in text:  # parsed when it runs; the tests of its module run it
                continue
            try:
                connection.execute(f"prepare statement_{number} as {numbered(text)}".encode())
            except psycopg.Error as error:
                wrong.append(f"{where}: {error}")
    assert len(found) > 20, "the test examined something"
    assert wrong == []


def test_a_wrong_statement_would_be_found(database_url: str) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.UndefinedColumn),
    ):
        connection.execute(b"prepare wrong as select no_such_column from agentops.flags")


def test_every_section_is_used() -> None:
    unused = []
    for file in PACKAGE.rglob("*.sql"):
        if file.parent.name == "migrations":
            continue
        module = file.with_suffix(".py").read_text(encoding="utf-8")
        unused += [
            f"{file.name}:{name}" for name in sql.parse(file.read_text(encoding="utf-8")) if f'"{name}"' not in module
        ]
    assert unused == []


def test_sections_are_split_by_their_headings() -> None:
    text = "-- about the file\n\n-- one --\nselect 1;\n\n-- two --\n-- a reason\nselect 2;\n"
    assert sql.parse(text) == {"one": "select 1", "two": "-- a reason\nselect 2"}


def test_a_section_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        sql.parse("-- one --\nselect 1;\n-- one --\nselect 2;\n")
