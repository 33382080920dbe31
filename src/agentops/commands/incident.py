"""Stop features in an incident, see what was done, put it back or close it.

A kill switch ends with `restore`; incidents that agentops opened by itself (customers' numbers in the logs, messages
given up, uncertain replies) end with `close`. The kill switch never asks. It needs the database only, and says who may
still be working when it cannot be sure. On a hosted project with a server behind its forwarders (agentops.toml) it acts
on both, the server first.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from agentops.commands import Check, Yes
from agentops.errors import AgentOpsError, Conflict, Kind, NotFound, TimedOut
from agentops.incidents.kill_switch import Killed, Plan, Restored
from agentops.incidents.report import Report
from agentops.redact import scrub
from agentops.session import Answer, Session
from agentops.settings import KNOWN_FLAGS, flag_name, without_password
from agentops.store.incidents import KILL_SWITCH, Incident

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.incidents.book import Book
    from agentops.platforms.supabase import SupabasePlatform

# What an incident points at stays as it is when it is closed: how it is called, and where it is listed.
_STAYS = {
    "dead-letter": ("messages given up", "agentops inbox list --state dead"),
    "uncertain-reply": ("uncertain replies", "agentops outbox list --state uncertain"),
}
Number = Annotated[int, typer.Argument(metavar="ID", help="The incident's number.")]


@dataclass(frozen=True, slots=True)
class Closed:
    """An incident that is closed; `remaining` messages or replies that it points at are still as they were."""

    incident: int
    target: str
    kind: str
    status: str
    changed: bool
    remaining: int

    def text(self) -> str:
        """One line for eyes, and where to go on."""
        if not self.changed:
            return f"incident {self.incident} is {self.status} already"
        closed = "would be closed" if self.status == "open" else "closed"
        line = f"incident {self.incident} ({self.kind}) {closed} on target {self.target}"
        if not self.remaining:
            return line
        what, where = _STAYS[self.kind]
        return f"{line}; {what} that stay: {self.remaining:,} ({where})"


async def kill_switch(
    session: Session,
    *,
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
    wait: Annotated[
        bool, typer.Option("--wait", help="A hosted project: ask its functions until they say off.")
    ] = False,
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
    reason = str(scrub(" ".join(reason.split())))
    actor = session.process.actor
    if session.process.hosted and session.process.server:
        return await _on_both(session, session.process.server, names, reason, wait=wait, check=check)
    if session.process.hosted:
        from agentops.incidents import hosted

        project, book = _hosted(session)
        if check:
            plan = await hosted.planned(project, book, names)
            return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
        killed = await hosted.press(project, book, names, reason=reason, actor=actor, wait=wait)
        return _to_tell(session, _killed(killed))
    platform = await session.platform(any_schema=True)
    if check:
        plan = await switch.planned(platform, platform.target, names)
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
    return _to_tell(session, _killed(await switch.press(platform, platform.target, names, reason=reason, actor=actor)))


async def _on_both(
    session: Session, server: str, names: Sequence[str], reason: str, *, wait: bool, check: bool
) -> Answer:
    """A hosted project and the stack behind its forwarders, the server first; neither keeps the other waiting."""
    from agentops.incidents import both, hosted
    from agentops.incidents import kill_switch as switch

    actor = session.process.actor
    labels = (without_password(server), session.process.label)

    async def plan_server() -> Plan:
        return await switch.planned(await session.server(), labels[0], names)

    async def plan_project() -> Plan:
        project, book = _hosted(session, both=True)
        return await hosted.planned(project, book, names)

    async def press_server() -> Killed:
        return await switch.press(await session.server(), labels[0], names, reason=reason, actor=actor)

    async def press_project() -> Killed:
        project, book = _hosted(session, both=True)
        return await hosted.press(project, book, names, reason=reason, actor=actor, wait=wait)

    if check:
        plans = await both.Both(labels, both.SECONDS, session.note).off(plan_server, plan_project)
        plan = both.planned(labels, names, plans)
        failure = both.worst(labels, plans)
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE, failure=failure)
    outcomes = await both.Both(labels, both.KILL_SECONDS, session.note).off(press_server, press_project)
    late = [_late(outcome) for outcome in outcomes if isinstance(outcome, Killed) and outcome.unconfirmed]
    back = [
        f"  → to put it back on {label}: agentops --target {shlex.quote(label)} incident restore {outcome.incident}"
        for label, outcome in zip(labels, outcomes, strict=True)
        if isinstance(outcome, Killed) and outcome.incident is not None
    ]
    killed = both.killed(labels, names, outcomes)
    if await _paired(session, labels[0], outcomes):
        back = [f"  → to put both back: agentops incident restore {killed.incident}"]
    failure = both.worst(labels, outcomes, *late)
    return _to_tell(session, Answer(killed, note="\n".join(back) or None, failure=failure))


async def _paired(session: Session, server: str, outcomes: Sequence[Killed | AgentOpsError]) -> bool:
    """Note in the project's book which incident of the server belongs to its own; whether a restore will find both."""
    from agentops.incidents import both

    match outcomes:
        # One that could not be written down has no number.
        case [Killed(incident=int(theirs)), Killed(incident=int(number))]:
            project, book = _hosted(session, both=True)
            try:
                await both.remember(book, number, both.Pair(server, theirs), actor=session.process.actor)
            except AgentOpsError as failure:
                project.told(f"note: {failure.message}")
                return False
            return True
    return False


def _killed(killed: Killed) -> Answer:
    if killed.unconfirmed:
        return Answer(killed, failure=_late(killed))
    if killed.incident is None:  # what to type instead is said by who could not write it down
        return Answer(killed)
    return Answer(killed, note=f"  → to put it back: agentops incident restore {killed.incident}")


def _to_tell(session: Session, answer: Answer) -> Answer:
    """The same, and where the team is told of it, where agentops.toml names a channel."""
    channel = session.process.channel
    lines = [answer.note, f"  → tell the team: post in {channel} on Slack" if channel else None]
    return replace(answer, note="\n".join(line for line in lines if line) or None)


def _late(killed: Killed) -> TimedOut:
    message = f"the flags are off, but these may still work with the old ones: {'; '.join(killed.unconfirmed)}"
    return TimedOut(message, killed.remedy)


async def list_(session: Session) -> list[Incident]:
    """List incidents, newest first."""
    from agentops.store import incidents

    if session.process.hosted:
        _, book = _hosted(session)
        await book.read()
        return book.listed()
    return await incidents.listed(await session.platform())


async def show(session: Session, number: Number) -> Report:
    """Show one incident with its timeline."""
    from agentops.store import incidents

    if session.process.hosted:
        _, book = _hosted(session)
        await book.read()
        return Report(**asdict(book.one(number)), timeline=book.timeline(number))
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
    from agentops.incidents import hosted
    from agentops.incidents import kill_switch as switch
    from agentops.store import incidents

    if session.process.hosted and session.process.server:
        return await _restore_both(session, session.process.server, number, yes=yes, check=check)
    platform = await session.platform()
    if session.process.hosted:
        project, book = _hosted(session)
        plan = await hosted.restorable(project, book, number)
    else:
        found = await incidents.one(platform, number)
        if found.kind != KILL_SWITCH:
            raise Conflict(
                f"incident {number} ({found.kind}) switched nothing off", f"agentops incident close {number}"
            )
        plan = await switch.restorable(platform, platform.target, number)
    if check or not plan.changed:
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
    session.confirm(_question(plan), yes=yes)
    if session.process.hosted:
        return Answer(await hosted.restore(project, book, number, actor=session.process.actor))
    await session.warn_unserved()
    return Answer(await switch.restore(platform, platform.target, number, actor=session.process.actor))


async def _restore_both(session: Session, server: str, number: int, *, yes: bool, check: bool) -> Answer:
    """A hosted project and the stack behind its forwarders: the server first, the project where that went well."""
    from agentops.incidents import both, hosted
    from agentops.incidents import kill_switch as switch
    from agentops.store import incidents

    actor = session.process.actor
    labels = (without_password(server), session.process.label)
    project, book = _hosted(session, both=True)
    await book.read()
    known, pair = book.one(number), both.pair(book, number)
    if pair is None or pair.server != labels[0]:
        session.note(_unpaired(number, labels[0]))
        plan = await hosted.restorable(project, book, number)
        if check or not plan.changed:
            return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
        session.confirm(_question(plan), yes=yes)
        return Answer(await hosted.restore(project, book, number, actor=actor))
    theirs, numbers = pair.incident, (pair.incident, number)

    async def plan_server() -> Restored:
        stack = await session.server()
        await incidents.one(stack, theirs)
        return await switch.restorable(stack, labels[0], theirs)

    async def plan_project() -> Restored:
        return await hosted.restorable(project, book, number)

    async def restore_server() -> Restored:
        return await switch.restore(await session.server(), labels[0], theirs, actor=actor)

    async def restore_project() -> Restored:
        return await hosted.restore(project, book, number, actor=actor)

    two = both.Both(labels, both.SECONDS, session.note)
    plans = await two.off(plan_server, plan_project)
    plan_of_both, failure = both.restored(labels, numbers, plans), both.worst(labels, plans)
    if failure and not check:
        failure.message += "\n  nothing was put back"
    if failure and isinstance(plans[0], NotFound):  # switches both on, whatever the books say
        failure.hint = f"agentops flags enable {' '.join(known.switched_off)}"
    if check or failure or not plan_of_both.changed:
        return Answer(plan_of_both, Kind.DIFFERS if plan_of_both.changed else Kind.DONE, failure=failure)
    session.confirm(" ".join(_question(each) for each in plans if isinstance(each, Restored) and each.changed), yes=yes)
    outcomes = await two.on(restore_server, restore_project)
    return Answer(both.restored(labels, numbers, outcomes), failure=both.worst(labels, outcomes))


def _unpaired(number: int, server: str) -> str:
    line = f"agentops --target {shlex.quote(server)} incident"
    return (
        f"note: which incident of the server behind it belongs to incident {number} was not noted, "
        f"so this is about the project alone; the server's: {line} list, then {line} restore ID"
    )


async def close(
    session: Session,
    number: Number,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the timeline.")] = "",
    check: Check = False,
) -> Answer:
    """Close an incident that switched nothing off. What it points at stays as it is; the next case opens a new one."""
    from agentops.store import incidents

    platform = await session.platform()
    if session.process.hosted:
        _, book = _hosted(session)
        await book.read()
    found = book.one(number) if session.process.hosted else await incidents.one(platform, number)
    if found.kind == KILL_SWITCH and found.status == "open":
        raise Conflict(
            f"incident {number} is a kill switch: it ends by putting back what it switched off",
            f"agentops incident restore {number}",
        )
    left = 0 if session.process.hosted else await incidents.remaining(platform, number)
    plan = Closed(number, platform.target, found.kind, found.status, found.status == "open", left)
    if check or not plan.changed:
        return Answer(plan, Kind.DIFFERS if plan.changed else Kind.DONE)
    why = str(scrub(" ".join(reason.split()))) or None
    changed = await incidents.close(platform, number, actor=session.process.actor, reason=why)
    return Answer(replace(plan, status="closed", changed=changed))


def _hosted(session: Session, *, both: bool = False) -> tuple[SupabasePlatform, Book]:
    """A hosted project, and the book of its incidents, still unread; `both`: the caller acts on its server too."""
    from agentops.incidents.book import Book

    project = session.supabase(both=both)
    return project, Book(project.books)


def _question(plan: Restored) -> str:
    return f"put back {', '.join(plan.restored) or 'nothing'} on target {plan.target}?"
