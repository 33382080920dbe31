"""Whether a hosted project's functions work with flags that were switched off: each is asked until it says so.

    webhook ─ POST with an empty `entry` ─→ x-agentops-flag: off, or its own line in the logs ─→ confirmed
    tool    ─ GET, which changes nothing ─→ x-agentops-flag: off                              ─→ confirmed
    whatever says nothing else by CONFIRM_SECONDS, or cannot                                  ─→ unconfirmed, and why

They are our forwarders, or somebody's own functions under the same names: a webhook of one's own can log that it is
off, a tool of one's own has no way to say so and is told as unconfirmed at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agentops.edge import FORWARDERS
from agentops.errors import AgentOpsError
from agentops.incidents.kill_switch import Confirmation
from agentops.platforms import LogFilter
from agentops.platforms.supabase import project
from agentops.settings import flag_alias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agentops.edge import Forwarder
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.platforms.supabase.calls import Said

DISABLED = "ai.*.webhook.disabled"
CONFIRM_SECONDS = 120.0
PROBE_SECONDS = 2.0
# The logs' own limit is ten questions a minute.
LOGS_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_SILENT = "it has not said that it is off"


async def confirm(
    platform: SupabasePlatform, names: Sequence[str], begun: float, since: datetime
) -> tuple[list[Confirmation], list[str]]:
    """Ask every function of these flags; who said off and after how many seconds, and who has not, with the reason.

    Args:
        platform: the project.
        names: the flags that were switched off, as they are stored.
        begun: when, on the monotonic clock.
        since: when, for the logs.
    """
    asked = {each.slug: each for each in FORWARDERS if each.flag in names}
    unknown = [name for name in names if all(each.flag != name for each in FORWARDERS)]
    missing = {flag_alias(name): "no function is known that could say so" for name in unknown}
    there = await _deployed(platform)
    for slug in [slug for slug in asked if there is not None and slug not in there]:
        missing[slug] = "not deployed there, so there is nobody to ask"
        del asked[slug]
    confirmed: list[Confirmation] = []
    waiting = dict.fromkeys(asked, _SILENT)
    looked = time.monotonic()
    while waiting and time.monotonic() - begun < CONFIRM_SECONDS:
        said = await _ask(platform, [asked[slug] for slug in sorted(waiting)])
        done = {slug for slug, word in said.items() if word.flag == "off"}
        silent = [slug for slug, word in said.items() if word.flag is None and asked[slug].disabled]
        if silent and time.monotonic() - looked >= LOGS_SECONDS:
            looked = time.monotonic()
            done |= await _logged(platform, silent, since)
        seconds = round(time.monotonic() - begun, 3)
        confirmed += [Confirmation(slug, seconds) for slug in sorted(done)]
        waiting = {slug: _why(said[slug]) for slug in waiting if slug not in done}
        for slug in [slug for slug in waiting if _mute(asked[slug], said[slug])]:
            missing[slug] = waiting.pop(slug)
        if waiting:
            await asyncio.sleep(PROBE_SECONDS)
    return confirmed, [f"{who} ({why})" for who, why in sorted((missing | waiting).items())]


async def _deployed(platform: SupabasePlatform) -> set[str] | None:
    """The functions that are there; None where that cannot be told at once: then all are asked."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return {*await project.rows(platform.api, attempts=1)}
    except (AgentOpsError, TimeoutError):
        return None


async def _ask(platform: SupabasePlatform, functions: Sequence[Forwarder]) -> dict[str, Said]:
    words = await asyncio.gather(
        *(platform.calls.probe(each.slug, webhook=each.disabled is not None) for each in functions)
    )
    return {each.slug: word for each, word in zip(functions, words, strict=True)}


def _why(said: Said) -> str:
    return "it still says on" if said.flag == "on" else _SILENT if said.answered else "it does not answer"


def _mute(function: Forwarder, said: Said) -> bool:
    """Whether it answers and will never say: a tool that is no forwarder of ours."""
    return function.disabled is None and said.answered and said.flag is None


async def _logged(platform: SupabasePlatform, slugs: Sequence[str], since: datetime) -> set[str]:
    wanted = LogFilter(slugs=tuple(slugs), event=DISABLED, since=since)
    try:
        return {line.function async for line in platform.logs(wanted, limit=100, follow=False, gap=lambda _words: None)}
    except AgentOpsError:
        return set()  # asked again in ten seconds; what stays unsaid is told as unconfirmed
