"""Numbered migrations of our schema, forward only; the newest number is the version this program needs.

0001_stack.sql, 0002_….sql → agentops.migrations(version, name, applied_at)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

# All migrators take turns on this advisory lock.
LOCK = 0x61676F7073
# One script is one transaction, and one request where the database is reached over HTTP, which keeps no session: lock,
# look, migrate. So it may be run twice, by anybody, at any moment; its row says whether this run made the change.
_SCRIPT = """
do $agentops_lock$ begin perform pg_advisory_xact_lock({lock}); end $agentops_lock$;
create schema if not exists agentops;
create table if not exists agentops.migrations (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
);
do $agentops_migration$
begin
    if not exists (select from agentops.migrations where version >= {version}) then
        execute $agentops_script${script}
            insert into agentops.migrations (version, name) values ({version}, '{name}');
        $agentops_script$;
    end if;
end
$agentops_migration$;
select xmin = pg_current_xact_id()::xid as changed from agentops.migrations where version = {version};
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
    return tuple(Migration(int(file.name[:4]), file.stem[5:], _guarded(file)) for file in files)


def needed() -> int:
    """The schema version that this program works with, from the file names alone."""
    return max(int(file.name[:4]) for file in Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _guarded(file: Path) -> str:
    version, name = int(file.name[:4]), file.stem[5:]
    return _SCRIPT.format(lock=LOCK, version=version, name=name, script=file.read_text(encoding="utf-8"))
