"""See and switch feature flags: chat, voice, vouchers, customer-lookup.

Flags take effect at once on every server; a kill switch or a plain switch ends a timed one.
"""

from __future__ import annotations

from typing import Annotated

import typer

from agentops.commands import Check
from agentops.errors import Kind
from agentops.platforms import Flag
from agentops.session import Answer, Session, span
from agentops.settings import KNOWN_FLAGS, flag_name

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME…",
        help="chat, voice, vouchers, customer-lookup or FEATURE_AGENT_…",
        autocompletion=lambda: list(KNOWN_FLAGS),
    ),
]
For = Annotated[str | None, typer.Option("--for", metavar="30m", help="Put it back by itself after this time.")]


async def list_(session: Session) -> list[Flag]:
    """Show every flag: on or off, until when, who switched it."""
    return await (await session.platform()).flags()


async def enable(session: Session, names: Names, for_: For = None, check: Check = False) -> Answer:
    """Switch flags on."""
    return await _switch(session, names, enabled=True, for_=for_, check=check)


async def disable(session: Session, names: Names, for_: For = None, check: Check = False) -> Answer:
    """Switch flags off, at once and without asking."""
    return await _switch(session, names, enabled=False, for_=for_, check=check)


async def _switch(session: Session, names: list[str], *, enabled: bool, for_: str | None, check: bool) -> Answer:
    secrets = [flag_name(name) for name in names]
    seconds = span(for_).total_seconds() if for_ else None
    platform = await session.platform()
    if not check:
        await session.warn_unserved()
    flags = await platform.set_flags(secrets, enabled=enabled, seconds=seconds, check=check)
    would = check and any(flag.changed for flag in flags)
    return Answer(flags, Kind.DIFFERS if would else Kind.DONE)
