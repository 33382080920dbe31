"""The stack's keys: the pair that its secrets are sealed to, and the ones that callers and Meta bring.

    first start ──> stack.key (0600) or AGENTOPS_STACK_KEY ──> agentops.stack(kind, public_key), once
                ──> service role key, anon key, verify token, app secret: made where missing, sealed like any secret
    later start ──> the private key must be the one of the row, and the kind (live, sandbox) the same

Only a holder of the private key can read what is sealed: the servers, and `status --show-keys` on this machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentops import seal
from agentops.errors import UsageError
from agentops.settings import SERVICE_KEY
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agentops.platforms.local import LocalPlatform
    from agentops.settings import Process

SERVICE, ANON = SERVICE_KEY, "SUPABASE_ANON_KEY"
VERIFY, APP_SECRET = "WA_VERIFY_TOKEN", "WA_APP_SECRET"
GENERATED = (SERVICE, ANON, VERIFY, APP_SECRET)
_LOCK = 0x6B657973
_TEN_YEARS = 315_360_000
_SQL = statements(__file__)


@dataclass(frozen=True, slots=True)
class StackKey:
    """The private key of a stack, and whether this start made the stack."""

    private: str = field(repr=False)
    created: bool


async def ensure(platform: LocalPlatform, process: Process, kind: str) -> StackKey:
    """Make or check the stack's row and its key, and make the generated secrets that are missing.

    Args:
        platform: a migrated database.
        process: whose AGENTOPS_HOME holds the key.
        kind: live or sandbox.

    Raises:
        UsageError: the private key is missing or another one; the database is of the other kind.
    """
    await platform.query(_SQL["lock"], {"key": _LOCK})
    try:
        created = await _make_stack(platform, process, kind)
        private = await require(platform, process, kind)
        rows = await platform.query(_SQL["present"], {"names": list(GENERATED)})
        present = {row["name"] for row in rows}
        missing: dict[str, str | None] = {name: text for name, text in _generated().items() if name not in present}
        if missing:
            await platform.set_secrets(missing, check=False)
        return StackKey(private, created)
    finally:
        await platform.query(_SQL["unlock"], {"key": _LOCK})


async def require(platform: LocalPlatform, process: Process, kind: str | None = None) -> str:
    """The private key that belongs to this database.

    Raises:
        UsageError: there is none on this machine, it is another, or the stack is of another kind than `kind`.
    """
    rows = await platform.query(_SQL["stack"])
    if not rows:
        raise UsageError("this database is no stack yet: it has no keys", "agentops up (or serve) makes them")
    if kind is not None and rows[0]["kind"] != kind:
        raise UsageError(*_other_kind(rows[0]["kind"]))
    private = seal.private_key(process.home)
    if private is None:
        raise UsageError(
            f"this stack's private key is not on this machine: no {process.home / seal.KEY_FILE}",
            f"copy stack.key from the machine that made the stack, or set {seal.VARIABLE} to its one line",
        )
    if seal.public_of(private) != rows[0]["public_key"]:
        where = seal.VARIABLE if os.environ.get(seal.VARIABLE, "").strip() else str(process.home / seal.KEY_FILE)
        raise UsageError(
            f"the key in {where} is not the one that this database's secrets are sealed to",
            f"copy stack.key from the machine that made the stack, or set {seal.VARIABLE} to its one line",
        )
    return private


async def shown(platform: LocalPlatform, private: str) -> Mapping[str, str]:
    """The generated keys in clear, by name; that they were shown is audited."""
    rows = await platform.query(_SQL["sealed"], {"names": list(GENERATED)})
    await platform.query(_SQL["audit_shown"], {"actor": platform.actor, "names": [row["name"] for row in rows]})
    return {row["name"]: seal.unseal(private, row["name"], row["version"], bytes(row["sealed"])) for row in rows}


def role_key(role: str, secret: bytes, now: int) -> str:
    """A JWT (HS256) that says `role`, valid for ten years from `now` (Unix seconds), as Supabase's API keys are."""
    claims = {"iss": "agentops", "role": role, "iat": now, "exp": now + _TEN_YEARS}
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


async def _make_stack(platform: LocalPlatform, process: Process, kind: str) -> bool:
    if await platform.query(_SQL["stack"]):
        return False
    private = seal.private_key(process.home) or _new_key(process.home)
    parameters = {"kind": kind, "public_key": seal.public_of(private), "actor": platform.actor}
    return bool((await platform.query(_SQL["create"], parameters))[0]["created"])


def _new_key(home: Path) -> str:
    private, _ = seal.new_key()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(home / seal.KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        # Another start, for another target, made it a moment ago.
        return seal.private_key(home) or private
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(private + "\n")
        file.flush()
        os.fsync(file.fileno())
    return private


def _generated() -> dict[str, str]:
    # The signing secret is not kept: keys are compared whole, and nobody else shall be able to sign one.
    secret, now = secrets.token_bytes(32), int(time.time())
    return {
        SERVICE: role_key("service_role", secret, now),
        ANON: role_key("anon", secret, now),
        VERIFY: secrets.token_urlsafe(24),
        APP_SECRET: secrets.token_hex(16),
    }


def _other_kind(found: str) -> tuple[str, str]:
    if found == "sandbox":
        return (
            "this database belongs to a sandbox, it does not serve live",
            "agentops up --sandbox runs the sandbox; a live stack needs a database of its own",
        )
    return "this database belongs to a live stack, it does not serve a sandbox", "agentops up (without --sandbox)"


def _part(content: Mapping[str, object]) -> str:
    return _base64(json.dumps(content, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
