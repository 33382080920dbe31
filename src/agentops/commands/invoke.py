"""Call a function directly, with the stack's own service key.

Phones in its answer are masked. Exit 0 where it answers below 400, 4 where it does not accept the key, 5 where there is
no such function, else 1.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from agentops.commands import MASKED, Reveal, slugs
from agentops.errors import AgentOpsError, NotAuthorised, NotFound, UsageError
from agentops.platforms import Invocation, Platform
from agentops.redact import scrub
from agentops.session import Answer, Session

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Which function.", autocompletion=slugs)]
Data = Annotated[
    str | None, typer.Option("-d", "--data", metavar="JSON", help="The body; @FILE reads a file, - stdin.")
]
Method = Annotated[
    str | None, typer.Option("--method", metavar="METHOD", help="Default: POST with a body, GET (its health) without.")
]
Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header to send; may be repeated.")
]
# What a function is asked with, and does nothing.
_LOOKS = {"GET", "HEAD", "OPTIONS"}
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens: what a method and a header's name are made of.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _ERROR = 401, 403, 404, 400


async def invoke(  # noqa: PLR0917 - options are given by name
    session: Session,
    slug: Slug,
    data: Data = None,
    method: Method = None,
    header: Header = None,
    reveal: Reveal = False,
) -> Answer:
    """Call a function directly, with the stack's own service key; phones in its answer are masked.

    Exit 0 where it answers below 400; 4 unauthorised, 5 no such function, else 1.
    """
    if not _SLUG.fullmatch(slug):
        raise UsageError(f"{slug!a} is no name of a function", "agentops deploy list; nothing was sent")
    body = _body(data)
    headers = dict(map(_parsed, header or []))
    verb = (method or ("GET" if data is None else "POST")).upper()
    if not _TOKEN.fullmatch(verb):
        raise UsageError(f"{method!a} is no HTTP method", "--method GET; nothing was sent")
    platform = await session.platform()
    if verb not in _LOOKS:
        session.confirm_production()
    if reveal:
        # Before the call: what cannot be written down is not sent either.
        await _audited(session, slug)
    result = await platform.invoke(slug, verb, body, headers)
    shown, note = (result, None) if reveal else _masked(result)
    if result.status < _ERROR:
        return Answer(shown, note=note)
    return Answer(shown, note=note, failure=await _failure(session, platform, shown))


async def _audited(session: Session, slug: str) -> None:
    """Write down that somebody sees what a function answers in full."""
    action = "function.reveal"
    if session.process.hosted:
        from agentops.platforms.supabase import audit as books

        await books.record(session.supabase(), [books.Act(action, slug)])
        return
    from agentops.store import audit

    await audit.record(await session.local(), actor=session.process.actor, action=action, subject=slug)


def _masked(result: Invocation) -> tuple[Invocation, str | None]:
    """The answer without phones, also in the correlation id; and a sentence where there were some."""
    shown = replace(result, body=scrub(result.body), correlation_id=_clean(result.correlation_id))
    return shown, None if shown == result else MASKED


def _clean(text: str | None) -> str | None:
    return None if text is None else str(scrub(text))


def _body(data: str | None) -> bytes:
    """The bytes to send, known to be JSON."""
    if data is None:
        return b""
    if data == "-":
        text, where = sys.stdin.read(), "stdin"
    elif data.startswith("@"):
        where = data[1:]
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            words = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise UsageError(f"{where} cannot be read: {words}", "-d '{…}', -d @FILE or -d -") from error
    else:
        text, where = data, "-d"
    try:
        json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{where} is no JSON: {error}", 'nothing was sent; quote it: -d \'{"msisdn": "+250…"}\''
        ) from error
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} is no UTF-8 text", "nothing was sent") from error


def _parsed(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise UsageError("a --header has no colon", "--header 'x-correlation-id: abc-123'")
    name, value = name.strip(), value.strip()
    if not _TOKEN.fullmatch(name):
        raise UsageError("HTTP has no such name of a --header", "--header 'x-correlation-id: abc-123'")
    if not _VALUE.fullmatch(value):
        # Its value may be a key.
        raise UsageError(f"the value of the header {name} is no ASCII text", "one line of ASCII; nothing was sent")
    return name, value


async def _failure(session: Session, platform: Platform, result: Invocation) -> AgentOpsError:
    slug = result.slug
    if result.status == _UNAUTHORISED:
        own = "bring the key that it expects: --header 'Authorization: Bearer …'"
        hint = own if session.process.hosted else "agentops status --show-keys"
        return NotAuthorised(f"{slug} does not accept this key", hint)
    if result.status == _NOT_FOUND:
        deployed = [function.slug for function in await platform.functions()]
        if slug not in deployed:
            hint = f"deployed: {', '.join(deployed)}" if deployed else "agentops deploy all"
            return NotFound(f"{slug} is not deployed", hint)
    off = isinstance(result.body, dict) and result.body.get("error") == "feature_disabled"
    if result.status == _FORBIDDEN and off:
        return AgentOpsError(f"{slug} refuses: its flag is off", "agentops flags list")
    narrow = f"--correlation {shlex.quote(result.correlation_id)}" if result.correlation_id else "--since 15m"
    return AgentOpsError(f"{slug} answered HTTP {result.status}", f"agentops logs show {slug} {narrow}")
