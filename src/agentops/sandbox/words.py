"""How the simulated model tells a person what a tool did: one short, friendly sentence per result."""

from __future__ import annotations

from typing import Any

_FAILURES = {
    "feature_disabled": "This is switched off at the moment. Please try again later.",
    "unauthorized": "I am not allowed to do that for you.",
    "Voucher not found": "I cannot find that voucher. Please check its number.",
    "Voucher does not belong to this customer": "That voucher belongs to another customer.",
    "Invalid amount": "That is not an amount that I can make a voucher for.",
    "Invalid voucher_id": "That is not a voucher's number. Please check it.",
    "Invalid msisdn parameter": "That is not a phone number with a country code, like +250…",
    "Invalid customer_msisdn": "That is not a phone number with a country code, like +250…",
}


def told(tool: str, arguments: dict[str, Any], output: object) -> str:
    """The sentence for one tool's output: `{success: true, …}`, `{success: false, error}`, or whatever came instead."""
    if not isinstance(output, dict):
        return f"The answer is: {output}" if output else "That is done."
    if output.get("error") or output.get("success") is False:
        error = str(output.get("error") or "something went wrong")
        return _FAILURES.get(error) or f"That did not work: {error[:1].lower()}{error[1:]}."
    voucher = output.get("voucher_id") or arguments.get("voucher_id") or "your voucher"
    match tool:
        case "create_voucher" if output.get("status") == "pending_approval":
            return _waiting(output, arguments)
        case "create_voucher":
            return f"Your voucher {voucher} for {_money(output, arguments)} is ready."
        case "redeem_voucher":
            return f"Voucher {voucher} is redeemed. Thank you!"
        case "void_voucher":
            return f"Voucher {voucher} is void now."
        case "lookup_customer":
            return _customer(output)
    return "That is done."


def _waiting(output: dict[str, Any], arguments: dict[str, Any]) -> str:
    """Whoever the voucher is for is told of the decision, where they have written to us; not whoever asked for it."""
    amount = _money(output, arguments)
    if arguments.get("customer_msisdn") is None:
        return f"Your voucher for {amount} waits for approval. You will hear of it here."
    return f"The voucher for {amount} waits for approval. Its customer will hear of it, if they chat with us."


def _money(output: dict[str, Any], arguments: dict[str, Any]) -> str:
    amount = output.get("amount", arguments.get("amount"))
    shown = f"{amount:,}" if isinstance(amount, (int, float)) else str(amount)
    return f"{shown} {output.get('currency') or 'RWF'}"


def _customer(output: dict[str, Any]) -> str:
    phone = f" with {output['msisdn']}" if output.get("msisdn") else ""
    if not output.get("exists"):
        return f"I found no customer{phone}."
    return f"Yes, {output.get('name') or 'a customer'}{phone} is known to us."
