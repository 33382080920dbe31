"""Sealed secrets: whoever knows the stack's public key can seal a value, only the private key opens it.

    ephemeral X25519 ── shared secret ── HKDF-SHA256 ── AES-256-GCM(value, associated data = name, version)

A sealed value is `ephemeral public key (32 bytes) ‖ ciphertext and tag`. The key is used once, so the nonce is fixed.
Name and version are associated data: a row's bytes moved to another row, or an older value put back, do not open.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING

from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY_FILE = "stack.key"
VARIABLE = "AGENTOPS_STACK_KEY"
_KEY_BYTES = 32
_NONCE = bytes(12)
_CONTEXT = b"agentops/sealed-secret/v1"


def new_key() -> tuple[str, str]:
    """A fresh (private, public) key pair, each URL-safe base64."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    return _encode(private.private_bytes_raw()), _encode(private.public_key().public_bytes_raw())


def private_key(home: Path, environment: Mapping[str, str] | None = None) -> str | None:
    """The stack's private key where this machine has it: `AGENTOPS_STACK_KEY`, else the file `stack.key` in `home`.

    Raises:
        UsageError: the file is there and cannot be read.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if given:
        return given
    file = home / KEY_FILE
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "it belongs to the user who ran agentops up") from error


def public_of(private_key: str) -> str:
    """The public key that belongs to a private one.

    Raises:
        UsageError: the text is no key.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return _encode(X25519PrivateKey.from_private_bytes(_decode(private_key)).public_key().public_bytes_raw())


def seal(public_key: str, name: str, version: int, value: str) -> bytes:
    """Seal `value` as version `version` of secret `name`."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    recipient = X25519PublicKey.from_public_bytes(_decode(public_key))
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    key = _derive(ephemeral.exchange(recipient), sender + recipient.public_bytes_raw())
    return sender + AESGCM(key).encrypt(_NONCE, value.encode(), _associated(name, version))


def unseal(private_key: str, name: str, version: int, sealed: bytes) -> str:
    """Open what `seal` made.

    Raises:
        UsageError: the key, the name or the version is another, or the bytes were changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    private = X25519PrivateKey.from_private_bytes(_decode(private_key))
    sender = sealed[:_KEY_BYTES]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(sender))
        key = _derive(shared, sender + private.public_key().public_bytes_raw())
        return AESGCM(key).decrypt(_NONCE, sealed[_KEY_BYTES:], _associated(name, version)).decode()
    except (InvalidTag, ValueError) as error:
        message = f"secret {name} (version {version}) does not open with this stack's private key"
        raise UsageError(message, f"set it again: agentops secrets set {name}") from error


def _derive(shared: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_CONTEXT).derive(shared)


def _associated(name: str, version: int) -> bytes:
    return f"{_CONTEXT.decode()}|{name}|{version}".encode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise UsageError("the stack key is not a valid key", "it is the one line of AGENTOPS_HOME/stack.key")
    return raw
