"""Brings a database to the schema this program needs, and tells how far it is.

attach or connect → version() → migrate() (embedded: always; by URL: `up`, `serve`, `db migrate`) → commands
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.errors import UsageError
from agentops.sql import statements
from agentops.store import migrations

if TYPE_CHECKING:
    from agentops.platforms import Queries
    from agentops.store.migrations import Migration

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration that this database has."""

    version: int
    name: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table in `public` that the functions use; `missing` are columns they expect and it has not."""

    name: str
    present: bool
    missing: list[str]


async def version(queries: Queries) -> int | None:
    """The newest migration that the database has; None where our schema is missing."""
    rows = await queries.query(_SQL["exists"])
    if not rows[0]["present"]:
        return None
    newest: int | None = (await queries.query(_SQL["version"]))[0]["version"]
    return newest


async def refuses_void(queries: Queries) -> str | None:
    """The constraint of an existing `vouchers` table that refuses status `void`; None where nothing does."""
    rows = await queries.query(_SQL["refuses_void"])
    return ", ".join(str(row["name"]) for row in rows) or None


async def allow_void(queries: Queries) -> bool:
    """Widen such constraints by `void`; whether there was one.

    Raises:
        NotAuthorised: the table belongs to another user.
    """
    if await refuses_void(queries) is None:
        return False
    await queries.query(_SQL["allow_void"])
    return True


async def wall_missing(queries: Queries) -> str | None:
    """Why customers' tools run without row-level security here (schema version 2 and later); None where they do not."""
    why: str | None = (await queries.query(_SQL["wall_missing"]))[0]["why"]
    return why


async def owners_wall_missing(queries: Queries) -> str | None:
    """The same about the user who owns our schema, where another one asks (schema version 2 and later)."""
    why: str | None = (await queries.query(_SQL["owners_wall_missing"]))[0]["why"]
    return why


async def build_wall(queries: Queries) -> str | None:
    """Build what is missing of the second wall; why it could not be, or None where it stands."""
    why: str | None = (await queries.query(_SQL["build_wall"]))[0]["why"]
    return why


async def tables(queries: Queries) -> list[Table]:
    """The public tables that the functions use, as they are."""
    return [Table(**row) for row in await queries.query(_SQL["tables"])]


async def server_version(queries: Queries) -> str:
    """PostgreSQL's own version."""
    return str((await queries.query(_SQL["server_version"]))[0]["version"])


async def require(queries: Queries) -> None:
    """Refuse a database whose schema is missing or older than this program.

    Raises:
        UsageError: it is; the hint says how to migrate.
    """
    found = await version(queries)
    needed = migrations.needed()
    if found is None:
        raise UsageError("this database has no agentops schema yet", "agentops db migrate (with the same --target)")
    if found < needed:
        raise UsageError(
            f"this database's schema is version {found}, this agentops needs {needed}",
            "agentops db migrate (with the same --target)",
        )


async def migrate(queries: Queries) -> list[Applied]:
    """Apply what is missing, one transaction per migration; several migrators take turns.

    Raises:
        NotAuthorised: the database user may not create our schema.
    """
    have = await version(queries) or 0
    applied = [
        Applied(item.version, item.name, changed=item.version > have and await _applied(queries, item))
        for item in migrations.migrations()
    ]
    if have != migrations.needed():
        await allow_void(queries)
    return applied


async def _applied(queries: Queries, item: Migration) -> bool:
    """Whether it was missing until now; another migrator may have been here first."""
    return any(row["changed"] for row in await queries.query(item.script))
