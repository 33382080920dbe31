"""Secrets as sealed rows; `FEATURE_AGENT_*` names of the same namespace are flags, stored in clear.

changed(values) → equal digest: unchanged → sealed to the stack's public key → one statement: rows, flags, audit
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentops import seal
from agentops.errors import Conflict, UsageError
from agentops.platforms import SecretChange, SecretInfo
from agentops.secret_values import MAXIMUM_AT_ONCE, SHOWN_DIGITS, digest, stored
from agentops.settings import is_flag
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentops.platforms import Queries, Row

_SQL = statements(__file__)


async def listed(queries: Queries) -> list[SecretInfo]:
    """All secrets and flags by name; never a value."""
    return [_info(row) for row in await queries.query(_SQL["listed"])]


async def values(queries: Queries, private_key: str) -> dict[str, str]:
    """Every secret's value, by name. For the holders of the private key: servers, this machine's `status`, `invoke`.

    Raises:
        UsageError: a secret does not open with this key.
    """
    rows = await queries.query(_SQL["sealed"])
    return {row["name"]: seal.unseal(private_key, row["name"], row["version"], bytes(row["sealed"])) for row in rows}


async def changed(queries: Queries, values: Mapping[str, str | None], *, actor: str, check: bool) -> list[SecretChange]:
    """Set secrets and flags; None unsets. Equal values are left alone. All or none, in one statement.

    Raises:
        UsageError: a name or value that cannot be, or a database without a stack key.
        Conflict: someone else changed one of them at the same time; nothing was done.
    """
    texts = {name: None if value is None else stored(name, value) for name, value in values.items()}
    if len(texts) > MAXIMUM_AT_ONCE:
        raise UsageError(f"{len(texts)} secrets at once, the limit is {MAXIMUM_AT_ONCE}", "set them in several files")
    now = {row["name"]: row for row in await queries.query(_SQL["present"], {"names": list(texts)})}
    plan = {name: _plan(name, text, now.get(name)) for name, text in texts.items()}
    moving = {name: texts[name] for name, change in plan.items() if change.changed}
    if check:
        return [_would(change) for change in plan.values()]
    if not moving:
        return list(plan.values())
    rows = await queries.query(_SQL["change"], await _parameters(queries, moving, now, actor))
    if any(row["stale"] for row in rows):
        names = ", ".join(row["name"] for row in rows if row["stale"])
        raise Conflict(f"someone else changed {names} at the same time; nothing was done", "agentops secrets list")
    versions = {row["name"]: row["version"] for row in rows}
    return [_with_version(change, versions) for change in plan.values()]


async def _parameters(
    queries: Queries, moving: Mapping[str, str | None], now: Mapping[str, Row], actor: str
) -> dict[str, Any]:
    secrets = {name: text for name, text in moving.items() if not is_flag(name)}
    seen = {name: int(now[name]["version"]) if name in now else 0 for name in secrets}
    key = await _public_key(queries) if any(text is not None for text in secrets.values()) else ""
    return {
        "names": list(secrets),
        "sealed": [
            None if text is None else seal.seal(key, name, seen[name] + 1, text) for name, text in secrets.items()
        ],
        "digests": [None if text is None else digest(text) for text in secrets.values()],
        "seen": list(seen.values()),
        "flag_names": [name for name in moving if is_flag(name)],
        "flag_states": [None if text is None else text == "true" for name, text in moving.items() if is_flag(name)],
        "actor": actor,
    }


async def _public_key(queries: Queries) -> str:
    rows = await queries.query(_SQL["public_key"])
    if not rows:
        raise UsageError("this database has no stack key yet, so nothing can be sealed to it", "agentops up")
    return str(rows[0]["public_key"])


def _plan(name: str, text: str | None, row: Row | None) -> SecretChange:
    if row is not None and row["digest"] is None:
        row = None  # it was unset
    if text is None and row is None:
        return SecretChange(name, "absent", changed=False)
    version = row["version"] if row else None
    if text is None:
        return SecretChange(name, "unset", changed=True)
    found = digest(text)
    if row is not None and row["digest"] == found and not row["timed"]:
        return SecretChange(name, "unchanged", changed=False, digest=found[:SHOWN_DIGITS], version=version)
    return SecretChange(name, "set", changed=True, digest=found[:SHOWN_DIGITS], version=version)


def _would(change: SecretChange) -> SecretChange:
    return replace(change, status="would_change") if change.changed else change


def _with_version(change: SecretChange, versions: Mapping[str, int]) -> SecretChange:
    if change.status != "set":
        return change
    return replace(change, version=versions[change.name])


def _info(row: Row) -> SecretInfo:
    return SecretInfo(row["name"], row["digest"][:SHOWN_DIGITS], row["version"], row["updated_by"], row["updated_at"])
