"""Keeps phone numbers out of anything that is written down for eyes.

A phone is shown as its first 5 and last 3 characters (`+2507***456`). `scrub` is the second wall: fields are
declared masked where they are written, and whatever still looks like a phone number is masked here.
"""

from __future__ import annotations

import re

from agentops.renderings import BETWEEN, UUID, hidden, plain

# A run of 9 to 17 digits with little between them, in any script, that is no part of a longer number: the forms in
# which a phone number travels (`+250 788 000 000`, `250788000000`, `(0788) 000.000`, `%2B250…`). What is known to be
# something else is matched first and stays: UUIDs and digests, dates and times, IPv4 addresses, decimal fractions.
_KEPT = r"""
    (?<![0-9A-Za-z])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9A-Za-z])
  | (?<![0-9A-Za-z])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{24,128}(?![0-9A-Za-z])
  | (?<![0-9])(?:19|20)[0-9]{2}(?P<mark>[-/.])(?:0[1-9]|1[0-2])(?P=mark)(?:0[1-9]|[12][0-9]|3[01])(?![0-9])
      (?:[T\ ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:\ ?[+-][0-9]{2}:?[0-9]{2}(?![0-9]))?)?
  | (?<![0-9.+])(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|(?![0-9.]))){4}(?::[0-9]{1,5})?(?![0-9])
  | (?<![0-9.+])[0-9]{1,8}\.[0-9]+(?![0-9.]|[ ()-]{1,3}[0-9])
"""
_PHONE = re.compile(
    rf"(?P<kept>{_KEPT})"
    rf"|(?P<phone>(?<![0-9A-Za-z])(?:\+|%2[Bb])?{BETWEEN}{{0,2}}\d(?:{BETWEEN}{{0,3}}\d){{8,16}}(?!\d)"
    r"|(?<=%2[Bb])\d{9,17}(?!\d))",
    re.VERBOSE,
)
_WAMID = re.compile(r"wamid\.[A-Za-z0-9+/=_-]+")
# Cheap looks before the dear one: whether there are 9 digits near each other at all.
_PERHAPS = re.compile(rf"\d(?:{BETWEEN}{{0,3}}\d){{8}}")
_NUMBER = re.compile(r"[0-9]{9,15}")
_FEWEST = 9
# What has 9 to 17 digits.
_LEAST, _MOST = 10**8, 10**17
_SHORTEST_TOKEN = 16


def mask_phone(phone: str) -> str:
    """`+250788123456` → `+2507***456`. Shorter texts are masked whole."""
    return f"{phone[:5]}***{phone[-3:]}" if len(phone) >= 10 else "***"  # noqa: PLR2004 - below, 8 of the digits would show


def scrub(value: object) -> object:
    """The same value with everything masked that looks like a phone number or a WhatsApp message id (it holds one)."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {scrub(key) if isinstance(key, str) else key: scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value)
    return value


def _number(value: float) -> object:
    """A number of JSON: a phone number may be one, also negative or with `.0`; a fraction says that it is none."""
    if not _LEAST <= abs(value) < _MOST or value != int(value):
        return value
    text = str(int(value))
    masked = _text(text)
    return value if masked == text else masked


def _text(text: str) -> str:
    if len(text) < _FEWEST or UUID.fullmatch(text):
        return text
    if "wamid." in text:
        text = _WAMID.sub("wamid.***", text)
    if len(text) >= _SHORTEST_TOKEN:
        for token, held in hidden(text):
            if _NUMBER.search(held):
                text = text.replace(token, "***")
    if "%" in text and (unwrapped := plain(text)) != text and len(_masked(unwrapped)) != len(unwrapped):
        # Digits may be escaped one by one: then the plain text is shown.
        return _masked(unwrapped)
    return _masked(text)


def _masked(text: str) -> str:
    if not _PERHAPS.search(text):
        return text
    return _PHONE.sub(lambda found: found[0] if found["kept"] is not None else mask_phone(found[0]), text)
