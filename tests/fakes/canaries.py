"""Customers whose numbers, names and words are recognised wherever they turn up, and what looks for them.

    person(n) → Person → written(text, rendering): one of fifteen forms → … → found(line): what of it stands there

It shares nothing with the program's own redaction: what that misses in one form, this must see in it.
"""

from __future__ import annotations

import base64
import json
import random
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.fakes.renderings import RENDERINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No word of any language, and no number that is anybody's by chance.
MARK, PREFIX = "kanari", "7890"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NUMBER = re.compile(rf"(?<![0-9])(?:00250|250|0|){PREFIX}[0-9]{{5}}(?![0-9])")
_WITHIN = re.compile(rf"250{PREFIX}[0-9]{{5}}")
# What is no decimal fraction, no part of an id and no hash.
_BARE = re.compile(rf"(?<![\w.-]){PREFIX}[0-9]{{5}}(?![\w.-])")
_BETWEEN = re.compile(r"(?<=[0-9])[\s.()\u2010-\u2015-]{1,3}(?=[0-9])")
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_NO_LETTER = re.compile(r"[\W_0-9]+")

_WORDS: dict[str, Callable[[str], str]] = {
    "wa_id": str,
    "e164": lambda w: f"+{w}",
    "spaced": lambda w: f"{w[:5]} {w[5:]}",
    "dashed": lambda w: f"{w[:5]}-{w[5:]}",
    "dotted": lambda w: f"{w[:5]}.{w[5:]}",
    "parentheses": lambda w: f"{w[:5]} ({w[5:]})",
    "00_prefix": str.upper,
    "national": str.title,
    "url": lambda w: f"https://wa.me/?text={w}",
    "json_int": lambda w: json.dumps({"n": w}),
    "jid": lambda w: f"{w}@s.whatsapp.net",
    "percent_encoded": lambda w: "".join(f"%{ord(each):02X}" for each in w),
    "unicode_digits": lambda w: "".join(chr(ord(each) + 0xFEE0) for each in w),
    "zero_width": "\u200b".join,
    "base64": lambda w: base64.b64encode(f"\x1c{w}\x15".encode()).decode(),
}


@dataclass(frozen=True)
class Person:
    """A customer: number in +E.164, two names, a secret; and the form in which they write all of it."""

    phone: str
    name: str
    words: str
    rendering: str

    @property
    def digits(self) -> str:
        return self.phone[1:]

    @property
    def number(self) -> str:
        """The number as they write it."""
        return str(RENDERINGS[self.rendering](self.digits))

    def said(self, mark: str = "") -> str:
        """A message that holds everything, quotation marks included."""
        name, words = (_WORDS[self.rendering](each) for each in (self.name, self.words))
        return f"{mark} it's \"{name}\" at {self.number} {{'{words}': [{self.number}]}} = {words}"


def people(count: int) -> list[Person]:
    """So many, the same every time; all renderings in turn."""
    chance = random.Random(7)  # noqa: S311 - the same people every time
    names = list(RENDERINGS)
    return [
        Person(f"+250{PREFIX}{number:05d}", _word(chance), _word(chance), names[place % len(names)])
        for place, number in enumerate(chance.sample(range(10**5), count))
    ]


def _word(chance: random.Random) -> str:
    return MARK + "".join(chance.choices(_LETTERS, k=8))


def found(line: str) -> list[str]:
    """What stands in a line that is somebody's: numbers of canaries in any form, and their words."""
    hits = []
    for form in _forms(line):
        if MARK in _NO_LETTER.sub("", form).casefold():
            hits.append(MARK)
        if PREFIX in form or PREFIX in (joined := _BETWEEN.sub("", form)):
            joined = _BETWEEN.sub("", form)
            hits += [each for text in (form, joined) for each in _NUMBER.findall(text) if len(each) > 9]
            hits += [*_WITHIN.findall(joined), *_BARE.findall(form)]
    return hits


def _forms(line: str) -> Iterator[str]:
    plain = _plain(line)
    yield plain
    for token in set(_TOKEN.findall(plain)):
        for shift in range(4):
            raw = token[shift:].replace("-", "+").replace("_", "/")
            held = base64.b64decode(raw[: len(raw) // 4 * 4]).decode("latin-1")
            if PREFIX in held or MARK in held:
                yield held


def _plain(line: str) -> str:
    if "\\" in line:
        line = _ESCAPED.sub(lambda each: chr(int(each[1], 16)), line)
    if "%" in line:
        line = unquote(line)
    if line.isascii():
        return line
    shown = (each for each in line if unicodedata.category(each) != "Cf")
    return unicodedata.normalize(
        "NFKC", "".join(str(unicodedata.digit(each)) if each.isdecimal() else each for each in shown)
    )
