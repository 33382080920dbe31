"""Who changed what on a hosted project, in the words that a stack of one's own uses for it: names, never values.

    async with auditing(…, asked) as done:  the change; done.extend(what came of it)
      ├─ ended well                → done
      └─ failed, or interrupted    → what was asked for, with its outcome, where anything had been sent

Around every change there is, in `SupabasePlatform`; the kill switch notes its own (incidents/hosted.py). What must
not be done without its entry is written down before: `record`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, Kind
from agentops.settings import TRUTHY, is_flag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from agentops.platforms import Deployment, Flag, SecretChange
    from agentops.platforms.supabase import SupabasePlatform

# What ran, if only for a moment.
_RAN = {"active", "unverified", "replaced", "deleted"}


@dataclass(frozen=True, slots=True)
class Act:
    """One audit entry, but for who and when."""

    action: str
    subject: str
    detail: Mapping[str, object] = field(default_factory=dict)


@asynccontextmanager
async def auditing(platform: SupabasePlatform, asked: Sequence[Act]) -> AsyncIterator[list[Act]]:
    """Note what is appended to the list that this gives; where the block fails, what was asked for."""
    done: list[Act] = []
    before = platform.api.changes
    try:
        yield done
    except AgentOpsError as failure:
        if platform.api.changes != before:
            write(platform, failed(asked, failure.kind))
            await platform.books.send()  # where that fails as well, the failure itself says enough
        raise
    except BaseException:
        if platform.api.changes != before:
            write(platform, failed(asked, Kind.INTERRUPTED))
        raise
    try:
        await platform.books.free("audit")
    finally:
        write(platform, done)
    await platform.books.send()
    if done:
        platform.books.remark()


def failed(acts: Iterable[Act], kind: Kind) -> list[Act]:
    """The same, of which nobody knows how far it came; `outcome` is the kind of the failure."""
    return [replace(act, detail={**act.detail, "outcome": kind.label}) for act in acts]


async def record(platform: SupabasePlatform, acts: Sequence[Act]) -> None:
    """Write entries down before what they tell of is done.

    Raises:
        AgentOpsError: neither this machine nor the project's database has them.
    """
    await platform.books.free("audit")
    try:
        platform.books.write("audit", _entries(platform, acts))
    except AgentOpsError as failure:
        held = [platform.books.hold("audit", entry) for entry in _entries(platform, acts)]
        await platform.books.send_held("audit", held, failure)
        return
    await platform.books.send()
    platform.books.remark()


def write(platform: SupabasePlatform, acts: Sequence[Act]) -> None:
    """Write entries down; a disk that is full is said, and keeps nothing from being done or from being sent."""
    entries = _entries(platform, acts)
    try:
        if entries:
            platform.books.write("audit", entries)
    except AgentOpsError as failure:
        platform.told(f"note: {failure.message}: no audit entry of it on this machine")
        for entry in entries:
            platform.books.hold("audit", entry)


def _entries(platform: SupabasePlatform, acts: Sequence[Act]) -> list[dict[str, Any]]:
    return [
        {"actor": platform.actor, "action": act.action, "subject": act.subject, "detail": dict(act.detail)}
        for act in acts
    ]


def of_flags(flags: Iterable[Flag], *, enabled: bool) -> list[Act]:
    """Flags that were switched."""
    return [Act("flag.enable" if enabled else "flag.disable", flag.secret) for flag in flags if flag.changed]


def of_secrets(changes: Iterable[SecretChange], values: Mapping[str, str | None]) -> list[Act]:
    """Secrets and flags that were set and unset."""
    return [
        Act(
            action=_word(change.name, values.get(change.name)),
            subject=change.name,
            detail={"digest": change.digest} if change.digest else {},
        )
        for change in changes
        if change.status in {"set", "unset"}
    ]


def of_names(values: Mapping[str, str | None]) -> list[Act]:
    """Secrets and flags that shall be set and unset."""
    return [Act(_word(name, value), name) for name, value in values.items()]


def of_deployments(action: str, results: Iterable[Deployment]) -> list[Act]:
    """Functions that ran afterwards, or do not any more; `outcome` where another word than done belongs to it."""
    return [
        Act(action, result.slug, {name: value for name, value in _about(result).items() if value is not None})
        for result in results
        if result.status in _RAN and (result.changed or result.status == "replaced")
    ]


def _about(result: Deployment) -> dict[str, object]:
    outcome = result.status if result.status in {"unverified", "replaced"} else None
    return {"version": result.version, "sha256": result.sha256, "outcome": outcome}


def _word(name: str, value: str | None) -> str:
    if not is_flag(name):
        return "secret.unset" if value is None else "secret.set"
    if value is None:
        return "flag.unset"
    return "flag.enable" if value.strip().lower() in TRUTHY else "flag.disable"
