"""A project's secrets: the API lists SHA-256 digests, so what is set can be compared without any value.

changed(values) → GET → equal digest: unchanged → one POST (set), then one DELETE (unset)

Source: https://supabase.com/docs/reference/api/v1-list-all-secrets
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, NotFound, TimedOut, Unavailable, UsageError
from agentops.platforms import SecretChange, SecretInfo
from agentops.secret_values import MAXIMUM_AT_ONCE, SHOWN_DIGITS, digest, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms.supabase.management import Management

RESERVED = "SUPABASE_"


async def digests(api: Management, *, attempts: int = 4) -> dict[str, str]:
    """The digest (64 hexadecimal digits) of every secret by name, without Supabase's own ones."""
    return {row["name"]: row["value"] for row in await _rows(api, attempts=attempts)}


async def listed(api: Management) -> list[SecretInfo]:
    """Every secret and flag by name; neither version nor author is known to the API."""
    return [
        SecretInfo(row["name"], row["value"][:SHOWN_DIGITS], None, None, _time(row.get("updated_at")))
        for row in sorted(await _rows(api), key=lambda row: str(row["name"]))
    ]


async def changed(api: Management, values: Mapping[str, str | None], *, check: bool) -> list[SecretChange]:
    """Set secrets and flags; None unsets. What is equal is not sent; all that is set goes in one request.

    Where some were set and the others could not be unset, those are `failed` and say why.

    Raises:
        UsageError: a name or value that cannot be, or too many of them.
    """
    reserved = [name for name in values if name.startswith(RESERVED)]
    if reserved:
        words = f"{', '.join(reserved)}: names that begin with {RESERVED} are Supabase's own; nothing was sent"
        raise UsageError(words, "choose another name")
    texts = {name: None if value is None else stored(name, value) for name, value in values.items()}
    now = await digests(api)
    whole = {*now, *(name for name, text in texts.items() if text is not None)}
    whole -= {name for name, text in texts.items() if text is None}
    if len(whole) > MAXIMUM_AT_ONCE and whole - now.keys():
        raise UsageError(f"that would be {len(whole)} secrets, a project has at most {MAXIMUM_AT_ONCE}", "unset some")
    plan = [_plan(name, text, now.get(name), check=check) for name, text in texts.items()]
    if not check:
        moving = {change.name for change in plan if change.changed}
        new = {name: text for name, text in texts.items() if name in moving and text is not None}
        await put(api, new)
        gone = [name for name, text in texts.items() if name in moving and text is None]
        # Set first, then unset: whatever breaks off, no value is lost that has a new one.
        failure = await _unset(api, gone)
        if failure is not None and not new:
            raise failure
        if failure is not None:
            return [_not_unset(change, failure) if change.name in gone else change for change in plan]
    return plan


async def _unset(api: Management, names: list[str]) -> AgentOpsError | None:
    """Unset them in one request; why that failed. One that is gone already is as it should be."""
    if not names:
        return None
    try:
        await api.send("DELETE", "/secrets", json=names, repeatable=True)
    except NotFound:
        return None  # somebody else was faster
    except AgentOpsError as failure:
        return failure
    return None


def _not_unset(change: SecretChange, failure: AgentOpsError) -> SecretChange:
    known = "whether it is unset is not known" if isinstance(failure, TimedOut) else "not unset"
    return replace(change, status="failed", changed=False, finding=f"{known}: {failure.message}")


async def put(api: Management, texts: Mapping[str, str], *, within: float | None = None) -> None:
    """Set them in one request; nothing where there are none. `within`: as for `Management.send`."""
    if texts:
        body = [{"name": name, "value": text} for name, text in texts.items()]
        await api.send("POST", "/secrets", json=body, repeatable=True, within=within)


def _plan(name: str, text: str | None, there: str | None, *, check: bool) -> SecretChange:
    if text is None and there is None:
        return SecretChange(name, "absent", changed=False)
    found = None if text is None else digest(text)
    if found is not None and found == there:
        return SecretChange(name, "unchanged", changed=False, digest=found[:SHOWN_DIGITS])
    status = "would_change" if check else "unset" if text is None else "set"
    return SecretChange(name, status, changed=True, digest=found[:SHOWN_DIGITS] if found else None)


async def _rows(api: Management, *, attempts: int = 4) -> list[dict[str, Any]]:
    answer = await api.get("/secrets", attempts=attempts)
    match answer:
        case [*rows] if all(map(_is_row, rows)):
            return [row for row in rows if not row["name"].startswith(RESERVED)]
    raise Unavailable("Supabase's list of secrets cannot be read", "try again; https://status.supabase.com")


def _is_row(row: object) -> bool:
    match row:
        case {"name": str(), "value": str()}:
            return True
    return False


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
