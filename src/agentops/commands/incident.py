"""Stop features in an incident, see what was done, and put it back.

The kill switch never asks. It needs the database only, and says who may still be working when it cannot be sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

import typer

from agentops.commands import Check, Yes
from agentops.errors import Kind, TimedOut
from agentops.incidents.kill_switch import Restored
from agentops.session import Answer, Session
from agentops.settings import KNOWN_FLAGS, flag_alias, flag_name
from agentops.store.incidents import Incident, Moment

Number = Annotated[int, typer.Argument(metavar="ID", help="The incident's number.")]


@dataclass(frozen=True, slots=True)
class Report:
    """An incident and everything that was done in its course."""

    id: int
    kind: str
    status: str
    reason: str
    features: Sequence[str]
    switched_off: Sequence[str]
    opened_by: str
    opened_at: datetime
    restored_by: str | None
    restored_at: datetime | None
    timeline: Sequence[Moment]

    def text(self) -> str:
        """The incident for eyes: what and why, then the timeline."""
        head = f"incident {self.id}: {self.kind}, {self.status}"
        off = ", ".join(self.switched_off) or "nothing was on"
        lines = [head, f"reason        {self.reason or 'none given'}", f"switched off  {off}", "timeline"]
        for entry in self.timeline:
            subject = f" {flag_alias(entry.subject)}" if entry.subject else ""
            lines.append(f"  {entry.at.astimezone():%Y-%m-%d %H:%M:%S}  {entry.action}{subject}  by {entry.actor}")
        return "\n".join(lines)


async def kill_switch(
    session: Session,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the incident.")] = "",
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="chat,voice,…",
            help="Which features (default: chat,voice).",
            autocompletion=lambda: list(KNOWN_FLAGS),
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every known feature, vouchers included.")] = False,
    check: Check = False,
) -> Answer:
    """Switch features off now, and wait until nothing of them runs any more. Never asks.

    Exit 9 when a server or a transaction could not be confirmed as stopped; it is named. Again: the same incident.
    """
    from agentops.incidents import kill_switch as switch

    names = [flag_name(name.strip()) for name in features.split(",") if name.strip()] if features else []
    if all_:
        names += switch.EVERYTHING
    names = list(dict.fromkeys(names or switch.DEFAULT))
    platform = await session.platform(any_schema=True)
    if check:
        plan = await switch.planned(platform, platform.target, names)
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
    killed = await switch.press(platform, platform.target, names, reason=reason, actor=session.process.actor)
    if killed.unconfirmed:
        message = f"the flags are off, but these may still work with the old ones: {'; '.join(killed.unconfirmed)}"
        return Answer(killed, failure=TimedOut(message, "stop these processes if need be, then repeat the kill switch"))
    return Answer(killed, note=f"  → to put it back: agentops incident restore {killed.incident}")


async def list_(session: Session) -> list[Incident]:
    """List incidents, newest first."""
    from agentops.store import incidents

    return await incidents.listed(await session.platform())


async def show(session: Session, number: Number) -> Report:
    """Show one incident with its timeline."""
    from agentops.store import incidents

    platform = await session.platform()
    found = await incidents.one(platform, number)
    return Report(**asdict(found), timeline=await incidents.timeline(platform, number))


async def restore(
    session: Session,
    number: Number,
    yes: Yes = False,
    check: Check = False,
) -> Answer:
    """Put back exactly what an incident's kill switch switched off; what somebody switched since stays as it is."""
    from agentops.incidents import kill_switch as switch
    from agentops.store import incidents

    platform = await session.platform()
    await incidents.one(platform, number)
    plan = await switch.restorable(platform, platform.target, number)
    if check or not plan.changed:
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
    session.confirm(_question(plan), yes=yes)
    await session.warn_unserved()
    return Answer(await switch.restore(platform, platform.target, number, actor=session.process.actor))


def _question(plan: Restored) -> str:
    return f"put back {', '.join(plan.restored) or 'nothing'} on target {plan.target}?"
