"""Read, follow and download the functions' logs; look for customers' numbers in them.

Filters combine: a line is shown when all of them match. Piped, every line is one raw JSON object, so grep works.
Without --since everything that is stored is looked through, at a hosted project the last 24 hours.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentops import files, pseudonyms
from agentops.commands import slugs as known_slugs
from agentops.counts import counted
from agentops.errors import AgentOpsError, Conflict, Kind, UsageError
from agentops.events import LEVELS
from agentops.platforms import LogFilter, LogLine, Platform
from agentops.session import Answer, Session, moment

if TYPE_CHECKING:
    from agentops.incidents.leaks import Leak

TAIL_LINES = 10_000

Slug = Annotated[str | None, typer.Argument(metavar="[SLUG]", help="One function.", autocompletion=known_slugs)]
Slugs = Annotated[
    list[str] | None, typer.Argument(metavar="[SLUG]…", help="Only these functions.", autocompletion=known_slugs)
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many lines at most: the newest.")]
Since = Annotated[str | None, typer.Option("--since", metavar="15m", help="Not older: 15m, 2h, 1d or ISO 8601.")]
Until = Annotated[str | None, typer.Option("--until", metavar="5m", help="Only older ones: as --since.")]
Level = Annotated[
    str | None,
    typer.Option(
        "--level",
        metavar="LEVEL",
        help="This level and worse: debug, info, warning, error.",
        autocompletion=lambda: LEVELS,
    ),
]
Event = Annotated[
    str | None, typer.Option("--event", metavar="PATTERN", help="Event name, * for any text: 'ai.tool.*.error'.")
]
Correlation = Annotated[str | None, typer.Option("--correlation", metavar="ID", help="One request, end to end.")]
Grep = Annotated[
    str | None, typer.Option("--grep", metavar="TEXT", help="Lines whose raw JSON holds this text, case-sensitive.")
]
Customer = Annotated[
    str | None,
    typer.Option(
        "--customer",
        metavar="+250…",
        help="One customer's events: by their number, their user id at Meta (RW.…), or the c1_… that events carry.",
    ),
]
# How Meta writes a user id: a country, and letters and digits.
_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


@dataclass(frozen=True, slots=True)
class Download:
    """A log file that was written."""

    slug: str
    file: str
    lines: int
    bytes: int

    def text(self) -> str:
        """One line for eyes."""
        return f"{counted(self.lines, 'line')} of {self.slug} ({counted(self.bytes, 'byte')}) in {self.file}"


async def show(
    session: Session,
    *,
    slug: Slug = None,
    limit: Limit = 100,
    since: Since = None,
    until: Until = None,
    level: Level = None,
    event: Event = None,
    correlation: Correlation = None,
    grep: Grep = None,
    customer: Customer = None,
) -> AsyncIterator[LogLine]:
    """Show the newest matching lines, oldest of them first."""
    platform, wanted = await _asked(
        session,
        (slug,) if slug else (),
        since=since,
        until=until,
        level=level,
        event=event,
        correlation=correlation,
        grep=grep,
        customer=customer,
    )
    found = False
    async for line in platform.logs(wanted, limit=limit, follow=False, gap=session.note):
        found = True
        yield line
    if not found:
        session.note("note: no stored line matches")


async def tail(
    session: Session,
    *,
    slugs: Slugs = None,
    since: Since = "1h",
    level: Level = None,
    event: Event = None,
    correlation: Correlation = None,
    grep: Grep = None,
    customer: Customer = None,
) -> AsyncIterator[LogLine]:
    """Show the last hour's matching lines, then new ones as they are stored, until Ctrl-C."""
    platform, wanted = await _asked(
        session,
        tuple(slugs or ()),
        since=since,
        level=level,
        event=event,
        correlation=correlation,
        grep=grep,
        customer=customer,
    )
    if session.interactive:
        session.note("following; Ctrl-C ends it")
    async for line in platform.logs(wanted, limit=TAIL_LINES, follow=True, gap=session.note):
        yield line


async def download(
    session: Session,
    *,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="One function.", autocompletion=known_slugs)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")],
    limit: Limit = 1000,
    since: Since = None,
    until: Until = None,
    level: Level = None,
    event: Event = None,
    correlation: Correlation = None,
    grep: Grep = None,
    customer: Customer = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> Download:
    """Write a function's newest lines to a file: raw JSON lines, for your eyes only (0600), complete or not at all."""
    if output.exists() and not force:
        raise Conflict(f"{output} is already there", "repeat with --force to replace it, or give another -o FILE")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"the folder of {output} is not there", f"mkdir -p {output.parent}")
    platform, wanted = await _asked(
        session,
        (slug,),
        since=since,
        until=until,
        level=level,
        event=event,
        correlation=correlation,
        grep=grep,
        customer=customer,
    )
    lines = [
        json.dumps(line.json(), ensure_ascii=False)
        async for line in platform.logs(wanted, limit=limit, follow=False, gap=session.note)
    ]
    content = "".join(line + "\n" for line in lines).encode()
    _write(output, content)
    return Download(slug, str(output), len(lines), len(content))


async def scan(
    session: Session,
    *,
    since: Annotated[str, typer.Option("--since", metavar="24h", help="Not older: 15m, 2h, 1d or ISO 8601.")] = "24h",
    until: Until = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also lines that a closed incident names: somebody has seen those.")
    ] = False,
) -> Answer:
    """Look for customers' phone numbers in the stored logs, in any form; exit 3 where there are some.

    They are kept in one pii-leak incident by row, field and pseudonym, never by value. What a closed incident names has
    been seen and is passed over. Needs the stack's private key.
    """
    from agentops.incidents import leaks
    from agentops.store import customers

    begin, end = moment(since), moment(until) if until else None
    key = await _pseudonym_key(session)
    platform = await session.platform()
    numbers = leaks.Numbers(await customers.known_phones(platform))
    every = [leak async for batch in leaks.scan(platform, numbers, key, since=begin, until=end) for leak in batch]
    found = every if all_ else await leaks.unseen(platform, every)
    passed = _lines(every) - _lines(found)
    more = (
        f"; {counted(len(passed), 'line')} that a closed incident names passed over (--all shows them)"
        if passed
        else ""
    )
    if not found:
        new = "new " if passed else ""
        who = f"a customer's number ({counted(len(numbers), 'customer')} known)"
        return Answer([], note=f"no {new}line since {begin:%Y-%m-%d %H:%M} UTC holds {who}{more}")
    incident = await leaks.report(platform, found, session.process.actor)
    note = f"customers' numbers in {counted(len(_lines(found)), 'log line')}; incident {incident}{more}"
    return Answer(found, Kind.DIFFERS, f"{note}\n  → agentops incident show {incident}")


def _lines(found: list[Leak]) -> set[int]:
    """The log rows that leaks stand in."""
    return {leak.log_id for leak in found}


async def _pseudonym_key(session: Session) -> bytes:
    """The key of the stack's pseudonyms.

    Raises:
        UsageError: this machine has not the stack's private key.
    """
    from agentops.server import keys

    return pseudonyms.key(await keys.require(await session.local(), session.process))


async def _of(session: Session, wanted: LogFilter, customer: str | None) -> LogFilter:
    """The filter for one customer's events: the pseudonyms of all that they are known by.

    Raises:
        UsageError: a number or user id needs the stack's key, and a hosted project has none.
    """
    if customer is None or wanted.customers:
        return wanted
    if session.process.hosted:
        raise _keyless(session)
    from agentops.store import customers

    identity = _identity(customer)
    key = await _pseudonym_key(session)
    known = await customers.identities(await session.platform(), identity)
    return replace(wanted, customers=tuple(pseudonyms.customer(key, each) for each in known))


def _identity(customer: str) -> str:
    """A number in E.164, or a user id.

    Raises:
        UsageError: it is neither.
    """
    from agentops.agent.phones import normalised

    if customer[:1] in {*"+(0123456789"}:
        return normalised(customer)
    if _USER_ID.fullmatch(customer):
        return customer
    raise UsageError(
        f"{customer!r} is no customer: no number, no user id and no pseudonym",
        "--customer '+250788123456', --customer RW.1349… or, as events carry it, --customer c1_…",
    )


def _keyless(session: Session) -> UsageError:
    from agentops.settings import without_password

    words = "a hosted project has no key that makes a number the pseudonym in its events"
    hint = "give that pseudonym: --customer c1_…"
    if session.process.server:
        server = shlex.quote(without_password(session.process.server))
        hint += f"; or ask the stack behind it: --target {server}"
    return UsageError(words, hint)


async def _asked(
    session: Session, slugs: tuple[str, ...], *, customer: str | None, **conditions: str | None
) -> tuple[Platform, LogFilter]:
    """The target and what it is asked for; a word that means nothing is refused before anything is opened."""
    wanted = _filter(slugs, customer=customer, **conditions)
    platform = await session.platform()
    wanted = await _of(session, wanted, customer)
    await _note_unknown(session, platform, wanted.slugs)
    return platform, wanted


def _filter(
    slugs: tuple[str, ...],
    *,
    since: str | None = None,
    until: str | None = None,
    level: str | None,
    event: str | None,
    correlation: str | None,
    grep: str | None,
    customer: str | None,
) -> LogFilter:
    """The filter, as far as it is known without asking the target.

    Raises:
        UsageError: a word in it means nothing.
    """
    if level is not None and level.lower() not in LEVELS:
        raise UsageError(f"no level is named {level!r}", f"the levels are {', '.join(LEVELS)}")
    known = customer is not None and pseudonyms.is_customer(customer)
    if customer is not None and not known:
        _identity(customer)
    return LogFilter(
        slugs=slugs,
        level=level.lower() if level else None,
        event=event,
        correlation_id=correlation,
        grep=grep,
        since=moment(since) if since else None,
        until=moment(until) if until else None,
        customers=(customer,) if customer is not None and known else (),
    )


async def _note_unknown(session: Session, platform: Platform, slugs: tuple[str, ...]) -> None:
    """A misspelt name looks like silence: say so."""
    if not slugs:
        return
    known = sorted({function.slug for function in await platform.functions()} | set(known_slugs()))
    for slug in slugs:
        if slug not in known:
            session.note(f"note: no function is named {slug}; they are: {', '.join(known)}")


def _write(file: Path, content: bytes) -> None:
    """Replace the file in one step; its mode is 0600 from the first byte."""
    try:
        files.replace(file, content)
    except OSError as error:
        raise AgentOpsError(f"{file} could not be written: {error.strerror}") from error
