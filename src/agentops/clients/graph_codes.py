"""Meta's error codes for messages, and what to do about each: one table for the client, the sender and `health`.

    GraphError.code → action(code) → Action

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. Branch on the code alone: titles,
HTTP statuses and subcodes change.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Action(Enum):
    """What a refusal asks for."""

    TOKEN = "token"  # noqa: S105 - the name of an action
    """The token is invalid, expired or lacks a permission: the number stops until the settings change."""
    POLICY = "policy"
    """Meta blocks the account, or it owes money: the number stops, and tries one message an hour."""
    RATE = "rate"
    """The app, the account or the number sends too fast: the number waits."""
    PAIR = "pair"
    """Too many messages to one customer: that customer waits."""
    TRANSIENT = "transient"
    """Meta's own trouble, or nobody reached: that customer's reply is tried again for a while."""
    WINDOW = "window"
    """The customer wrote more than 24 hours ago: only templates are allowed, so the reply is dropped."""
    REFUSED = "refused"
    """This message, to this customer, never."""


_TABLE: Mapping[Action, tuple[int, ...]] = {
    Action.TOKEN: (0, 3, 10, 190, 131005, *range(200, 300)),
    Action.POLICY: (368, 131031, 131042, 131048),
    Action.RATE: (4, 80007, 130429),
    Action.PAIR: (131056,),
    Action.TRANSIENT: (1, 2, 131000, 131016, 131057),
    Action.WINDOW: (131047,),
}
_ACTIONS = {code: action for action, codes in _TABLE.items() for code in codes}

WAITING = frozenset({Action.RATE, Action.PAIR, Action.TRANSIENT})
"""Actions that time alone may cure."""

WORDS: Mapping[int, str] = {
    0: "the token is no longer valid",
    3: "the app lacks the capability",
    10: "the token lacks a permission",
    190: "the token has expired or is invalid",
    131005: "the token lacks a permission",
    368: "Meta blocks the account for a policy violation",
    131031: "Meta has locked the account",
    131042: "Meta sees a payment problem",
    131048: "Meta limits the number because of spam reports",
    4: "the app calls too often",
    80007: "the account calls too often",
    130429: "the number sends too fast",
    131026: "the customer cannot be reached on WhatsApp",
    131047: "the customer wrote more than 24 hours ago",
    131056: "too many messages to one customer",
}

FIXES: Mapping[Action, str] = {
    Action.TOKEN: "set a token that may send for this number: agentops secrets set WA_TOKEN",
    Action.POLICY: "see the account in Meta's Business Support Home; sending is tried again every hour by itself",
    Action.RATE: "nothing to do: sending goes on by itself; for a higher limit see WhatsApp Manager",
}
"""What to type or where to look, by what stops a number."""


def words(code: int | None) -> str:
    """A code for eyes."""
    if code is None:
        return "the token is missing or refused"
    return f"code {code}: {WORDS[code]}" if code in WORDS else f"code {code}"


def action(code: int | None) -> Action:
    """What to do about a code; None is an answer without one (nobody reached, or a gateway's refusal)."""
    return Action.TRANSIENT if code is None else _ACTIONS.get(code, Action.REFUSED)
