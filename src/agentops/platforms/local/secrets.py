"""Secrets as sealed rows; `FEATURE_AGENT_*` names of the same namespace are flags, stored in clear.

changed(values) → equal digest: unchanged → sealed to the stack's public key → one statement: rows, flags, audit
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from agentops import seal
from agentops.errors import Conflict, UsageError
from agentops.platforms import SecretChange, SecretInfo
from agentops.settings import FALSY, FLAG_PREFIX, TRUTHY, is_flag
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentops.platforms import Queries, Row

_SQL = statements(__file__)
DIGITS = 12
MAXIMUM_NAME = 256
MAXIMUM_BYTES = 24_576
MAXIMUM_AT_ONCE = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAG = re.compile(FLAG_PREFIX + r"[A-Z0-9_]+")


def digest(value: str) -> str:
    """SHA-256 of a value, as 64 hexadecimal digits. A flag's value counts as `true` or `false`."""
    return hashlib.sha256(value.encode()).hexdigest()


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
    texts = {name: _checked(name, value) for name, value in values.items()}
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


def _checked(name: str, value: str | None) -> str | None:
    """The text to store: as given, for a flag `true` or `false`."""
    if not _NAME.fullmatch(name) or len(name) > MAXIMUM_NAME:
        raise UsageError(f"{name!r} is no name of a secret", "letters, digits and _, no digit first, 256 at most")
    if is_flag(name) and not _FLAG.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a flag", f"{FLAG_PREFIX} and then capital letters, digits, _")
    if value is None:
        return None
    if is_flag(name):
        word = value.strip().lower()
        if word not in TRUTHY | FALSY:
            raise UsageError(f"the value of {name} is neither on nor off", "write true or false")
        return "true" if word in TRUTHY else "false"
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAXIMUM_BYTES:
        raise UsageError(f"the value of {name} has {size:,} bytes, the limit is {MAXIMUM_BYTES:,}", "shorten it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the value of {name} is no UTF-8 text", "encode it, for example as base64") from None
    return value


def _plan(name: str, text: str | None, row: Row | None) -> SecretChange:
    if text is None and row is None:
        return SecretChange(name, "absent", changed=False)
    version = row["version"] if row else None
    if text is None:
        return SecretChange(name, "unset", changed=True)
    found = digest(text)
    if row is not None and row["digest"] == found and not row["timed"]:
        return SecretChange(name, "unchanged", changed=False, digest=found[:DIGITS], version=version)
    return SecretChange(name, "set", changed=True, digest=found[:DIGITS], version=version)


def _would(change: SecretChange) -> SecretChange:
    return SecretChange(change.name, "would_change", True, change.digest, change.version) if change.changed else change


def _with_version(change: SecretChange, versions: Mapping[str, int]) -> SecretChange:
    if change.status != "set":
        return change
    return SecretChange(change.name, "set", changed=True, digest=change.digest, version=versions[change.name])


def _info(row: Row) -> SecretInfo:
    return SecretInfo(row["name"], row["digest"][:DIGITS], row["version"], row["updated_by"], row["updated_at"])
