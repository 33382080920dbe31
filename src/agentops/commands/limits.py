"""See and set the limits of vouchers and of what the model costs: per customer and day, for all customers and day.

They bind chat and voice, staff too. Operators' direct calls are bound by day-count and day-sum, where these are set.
Example: limits set customer-day-count=3 customer-day-cost=0.50
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from agentops.commands import Check
from agentops.errors import Kind, UsageError
from agentops.session import Answer, Session

if TYPE_CHECKING:
    from agentops.store.limits import Known

Settings = Annotated[
    list[str],
    typer.Argument(metavar="NAME=VALUE…", help="A number (amounts in whole units, dollars as 0.50), none, or default."),
]
_LARGEST = 10**12
_HALF_DAY = 14 * 60
_WHOLE, _SIGNED, _FINE = re.compile("[0-9]+"), re.compile("-?[0-9]+"), re.compile("[0-9]+([.][0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in force: `value` None is no limit; `used` is today's, where all customers share it.

    The cost that is used counts requests under way, and lost ones, as the most that they can cost.
    """

    name: str
    value: int | float | None
    unit: str = field(metadata={"spare": 4})
    used: int | float | None
    default: int | float | None = field(metadata={"spare": 3})
    what: str
    updated_by: str | None = field(metadata={"spare": 2})
    updated_at: datetime | None = field(metadata={"spare": 1})


@dataclass(frozen=True, slots=True)
class LimitChange:
    """What became of one limit."""

    name: str
    value: int | float | None
    previous: int | float | None
    changed: bool


async def show(session: Session) -> list[Limit]:
    """Show every limit: in force, used today, its default, who set it."""
    from agentops.store import costs, limits

    platform = await session.local()
    found = await limits.rules(platform)
    usage, cost = await limits.used(platform, found), await costs.used(platform, found)
    today = {"day-count": usage.count, "day-sum": usage.amount // 100, "day-cost": cost.total}
    shown = []
    for name, known in limits.KNOWN.items():
        stored = found.stored.get(name)
        shown.append(
            Limit(
                name,
                known.shown(found.value(name)),
                known.unit,
                known.shown(today.get(name)),
                known.shown(known.default),
                known.what,
                stored.updated_by if stored else None,
                stored.updated_at if stored else None,
            )
        )
    return shown


async def set_(session: Session, settings: Settings, check: Check = False) -> Answer:
    """Set limits, at once on every server; NAME=none is no limit, NAME=default goes back to the built-in value."""
    from agentops.store import limits

    values, cleared = _read(settings, limits.KNOWN)
    platform = await session.local()
    before = await limits.rules(platform)
    if check:
        changed = {name for name in cleared if name in before.stored}
        changed |= {name for name, value in values.items() if _differs(before, name, value)}
    else:
        changed = await limits.change(platform, values, cleared, session.process.actor)
    after = {**values, **{name: limits.KNOWN[name].default for name in cleared}}
    changes = []
    for name, value in after.items():
        known = limits.KNOWN[name]
        changes.append(LimitChange(name, known.shown(value), known.shown(before.value(name)), name in changed))
    return Answer(changes, Kind.DIFFERS if check and changed else Kind.DONE)


def _differs(before: object, name: str, value: int | None) -> bool:
    stored = getattr(before, "stored", {}).get(name)
    return stored is None or stored.value != value


def _read(settings: list[str], known: Mapping[str, Known]) -> tuple[dict[str, int | None], list[str]]:
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
            values[name] = None if text == "none" else _number(name, text, known[name])
        else:
            raise UsageError(f"{setting!r} says no value", f"agentops limits set {name}=VALUE")
    return values, cleared


def _number(name: str, text: str, known: Known) -> int:
    """A value as it is stored."""
    offset, fine = name == "day-offset-minutes", known.scale > 1
    digits = _FINE if fine else _SIGNED if offset else _WHOLE
    value = int(Decimal(text) * known.scale) if digits.fullmatch(text) else None
    if value is None or abs(value) > (_HALF_DAY if offset else _LARGEST):
        expected = "a whole number, none, or default"
        if offset:
            expected = f"minutes from -{_HALF_DAY} to {_HALF_DAY}"
        elif fine:
            expected = "US dollars such as 2 or 0.25, none, or default"
        raise UsageError(f"{name}={text} is not understood", f"it may be {expected}")
    return value
