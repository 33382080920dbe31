"""See and set the limits of vouchers: per voucher, per customer and day, for all customers and day.

They bind chat and voice, staff too. Operators' direct calls are bound by day-count and day-sum, where these are set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from agentops.errors import Kind, UsageError
from agentops.session import Answer, Session

Check = Annotated[bool, typer.Option("--check", help="Only say what would change; exit 3 if something would.")]
Settings = Annotated[
    list[str],
    typer.Argument(metavar="NAME=VALUE…", help="A whole number (amounts in major units), none, or default."),
]
_LARGEST = 10**12
_HALF_DAY = 14 * 60


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in force: `value` None is no limit; `used` is today's, where all customers share it."""

    name: str
    value: int | None
    unit: str
    used: int | None
    default: int | None
    what: str
    updated_by: str | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class LimitChange:
    """What became of one limit."""

    name: str
    value: int | None
    previous: int | None
    changed: bool


async def show(session: Session) -> list[Limit]:
    """Show every limit: in force, used today, its default, who set it."""
    from agentops.store import limits

    platform = await session.platform()
    found = await limits.rules(platform)
    usage = await limits.used(platform, found)
    today = {"day-count": usage.count, "day-sum": usage.amount // 100}
    shown = []
    for name, known in limits.KNOWN.items():
        stored = found.stored.get(name)
        shown.append(
            Limit(
                name,
                found.value(name),
                known.unit,
                today.get(name),
                known.default,
                known.what,
                stored.updated_by if stored else None,
                stored.updated_at if stored else None,
            )
        )
    return shown


async def set_(session: Session, settings: Settings, check: Check = False) -> Answer:
    """Set limits, at once on every server; none takes a limit away, default gives up what was set."""
    from agentops.store import limits

    values, cleared = _read(settings, list(limits.KNOWN))
    platform = await session.platform()
    before = await limits.rules(platform)
    if check:
        changed = {name for name in cleared if name in before.stored}
        changed |= {name for name, value in values.items() if _differs(before, name, value)}
    else:
        changed = await limits.change(platform, values, cleared, session.process.actor)
    after = {**values, **{name: limits.KNOWN[name].default for name in cleared}}
    changes = [LimitChange(name, value, before.value(name), name in changed) for name, value in after.items()]
    return Answer(changes, Kind.DIFFERS if check and changed else Kind.DONE)


def _differs(before: object, name: str, value: int | None) -> bool:
    stored = getattr(before, "stored", {}).get(name)
    return stored is None or stored.value != value


def _read(settings: list[str], known: list[str]) -> tuple[dict[str, int | None], list[str]]:
    values: dict[str, int | None] = {}
    cleared: list[str] = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name not in known:
            raise UsageError(f"there is no limit {name!r}", f"the limits are {', '.join(known)}")
        if name in values or name in cleared:
            raise UsageError(f"{name} stands twice", "name each limit once")
        if text == "default":
            cleared.append(name)
        elif equals:
            values[name] = None if text == "none" else _number(name, text)
        else:
            raise UsageError(f"{setting!r} says no value", f"agentops limits set {name}=VALUE")
    return values, cleared


def _number(name: str, text: str) -> int:
    offset = name == "day-offset-minutes"
    digits = text.removeprefix("-") if offset else text
    if not (digits.isascii() and digits.isdigit()) or int(digits) > (_HALF_DAY if offset else _LARGEST):
        expected = f"minutes from -{_HALF_DAY} to {_HALF_DAY}" if offset else "a whole number, none, or default"
        raise UsageError(f"{name}={text} is not understood", f"it may be {expected}")
    return int(text)
