"""Numbered migrations of our schema, forward only; the newest number is the version this program needs.

0001_stack.sql, 0002_….sql → agentops.migrations(version, name, applied_at)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

# All migrators take turns on this advisory lock.
LOCK = 0x61676F7073
TABLE = """
create schema if not exists agentops;
create table if not exists agentops.migrations (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    script: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations shipped with this program, in order."""
    files = sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return tuple(
        Migration(int(file.name[:4]), file.stem[5:], file.read_text(encoding="utf-8") + _record(file)) for file in files
    )


def needed() -> int:
    """The schema version that this program works with, from the file names alone."""
    return max(int(file.name[:4]) for file in Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _record(file: Path) -> str:
    # Part of the migration's own script, and so of its transaction: half a migration is never recorded.
    values = f"({int(file.name[:4])}, '{file.stem[5:]}')"
    return f"\ninsert into agentops.migrations (version, name) values {values};\n"
