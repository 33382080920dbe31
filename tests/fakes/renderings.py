"""The fifteen forms in which a phone number gets into a log."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RENDERINGS: dict[str, Callable[[str], object]] = {
    "wa_id": lambda d: d,
    "e164": lambda d: f"+{d}",
    "spaced": lambda d: f"+{d[:3]} {d[3:6]} {d[6:9]} {d[9:]}",
    "dashed": lambda d: f"+{d[:3]}-{d[3:6]}-{d[6:9]}-{d[9:]}",
    "dotted": lambda d: f"{d[:3]}.{d[3:6]}.{d[6:9]}.{d[9:]}",
    "parentheses": lambda d: f"+{d[:3]} ({d[3:6]}) {d[6:9]}-{d[9:]}",
    "00_prefix": lambda d: f"00{d}",
    "national": lambda d: f"0{d[3:]}",
    "url": lambda d: f"https://wa.me/{d}",
    "json_int": int,
    "jid": lambda d: f"{d}@s.whatsapp.net",
    "percent_encoded": lambda d: f"%2B{d}",
    "unicode_digits": lambda d: "".join(chr((0xFF10 if n % 2 else 0x660) + int(c)) for n, c in enumerate(d)),
    "zero_width": "\u200b".join,
    "base64": lambda d: (
        "wamid." + base64.b64encode(b"\x1c\x18\x0c" + d.encode() + b"\x15\x02\x00\x12\x18\x14AC").decode()
    ),
}
