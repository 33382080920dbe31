"""Pseudonyms under a stack's own key; what they are stands in `agentops.pseudonyms`."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from agentops import pseudonyms

if TYPE_CHECKING:
    from agentops.stack import Stack

_CHARACTERS = 32


def customer(stack: Stack, identity: str) -> str:
    """The `customer` field of events: `identity` is +E.164, or Meta's user id where no phone is known."""
    return pseudonyms.customer(stack.pseudonym_key, identity)


def message(stack: Stack, message_id: str) -> str:
    """The `message` field of events."""
    return pseudonyms.message(stack.pseudonym_key, message_id)


def pseudonym(stack: Stack, kind: str, value: str) -> str:
    """The pseudonym of a `lane` for those outside, who shall not link it to our logs. 32 hexadecimal digits."""
    return hmac.digest(stack.pseudonym_key, f"{kind}|{value}".encode("utf-8", "replace"), "sha256").hex()[:_CHARACTERS]
