"""Keeps phone numbers out of anything that is written down for eyes.

A phone is shown as its first 5 and last 3 characters (`+2507***456`). `scrub` is the second wall: fields are
declared masked where they are written, and whatever still looks like a phone number is masked here.
"""

from __future__ import annotations

import re

# A run of 9 to 15 digits, perhaps with one separator between digits, that is no part of a longer word or number:
# the forms in which a phone number travels (`+250 788 000 000`, `250788000000`, `0788-000-000`, `%2B250…`).
_PHONE = re.compile(r"(?<![0-9A-Za-z.-])(?:\+|%2[Bb])?\d(?:[ -]?\d){8,14}(?![0-9A-Za-z-])|(?<=%2[Bb])\d{9,15}")
_WAMID = re.compile(r"wamid\.[A-Za-z0-9+/=_-]+")


def mask_phone(phone: str) -> str:
    """`+250788123456` → `+2507***456`. Shorter texts are masked whole."""
    return f"{phone[:5]}***{phone[-3:]}" if len(phone) >= 10 else "***"  # noqa: PLR2004 - below, 8 of the digits would show


def scrub(value: object) -> object:
    """The same value with everything masked that looks like a phone number or a WhatsApp message id (it holds one)."""
    if isinstance(value, str):
        masked = _WAMID.sub("wamid.***", value)
        return _PHONE.sub(lambda match: mask_phone(match[0]), masked)
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**9:
        return scrub(str(value))
    return value
