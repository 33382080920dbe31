"""What a tool call carries in, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentops.agent import pseudonyms
from agentops.redact import mask_phone
from agentops.store.vouchers import By

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from agentops.agent.policy import Principal, Refused
    from agentops.stack import Stack

# How a call's end event is named where its status says it; other failures are `error`.
_EVENTS = {200: "success", 401: "unauthorized", 403: "feature_disabled", 404: "not_found", 409: "invalid_status"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: who, with which stack, under which id. `masked` collects phones for the end event.

    The idempotency key is the caller's, or is made of the checked request's fingerprint by the caller's own rule.
    """

    principal: Principal
    stack: Stack
    correlation_id: str
    idempotency_key: str | Callable[[str], str] | None = None
    masked: dict[str, str] = field(default_factory=dict)

    @property
    def by(self) -> By:
        """Who changes a voucher by this call."""
        return By(self.principal.channel, self.principal.actor, self.correlation_id)

    def note_phone(self, name: str, phone: str) -> None:
        """Show `phone` in the end event: masked, and as a pseudonym where it is not the caller's own."""
        self.masked[f"{name}_masked"] = mask_phone(phone)
        if phone != self.principal.phone:
            self.masked["about"] = pseudonyms.customer(self.stack, phone)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller gets: an HTTP status and the answer's body. The rest is for events and headers.

    `event` is the end event's last word, `finding` what only the log may know, `retry_after` is in seconds.
    """

    status: int
    body: Mapping[str, object]
    event: str
    replayed: bool = False
    finding: str | None = None
    retry_after: int | None = None

    @classmethod
    def done(cls, answer: BaseModel) -> Outcome:
        """Success. What is not known is left out of the body."""
        return cls(200, answer.model_dump(mode="json", exclude_none=True), "success")

    @classmethod
    def refused(cls, refusal: Refused) -> Outcome:
        """A refusal in the contract's words, with what is expected where it says so."""
        body: dict[str, object] = {"success": False, "error": refusal.error}
        if refusal.hint:
            body["hint"] = refusal.hint
        event = refusal.event or _EVENTS.get(refusal.status, "error")
        return cls(refusal.status, body, event, retry_after=refusal.retry_after)

    @classmethod
    def failed(
        cls,
        status: int,
        words: str,
        *,
        event: str = "error",
        finding: str | None = None,
        retry_after: int | None = None,
    ) -> Outcome:
        """A failure of ours: `words` for the caller, `finding` for the log."""
        return cls(status, {"success": False, "error": words}, event, finding=finding, retry_after=retry_after)

    @classmethod
    def repeated(cls, status: int, body: Mapping[str, object]) -> Outcome:
        """The stored answer of an earlier request with the same idempotency key."""
        return cls(status, body, _EVENTS.get(status, "error"), replayed=True)
