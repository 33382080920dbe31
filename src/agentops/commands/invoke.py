"""Call a function directly, with the stack's own service key."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentops.commands import slugs
from agentops.errors import AgentOpsError, NotAuthorised, NotFound, UsageError
from agentops.platforms import Invocation, Platform
from agentops.session import Answer, Session

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Which function.", autocompletion=slugs)]
Data = Annotated[
    str | None, typer.Option("-d", "--data", metavar="JSON", help="The body; @FILE reads a file, - stdin.")
]
Method = Annotated[
    str | None, typer.Option("--method", metavar="METHOD", help="Default: POST with a body, GET (health) without.")
]
Header = Annotated[list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="May be repeated.")]
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _ERROR = 401, 403, 404, 400


async def invoke(
    session: Session, slug: Slug, data: Data = None, method: Method = None, header: Header = None
) -> Answer:
    """Call a function directly, with the stack's own service key.

    Exit 0 where it answers below 400; 4 unauthorised, 5 no such function, else 1.
    """
    body = _body(data)
    headers = dict(map(_parsed, header or []))
    platform = await session.platform()
    verb = (method or ("GET" if data is None else "POST")).upper()
    result = await platform.invoke(slug, verb, body, headers)
    if result.status < _ERROR:
        return Answer(result)
    return Answer(result, failure=await _failure(platform, result))


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
    return text.encode()


def _parsed(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise UsageError("a --header has no colon", "--header 'x-correlation-id: abc-123'")
    return name.strip(), value.strip()


async def _failure(platform: Platform, result: Invocation) -> AgentOpsError:
    slug = result.slug
    if result.status == _UNAUTHORISED:
        return NotAuthorised(f"{slug} does not accept this key", "agentops status --show-keys")
    if result.status == _NOT_FOUND:
        deployed = [function.slug for function in await platform.functions()]
        if slug not in deployed:
            hint = f"deployed: {', '.join(deployed)}" if deployed else "agentops deploy all"
            return NotFound(f"{slug} is not deployed", hint)
    off = isinstance(result.body, dict) and result.body.get("error") == "feature_disabled"
    if result.status == _FORBIDDEN and off:
        return AgentOpsError(f"{slug} refuses: its flag is off", "agentops flags list")
    look = f"agentops logs show {slug} --correlation {result.correlation_id}"
    return AgentOpsError(f"{slug} answered HTTP {result.status}", look)
