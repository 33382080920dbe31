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

_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration that this database has."""

    version: int
    name: str
    changed: bool


async def version(queries: Queries) -> int | None:
    """The newest migration that the database has; None where our schema is missing."""
    rows = await queries.query(_SQL["exists"])
    if not rows[0]["present"]:
        return None
    newest: int | None = (await queries.query(_SQL["version"]))[0]["version"]
    return newest


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
    if await version(queries) == migrations.needed():
        return [Applied(item.version, item.name, changed=False) for item in migrations.migrations()]
    await queries.query(_SQL["lock"], {"key": migrations.LOCK})
    try:
        await queries.query(migrations.TABLE)
        have = (await queries.query(_SQL["version"]))[0]["version"] or 0
        applied = []
        for item in migrations.migrations():
            if item.version > have:
                await queries.query(item.script)
            applied.append(Applied(item.version, item.name, changed=item.version > have))
        return applied
    finally:
        await queries.query(_SQL["unlock"], {"key": migrations.LOCK})
