"""What may be stored as a secret or a flag, and the digest that stands for a value wherever people see it."""

from __future__ import annotations

import hashlib
import re

from agentops.errors import UsageError
from agentops.settings import FALSY, FLAG_PREFIX, TRUTHY, is_flag

SHOWN_DIGITS = 12
MAXIMUM_NAME = 256
MAXIMUM_BYTES = 24_576
MAXIMUM_AT_ONCE = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAG = re.compile(FLAG_PREFIX + r"[A-Z0-9_]+")


def digest(text: str) -> str:
    """SHA-256 of a stored text, as 64 hexadecimal digits; people are shown the first 12."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_name(name: str) -> bool:
    """Whether a secret or flag can have this name: letters, digits and _, no digit first, 256 at most."""
    return bool(_NAME.fullmatch(name)) and len(name) <= MAXIMUM_NAME and (not is_flag(name) or is_flag_name(name))


def is_flag_name(name: str) -> bool:
    """Whether a flag can have this name."""
    return bool(_FLAG.fullmatch(name))


def stored(name: str, value: str) -> str:
    """The text that is stored: the value as given, for a flag `true` or `false`. Errors name the name only.

    Raises:
        UsageError: the name or the value cannot be.
    """
    if not is_name(name):
        hint = f"{FLAG_PREFIX} and then capital letters, digits and _" if is_flag(name) else "letters, digits and _"
        raise UsageError(f"{name!r} is no name of a secret or flag", f"names are {hint}, no digit first, 256 at most")
    if is_flag(name):
        word = value.strip().lower()
        if word not in TRUTHY | FALSY:
            raise UsageError(f"the value of {name} is neither on nor off", "write true or false")
        return "true" if word in TRUTHY else "false"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the value of {name} is no UTF-8 text", "encode it, for example as base64") from None
    if size > MAXIMUM_BYTES:
        raise UsageError(f"the value of {name} has {size:,} bytes, the limit is {MAXIMUM_BYTES:,}", "shorten it")
    return value
