"""Who may do what. The model is hostile: what it names is checked against who is really there.

| principal | may |
|---|---|
| operator (service key) | everything, for any customer, whom they must name |
| staff (their number is in AGENT_STAFF_MSISDNS) | act for themselves, or for a customer whom they name (audited) |
| customer (verified sender) | act for themselves only |
| nobody | nothing |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agentops.agent import phones
from agentops.agent.pseudonyms import pseudonym
from agentops.errors import AgentOpsError, UsageError
from agentops.redact import mask_phone
from agentops.settings import CHAT, VOICE
from agentops.store.database import Customer

if TYPE_CHECKING:
    from agentops.stack import Stack

Channel = Literal["http", "chat", "voice"]
# Which flag a channel needs besides the tool's own. `agentops.vouchers_on` says the same inside the database.
CHANNEL_FLAGS: dict[Channel, str | None] = {"http": None, "chat": CHAT, "voice": VOICE}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is there, as the server knows it; never as a model says it. `phone` is E.164 and verified.

    `actor` is what ledger and audit remember.
    """

    channel: Channel
    actor: str
    phone: str | None = None
    staff: bool = False
    operator: bool = False


class Refused(AgentOpsError):
    """A tool's refusal: an HTTP status and the contract's words, and the next step where the words leave it open.

    `event` is the last word of the tool event that tells of it, where the status does not say it; `retry_after` is
    in seconds.
    """

    def __init__(
        self,
        status: int,
        error: str,
        hint: str | None = None,
        *,
        event: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(error, hint)
        self.status = status
        self.error = error
        self.event = event
        self.retry_after = retry_after


def sender(phone: str | None, stack: Stack, user_id: str = "") -> Principal:
    """The principal of a verified chat message from `phone` (E.164): staff where AGENT_STAFF_MSISDNS names it.

    Without a phone it is who has that `user_id` at Meta, and may nothing that needs one.

    The actor is masked for eyes, with a keyed hash that tells one number from another: a hash without a key would give
    the masked digits away to whoever tries them all.
    """
    if phone is None:
        return Principal("chat", f"customer {pseudonym(stack, 'user', user_id)[:8]}")
    listed = (stack.secret("AGENT_STAFF_MSISDNS") or "").replace(";", ",").split(",")
    staff = phone in {_known(entry, country(stack)) for entry in listed if entry.strip()}
    digest = pseudonym(stack, "phone", phone)[:8]
    return Principal("chat", f"{'staff' if staff else 'customer'} {mask_phone(phone)} {digest}", phone, staff=staff)


def country(stack: Stack) -> str:
    """The country whose national phone numbers are understood."""
    return stack.secret("AGENT_COUNTRY") or phones.DEFAULT_COUNTRY


def admit(principal: Principal) -> None:
    """Refuse nobody's call.

    Raises:
        Refused: 401 unauthorized.
    """
    if not principal.operator and principal.phone is None:
        raise Refused(401, "unauthorized")


def may_name_another(principal: Principal) -> bool:
    """Whether this principal may act for a customer whom they name."""
    return principal.operator or principal.staff


def customer(principal: Principal, named: object, words: str, home: str) -> str:
    """The number (E.164) that a call is about: the one named, or else the principal's own.

    Args:
        principal: who calls.
        named: the phone in the call's arguments, None where there is none.
        words: what a number that cannot be read is refused with (400).
        home: the configured country.

    Raises:
        Refused: 400 no number; 403 a customer named another's.
    """
    if named is None and principal.phone is not None:
        return principal.phone
    if not isinstance(named, str):
        raise Refused(400, words)
    try:
        phone = phones.normalised(named, home)
    except UsageError as error:
        raise Refused(400, words, error.hint) from None
    if phone != principal.phone and not may_name_another(principal):
        raise Refused(403, "not allowed for another customer", event="unauthorized")
    return phone


def limited(principal: Principal) -> bool:
    """Whether the limits of vouchers bind this principal: everybody in chat and voice, staff too."""
    return principal.channel != "http"


def walled(principal: Principal) -> Customer | None:
    """Whom the database holds this principal to: customers to themselves; None is nobody in particular."""
    if principal.phone is None or may_name_another(principal):
        return None
    return Customer(principal.phone, principal.actor)


def owner(principal: Principal) -> str | None:
    """Whose vouchers this principal may touch: None means anybody's.

    Raises:
        Refused: 401 unauthorized (nobody is never everybody).
    """
    admit(principal)
    return None if may_name_another(principal) else principal.phone


def _known(entry: str, home: str) -> str | None:
    try:
        return phones.normalised(entry, home)
    except UsageError:
        return None  # a slip in the list makes nobody staff
