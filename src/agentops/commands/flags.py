"""See and switch feature flags: chat, voice, vouchers, customer-lookup.

Flags take effect at once on every server; a kill switch or a plain switch ends a timed one. A hosted project with a
server behind its forwarders (agentops.toml) is switched on both, the server first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from agentops.commands import Check
from agentops.errors import AgentOpsError, Kind, TimedOut, UsageError
from agentops.platforms import Flag, Platform
from agentops.session import Answer, Session, span
from agentops.settings import KNOWN_FLAGS, flag_name, without_password

if TYPE_CHECKING:
    from agentops.incidents.kill_switch import Confirmation

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME…",
        help="chat, voice, vouchers, customer-lookup or FEATURE_AGENT_…",
        autocompletion=lambda: list(KNOWN_FLAGS),
    ),
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="30m", help="Put it back by itself after this time; not at a hosted project."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until servers and functions have said that they are off.")]


async def list_(session: Session) -> list[Flag]:
    """Show every flag: on or off, until when, who switched it."""
    return await (await session.platform()).flags()


async def enable(session: Session, names: Names, for_: For = None, check: Check = False) -> Answer:
    """Switch flags on."""
    return await _switch(session, names, enabled=True, for_=for_, check=check)


async def disable(session: Session, names: Names, for_: For = None, wait: Wait = False, check: Check = False) -> Answer:
    """Switch flags off, at once and without asking. With --wait, exit 9 where a server or function has not said so."""
    return await _switch(session, names, enabled=False, for_=for_, check=check, wait=wait)


async def _switch(
    session: Session, names: list[str], *, enabled: bool, for_: str | None, check: bool, wait: bool = False
) -> Answer:
    secrets = list(dict.fromkeys(flag_name(name) for name in names))
    seconds = span(for_).total_seconds() if for_ else None
    change = Change(secrets, enabled, seconds, check=check, wait=wait and not check)
    if session.process.hosted and session.process.server:
        return await _on_both(session, session.process.server, change)
    platform = await session.platform()
    if not check:
        await session.warn_unserved()
    switched = await change.on(platform)
    would = check and any(flag.changed for flag in switched.flags)
    kind = Kind.DIFFERS if would else Kind.DONE
    return Answer(switched.flags, kind, note=_remark(change, switched, session), failure=switched.unconfirmed)


async def _on_both(session: Session, server: str, change: Change) -> Answer:
    """A hosted project and the stack behind its forwarders, the server first."""
    from agentops.incidents import both

    if change.seconds is not None:
        words = "--for needs something that puts the flag back, and a hosted project has none"
        raise UsageError(words, "leave --for away, or name the server alone with --target")

    async def on_server() -> Switched:
        return await change.on(await session.server())

    async def on_project() -> Switched:
        return await change.on(session.supabase(both=True))

    labels = (without_password(server), session.process.label)
    two = both.Both(labels, both.KILL_SECONDS if change.wait else both.SECONDS, session.note)
    in_order = two.on if change.enabled and not change.check else two.off
    outcomes = await in_order(on_server, on_project)
    done = [outcome for outcome in outcomes if isinstance(outcome, Switched)]
    flags = [
        flag
        for label, outcome in zip(labels, outcomes, strict=True)
        for flag in both.flags(label, change.names, outcome.flags if isinstance(outcome, Switched) else outcome)
    ]
    failure = both.worst(labels, outcomes, *(each.unconfirmed for each in done if each.unconfirmed))
    would = change.check and any(flag.changed for flag in flags)
    note = next((_remark(change, each, session) for each in outcomes[1:] if isinstance(each, Switched)), None)
    return Answer(flags, Kind.DIFFERS if would else Kind.DONE, note=note, failure=failure)


@dataclass(frozen=True, slots=True)
class Switched:
    """What became of the flags on one target, and who said so."""

    target: str
    flags: list[Flag]
    confirmed: Sequence[Confirmation] = ()
    unconfirmed: AgentOpsError | None = None

    def text(self) -> str:
        """One line for eyes."""
        words = {True: "on", False: "off", None: "unknown"}
        return f"target {self.target}: {', '.join(f'{flag.name} {words[flag.enabled]}' for flag in self.flags)}"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done, on whichever target."""

    names: Sequence[str]
    enabled: bool
    seconds: float | None
    check: bool
    wait: bool

    async def on(self, platform: Platform) -> Switched:
        """Do it there, and with `wait` hear from those who work with the flags."""
        began, begun = datetime.now(UTC), time.monotonic()
        flags = await platform.set_flags(self.names, enabled=self.enabled, seconds=self.seconds, check=self.check)
        if not self.wait:
            return Switched(platform.target, flags)
        from agentops.incidents import confirming, kill_switch
        from agentops.platforms.supabase import SupabasePlatform

        confirmed: Sequence[Confirmation] = ()
        try:
            if isinstance(platform, SupabasePlatform):
                confirmed, missing = await confirming.confirm(platform, self.names, begun, began)
            else:
                confirmed, missing = await kill_switch.confirm(platform)
        except AgentOpsError as failure:  # the flags are off all the same
            missing = [f"{platform.target}, while waiting: {failure.message}"]
        words = f"the flags are off, but these may still work with the old ones: {'; '.join(missing)}"
        late = TimedOut(words, "agentops flags disable … --wait again") if missing else None
        return Switched(platform.target, flags, confirmed, late)


def _remark(change: Change, switched: Switched, session: Session) -> str | None:
    """Who said that they are off; on a hosted project, that without that nobody knows."""
    if change.check:
        return None
    if change.wait:
        said = [f"confirmed by {each.server} after {each.seconds:.1f} s" for each in switched.confirmed]
        return "\n".join(said) or None
    if session.process.hosted and any(flag.changed for flag in switched.flags):
        return "warm isolates may keep the old value for minutes" + (
            "" if change.enabled else "; to see them stop: --wait"
        )
    return None
