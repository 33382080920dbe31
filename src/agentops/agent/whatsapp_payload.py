"""What WhatsApp posts, read tolerantly: every message and status of every change, whatever else is around them.

    body (bytes) → parse → messages(body) → Inbound …      statuses(body) → Status …      others(body) → field names

Nothing here raises on a shape it does not know: what cannot be read is left out, one bad item never spoils its batch.
Source: https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/reference
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard
from uuid import UUID

from agentops.store.outbox import Status
from agentops.store.storable import storable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Kinds whose words the model is asked about, and where their words stand.
_TEXTS = {
    "text": (("text", "body"),),
    "button": (("button", "text"),),
    "interactive": (("interactive", "button_reply", "title"), ("interactive", "list_reply", "title")),
}
# Kinds that customers do not wait for an answer to.
_SILENT = frozenset({"reaction", "system", "edit", "revoke", "ephemeral"})
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")
_ID_LENGTH = 256
_KIND = re.compile(r"[a-z_]{1,40}")
_STATES = {"sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message. `phone` is the sender as +E.164 (None where Meta tells only a user id), `text` what the model reads.

    `message_id` is Meta's, or a hash of the message where it has none.
    """

    message_id: str
    phone_id: str
    phone: str | None
    user_id: str | None
    kind: str
    text: str | None
    payload: dict[str, Any]

    @property
    def customer(self) -> str | None:
        """Who sent it: the phone, else the user id."""
        return self.phone or self.user_id

    @property
    def answerable(self) -> bool:
        """Whether the sender expects an answer."""
        return self.kind not in _SILENT


def parse(body: bytes) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """The body as JSON that PostgreSQL can store: NUL and lone surrogates are replaced, NaN is no JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return storable(json.loads(body, parse_constant=_refuse, parse_float=_number))
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None


def messages(content: object) -> Iterator[Inbound]:
    """Every message of every change, in order."""
    for _, value in _changes(content):
        metadata = value.get("metadata")
        phone_id = metadata.get("phone_number_id") if isinstance(metadata, dict) else None
        user_ids = {str(_at(contact, "wa_id")): _at(contact, "user_id") for contact in _objects(value, "contacts")}
        for message in _objects(value, "messages"):
            yield inbound(message, phone_id if _is_id(phone_id) else "", user_ids.get(str(message.get("from"))))


def inbound(message: dict[str, Any], phone_id: str, user_id: object = None) -> Inbound:
    """One message object as `Inbound`."""
    given, kind = message.get("id"), message.get("type")
    sender = str(message.get("from") or "").removeprefix("+")
    own_id = message.get("from_user_id") or user_id
    kind = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "unknown"
    return Inbound(
        message_id=given if _is_id(given) else _hash(message),
        phone_id=phone_id,
        phone=f"+{sender}" if _DIGITS.fullmatch(sender) else None,
        user_id=own_id if _is_id(own_id) else None,
        kind=kind,
        text=next(
            (text for path in _TEXTS.get(kind, ()) if isinstance(text := _at(message, *path), str) and text), None
        ),
        payload=message,
    )


def statuses(content: object) -> list[Status]:
    """What became of messages that we sent."""
    found = []
    for _, value in _changes(content):
        for status in _objects(value, "statuses"):
            wamid, state = status.get("id"), _STATES.get(str(status.get("status")))
            if _is_id(wamid) and state:
                code = next((_at(error, "code") for error in _objects(status, "errors")), None)
                words = f"code {code}" if isinstance(code, int) else None
                found.append(Status(wamid, state, _uuid(status.get("biz_opaque_callback_data")), words))  # type: ignore[arg-type]  # the table's values are the states
    return found


def others(content: object) -> list[str]:
    """The names of what else there is: fields other than messages, and account errors."""
    names = {field if _KIND.fullmatch(field) else "unknown" for field, _ in _changes(content) if field != "messages"}
    if any(_objects(value, "errors") for _, value in _changes(content)):
        names.add("errors")
    return sorted(names)


def _changes(content: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in _objects(content, "entry"):
        for change in _objects(entry, "changes"):
            value = change.get("value")
            yield str(change.get("field") or "unknown"), value if isinstance(value, dict) else {}


def _objects(holder: object, name: str) -> list[dict[str, Any]]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _at(holder: object, *path: str) -> Any:  # noqa: ANN401 - whatever stands there
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def _is_id(value: object) -> TypeGuard[str]:
    """Whether this can be an id: what is longer than an index takes would cost the whole batch."""
    return isinstance(value, str) and 0 < len(value) <= _ID_LENGTH


def _hash(message: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _number(text: str) -> float | str:
    """A number; one beyond every float stays the text that it is, because no database takes infinity as JSON."""
    number = float(text)
    return number if math.isfinite(number) else text


def _refuse(constant: str) -> None:
    message = f"{constant} is no JSON"
    raise ValueError(message)
