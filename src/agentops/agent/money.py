"""Calls that move money: one transaction behind the kill switch's barrier, with the idempotency key inside it.

    money() → claim key ─ taken: the stored answer (200), or another request's key (422)
                        └ new:   perform → settle key → commit

What the tool decided (success, not found, wrong state) is kept under the key. What may pass (a flag, a failure) is not.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from agentops.agent import policy
from agentops.agent.outcome import Outcome
from agentops.agent.policy import Refused
from agentops.errors import TimedOut
from agentops.store import idempotency
from agentops.store.vouchers import Hindrance, Voucher

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agentops.agent.outcome import Call
    from agentops.agent.tool import Tool
    from agentops.platforms import Queries

_KEPT = frozenset({404, 409})
_KEY_LENGTH = 255


async def moved(tool: Tool, request: BaseModel, call: Call) -> Outcome:
    """Perform a tool in its transaction; with an idempotency key, once."""
    asked, given = fingerprint(tool.name, request, call), call.idempotency_key
    key = _checked(given(asked) if callable(given) else given)
    async with call.stack.database.money(policy.walled(call.principal)) as transaction:
        if key is None:
            return Outcome.done(await tool.perform(request, call, transaction))
        # Not by actor: who is staff, and the pseudonym of a customer, may change between a request and its repetition.
        # By their phone, because the database shows customers only the keys that end with theirs.
        scope = ":".join(filter(None, (tool.name, call.principal.channel, call.principal.phone)))
        earlier = await _claim(transaction, scope, key, asked)
        if earlier is not None:
            return earlier
        outcome = await _decided(tool, request, call, transaction)
        await idempotency.settle(transaction, scope, key, outcome.status, outcome.body)
        return outcome


def changed(found: Voucher | Hindrance, verb: str) -> Voucher:
    """The voucher as changed, or the refusal that says why not. `verb` is `redeemed` or `voided`.

    Raises:
        Refused: 403, 404, 409, 500 or 503 in the contract's words.
    """
    if isinstance(found, Voucher):
        return found
    if found.why == "disabled":
        raise Refused(403, "feature_disabled")
    if found.why == "not_found":
        raise Refused(404, "Voucher not found")
    if found.why == "wrong_status":
        raise Refused(409, f"Voucher cannot be {verb} (current status: {found.status})")
    if found.why == "unknown_status":
        # The stack's own constraint is older than void: said to the caller, because repeating never helps.
        raise Refused(500, "The database refuses the status void", "agentops db migrate")
    words = "No voucher code is free" if found.why == "no_code" else "temporarily unavailable"
    raise Refused(503, words, retry_after=1)


def fingerprint(tool: str, request: BaseModel, call: Call) -> str:
    """What a request asks for, as a digest: the tool, whose call it is, and the checked arguments in canonical JSON."""
    asked = {"tool": tool, "phone": call.principal.phone, "request": request.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def _claim(transaction: Queries, scope: str, key: str, asked: str) -> Outcome | None:
    try:
        stored = await idempotency.claim(transaction, scope, key, asked)
    except TimedOut:
        words = "A request with this Idempotency-Key is still in progress"
        raise Refused(409, words, event="error", retry_after=1) from None
    if stored is None:
        return None
    if stored.fingerprint != asked:
        raise Refused(422, "Idempotency-Key was used with another request")
    return Outcome.repeated(stored.status, stored.body)


async def _decided(tool: Tool, request: BaseModel, call: Call, transaction: Queries) -> Outcome:
    try:
        return Outcome.done(await tool.perform(request, call, transaction))
    except Refused as refusal:
        if refusal.status in _KEPT:
            return Outcome.refused(refusal)
        raise


def _checked(key: str | None) -> str | None:
    if key is not None and not (0 < len(key) <= _KEY_LENGTH and key.isprintable()):
        raise Refused(400, "Invalid Idempotency-Key", f"expected 1 to {_KEY_LENGTH} printable characters")
    return key
