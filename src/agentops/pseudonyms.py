"""Pseudonyms: the same customer or message is recognised again, nobody is found by trying all numbers.

    stack.key (private) → key(private) → customer(key, '+250…') = 'c1_' + 16 characters · message(key, id) = 'm1_…'

A keyed hash (HMAC-SHA256), separate per kind; the key never stands beside the logs. `1` is the version of the scheme.
Servers and operators who have the stack's private key get the same pseudonym, so a log can be searched for a number.
"""

from __future__ import annotations

import base64
import hmac
import re

_CONTEXT = b"agentops/pseudonyms/v1"
_BYTES = 10  # 16 characters of base32
_CUSTOMER = re.compile(r"c1_[a-z2-7]{16}")


def key(private: str) -> bytes:
    """The key of all pseudonyms of a stack, from the one line of its private key. 32 bytes."""
    return hmac.digest(private.strip().encode(), _CONTEXT, "sha256")


def customer(secret: bytes, identity: str) -> str:
    """A customer's pseudonym: `identity` is +E.164, or Meta's user id where no phone is known."""
    return f"c1_{_hashed(secret, 'phone' if identity.startswith('+') else 'user', identity)}"


def is_customer(text: str) -> bool:
    """Whether this is a customer's pseudonym, as events carry it."""
    return _CUSTOMER.fullmatch(text) is not None


def message(secret: bytes, message_id: str) -> str:
    """A WhatsApp message's pseudonym: its id holds a phone number, so the id itself is never logged."""
    return f"m1_{_hashed(secret, 'message', message_id)}"


def _hashed(secret: bytes, kind: str, value: str) -> str:
    digest = hmac.digest(secret, f"{kind}|{value}".encode("utf-8", "replace"), "sha256")
    return base64.b32encode(digest[:_BYTES]).decode().lower()
