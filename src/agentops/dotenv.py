r"""Reads .env files: `NAME=VALUE` a line, comments, `export`, quotes.

    NAME=plain text        # a comment after a blank
    export NAME='as it stands, $ and \ too, over several lines if need be'
    NAME="with \n \t \" \\ and over several lines"

Nothing is expanded. Errors name the line and never show a value.
"""

from __future__ import annotations

import re

from agentops.errors import UsageError

_START = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_PLAIN = re.compile(r"(?P<value>[^\n]*?)(?:(?:^|[ \t]+)#[^\n]*)?[ \t]*(?:\n|\Z)")
_QUOTED = {'"': re.compile(r'"(?P<value>(?:[^"\\]|\\.)*)"', re.DOTALL), "'": re.compile(r"'(?P<value>[^']*)'")}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, file: str) -> dict[str, str]:
    """The settings of a file's text; of a name that stands twice the last one counts.

    Raises:
        UsageError: a line of another form, named as `file:line`.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            # At the very end an empty match means: done.
            at = max(blank.end(), at + 1) if blank.end() == at else blank.end()
            continue
        start = _START.match(text, at)
        if start is None:
            raise _wrong(file, text, at, "is no NAME=VALUE")
        value, at = _value(text, start.end(), file)
        found[start["name"]] = value
    return found


def _value(text: str, at: int, file: str) -> tuple[str, int]:
    """The value that begins at `at`, and where the next line begins."""
    quote = text[at : at + 1]
    if quote not in _QUOTED:
        plain = _PLAIN.match(text, at)
        if plain is None:  # pragma: no cover - it matches any line
            raise _wrong(file, text, at, "is no NAME=VALUE")
        value = plain["value"]
        return ("" if value.startswith("#") else value), plain.end()
    quoted = _QUOTED[quote].match(text, at)
    if quoted is None:
        raise _wrong(file, text, at, f"opens a {quote} that is never closed")
    rest = _BLANK.match(text, quoted.end())
    if rest is None:
        raise _wrong(file, text, quoted.end(), f"has text after the closing {quote}")
    value = quoted["value"]
    if quote == '"':
        value = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1] if match[1] in '"\\$`' else match[0]), value)
    return value, rest.end()


def _wrong(file: str, text: str, at: int, words: str) -> UsageError:
    return UsageError(
        f"{file}:{text.count(chr(10), 0, at) + 1}: the line {words}", "write NAME=VALUE, quoted if need be"
    )
