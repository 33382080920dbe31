"""Flags as rows: PostgreSQL's clock decides when a timed change ends, so nothing has to be alive for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentops.platforms import Flag
from agentops.settings import KNOWN_FLAGS, flag_alias
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries, Row

_SQL = statements(__file__)


async def listed(queries: Queries) -> list[Flag]:
    """The known flags first, then whatever other flag is stored; a flag without a row is off."""
    stored = {flag.secret: flag for flag in map(_flag, await queries.query(_SQL["flags"]))}
    known = [stored.pop(secret, Flag(alias, secret, enabled=False)) for alias, secret in KNOWN_FLAGS.items()]
    return known + sorted(stored.values(), key=lambda flag: flag.name)


async def changed(
    queries: Queries, names: Sequence[str], *, enabled: bool, seconds: float | None, actor: str, check: bool
) -> list[Flag]:
    """Switch flags in one statement, each with its audit row; the result keeps the order of `names`."""
    unique = list(dict.fromkeys(names))
    if check:
        now = {flag.secret: flag for flag in await listed(queries)}
        before = [now.get(name, Flag(flag_alias(name), name, enabled=False)) for name in unique]
        return [replace(flag, changed=seconds is not None or _differs(flag, enabled=enabled)) for flag in before]
    parameters = {"names": unique, "enabled": enabled, "seconds": seconds, "actor": actor}
    rows = {str(row["name"]): _flag(row) for row in await queries.query(_SQL["set_flags"], parameters)}
    return [rows[name] for name in unique]


def _differs(flag: Flag, *, enabled: bool) -> bool:
    # A flag without a row is off, but may follow another one: switching it off for good writes the row.
    return flag.enabled != enabled or flag.until is not None or flag.updated_at is None


def _flag(row: Row) -> Flag:
    name = str(row["name"])
    return Flag(
        name=flag_alias(name),
        secret=name,
        enabled=row["enabled"],
        until=row["until"],
        changed=bool(row.get("changed", False)),
        updated_by=row["updated_by"],
        updated_at=row["updated_at"],
    )
