"""Keyed hashes: the same person or message is recognised again, nobody is found by trying all numbers."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from agentops.settings import SERVICE_KEY

if TYPE_CHECKING:
    from agentops.stack import Stack

_CHARACTERS = 32


def pseudonym(stack: Stack, kind: str, value: str) -> str:
    """The pseudonym of a `lane`, a `phone` or a `message`, under this stack's own key. 32 hexadecimal digits."""
    key = stack.secret(SERVICE_KEY) or stack.secret("WA_APP_SECRET") or ""
    return hmac.digest(key.encode(), f"{kind}|{value}".encode(), "sha256").hex()[:_CHARACTERS]
