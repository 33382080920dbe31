r"""The forms in which a phone number travels, brought back to plain digits.

full-width or Arabic digits, %2B250…, \u0032…, 2<zero width>50… → plain(text) → chains(text): digits by groups
base64 ('wamid.HBgM…')                                           → hidden(text): what such tokens hold, as text
"""

from __future__ import annotations

import re
import unicodedata
from binascii import Error, a2b_base64
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

# What people put between the digits of one number, at most three in a row. Zero-width characters show nothing.
INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
BETWEEN = rf"[ .()\-\u00a0\u2010-\u2015\u202f{INVISIBLE}]"
_CHAIN = re.compile(r"[0-9](?:[ .()\-]{0,3}[0-9]){7,}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_DASHES = re.compile("[\u2010-\u2015]")
_GROUP = re.compile(r"[0-9]+")
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_TOKEN = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}")
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_URL_SAFE = str.maketrans("-_", "+/")


def plain(text: str) -> str:
    """The text with every digit as 0–9, compatibility forms folded, invisible characters gone, escapes resolved."""
    if "%" in text:
        text = unquote(text, errors="ignore")
    if "\\" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    if not text.isascii():
        text = _INVISIBLE.sub("", text.translate(_digits()))
        text = _DASHES.sub("-", unicodedata.normalize("NFKC", text))
    return text


def without_uuids(text: str) -> str:
    """The text with UUIDs left out: their digits, joined over the dashes, could be anybody's."""
    return UUID.sub("#", text) if "-" in text else text


def chains(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Every run of 8 and more digits of a plain text: where it begins and ends, and its groups of adjacent digits."""
    for found in _CHAIN.finditer(text):
        run = found[0]
        # A group is taken whole: a run cannot begin or end within one.
        yield found.start(), found.end(), [run] if run.isdigit() else _GROUP.findall(run)


def hidden(text: str) -> Iterator[tuple[str, str]]:
    """Each base64 token (also of URL-safe alphabet) with what it holds, bytes as Latin-1."""
    for found in _TOKEN.finditer(text):
        token = found[0]
        if UUID.fullmatch(token):
            continue
        # One character above a multiple of four holds no byte.
        usable = token[:-1] if len(token) % 4 == 1 else token
        try:
            raw = a2b_base64(usable.translate(_URL_SAFE) + "=" * (-len(usable) % 4))
        except Error:
            continue
        yield token, raw.decode("latin-1")


@cache
def _digits() -> dict[int, str]:
    """Every decimal digit of Unicode as 0–9; NFKC leaves most of them as they are."""
    return {
        code: str(unicodedata.digit(chr(code)))
        for code in range(0x660, 0x1FBFA)
        if unicodedata.category(chr(code)) == "Nd"
    }
