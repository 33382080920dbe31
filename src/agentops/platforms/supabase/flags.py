"""Flags are secrets whose digests tell which spelling is set: on, off, or unknown where it is neither.

changed(names) → GET → equal: unchanged → one POST → GET: read back

Switching off waits for no read: where what is set cannot be read at once, all names are sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Unverified, UsageError
from agentops.platforms import Flag
from agentops.platforms.supabase import secrets
from agentops.secret_values import digest
from agentops.settings import CUSTOMER_LOOKUP, FALSY, KNOWN_FLAGS, TRUTHY, VOUCHERS, flag_alias, is_flag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms.supabase.management import Management

# A look before switching off is for the record; the switch itself, its waits included; reading back.
LOOK_SECONDS = 3.0
OFF_SECONDS = 60.0
READ_BACK_SECONDS = 20.0


async def listed(api: Management) -> list[Flag]:
    """The known flags first, then whatever other flag is set; one that is not set is off."""
    return found(await secrets.digests(api))


def found(digests: Mapping[str, str]) -> list[Flag]:
    """The flags that these secrets are."""
    names = [*KNOWN_FLAGS.values(), *sorted(name for name in digests if is_flag(name))]
    flags = {name: state(name, digests.get(name)) for name in dict.fromkeys(names)}
    if CUSTOMER_LOOKUP not in digests:  # not set, it follows vouchers
        flags[CUSTOMER_LOOKUP] = replace(flags[CUSTOMER_LOOKUP], enabled=flags[VOUCHERS].enabled)
    return list(flags.values())


def state(name: str, digest_: str | None) -> Flag:
    """One flag by its stored name and the digest of its value; None: not set, which is off."""
    enabled = False if digest_ is None else _spellings().get(digest_)
    return Flag(flag_alias(name), name, enabled=enabled)


async def changed(
    api: Management, names: Sequence[str], *, enabled: bool, seconds: float | None, check: bool
) -> list[Flag]:
    """Switch flags in one request and read them back; the result keeps the order of `names`.

    Raises:
        UsageError: `seconds` is given: nothing there could put the flag back.
        Unverified: the API took the values, and lists others or none.
    """
    if seconds is not None:
        raise UsageError(
            "--for needs something that puts the flag back, and a hosted project has none",
            "leave --for away and switch it back yourself, or use a stack of your own",
        )
    before = await secrets.digests(api) if enabled or check else await glanced(api)
    plan = [_planned(name, before, enabled=enabled) for name in dict.fromkeys(names)]
    moving = [flag.secret for flag in plan if flag.changed]
    if check or not moving:
        return plan
    if enabled:
        await secrets.put(api, dict.fromkeys(moving, "true"))
    else:
        await put_off(api, moving)
    return await read_back(api, plan, enabled=enabled)


async def glanced(api: Management) -> dict[str, str] | None:
    """The digests, as for `found`; None where they cannot be read at once, which holds no switching off up."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await secrets.digests(api, attempts=1)
    except (AgentOpsError, TimeoutError):
        return None


async def put_off(api: Management, names: Sequence[str]) -> None:
    """Set these flags to false in one request, within OFF_SECONDS; nothing where there are none."""
    await secrets.put(api, dict.fromkeys(names, "false"), within=OFF_SECONDS)


def _planned(name: str, before: Mapping[str, str] | None, *, enabled: bool) -> Flag:
    """The flag as it stands, and whether it has to be sent; unread, it has."""
    if before is None:
        return Flag(flag_alias(name), name, enabled=None, changed=True)
    known = {flag.secret: flag for flag in found(before)}
    # Set to another spelling of the same is as it should be; not set is not, it may follow another flag.
    equal = name in before and state(name, before[name]).enabled is enabled
    return replace(known.get(name) or state(name, before.get(name)), changed=not equal)


async def read_back(api: Management, plan: Sequence[Flag], *, enabled: bool) -> list[Flag]:
    """The flags as the API lists them now.

    Raises:
        Unverified: one of them is not `enabled` as it should be, or they cannot be read within READ_BACK_SECONDS.
    """
    word = "on" if enabled else "off"
    sent = f"{', '.join(flag.name for flag in plan)}: {word}"
    try:
        async with asyncio.timeout(READ_BACK_SECONDS):
            after = await secrets.digests(api)
    except (AgentOpsError, TimeoutError) as failure:
        late = f"no answer within {READ_BACK_SECONDS:g} s"
        why = failure.message if isinstance(failure, AgentOpsError) else late
        words = f"Supabase took the change, but it could not be read back: {why}; what it took: {sent}"
        raise Unverified(words, "agentops flags list") from failure
    flags = [replace(state(flag.secret, after.get(flag.secret)), changed=flag.changed) for flag in plan]
    wrong = [flag.name for flag in flags if flag.enabled is not enabled]
    if wrong:
        raise Unverified(
            f"Supabase took the change, but does not list {', '.join(wrong)} as {word}", "agentops flags list"
        )
    return flags


@cache
def _spellings() -> dict[str, bool]:
    """Digest → on or off, for every way in which the words may be capitalised."""
    return {
        digest("".join(letters)): word in TRUTHY
        for word in TRUTHY | FALSY
        for letters in product(*({letter.lower(), letter.upper()} for letter in word))
    }
