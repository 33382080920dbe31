"""What WhatsApp posts, read tolerantly: every update of every change, whatever else is around it.

    body (bytes) → parse → delivery → messages (Inbound …) · statuses (Status …) · changes of identity · rest (Other …)

Nothing here raises on a shape it does not know: what cannot be read goes to the rest, whole, and one bad item never
spoils its batch.
Source: https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/reference
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agentops.storable import storable
from agentops.store.customers import Change
from agentops.store.outbox import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

# Kinds whose words the model is asked about, and where their words stand.
_TEXTS = {
    "text": (("text", "body"),),
    "button": (("button", "text"),),
    "interactive": (("interactive", "button_reply", "title"), ("interactive", "list_reply", "title")),
}
# What the model reads where a customer has pressed the button that shares their own number.
SHARED = "(I have shared my phone number.)"
# Kinds that customers do not wait for an answer to.
_SILENT = frozenset({"reaction", "system", "edit", "revoke", "ephemeral"})
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")
_KIND = re.compile(r"[a-z_]{1,40}")
# An index entry of PostgreSQL holds 2,700 bytes; no id of Meta's comes near.
_ID = re.compile(r"[!-~]{1,400}")
_PHONE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USER_ID = re.compile(r"[A-Za-z][!-~]{0,199}")
_USER_IDS = re.compile(r"\b[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}\b")
_CODES = 2**31  # what a column holds
_STATES = {"sent": "sent", "delivered": "delivered", "read": "read", "played": "read", "failed": "failed"}
_UPDATES = ("messages", "statuses", "errors", "message_echoes")


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


@dataclass(frozen=True, slots=True)
class Other:
    """An update that is no message to us: kept as evidence, never answered. `name` says what it is, for the log."""

    message_id: str
    name: str
    kind: str
    payload: dict[str, Any]


@dataclass(slots=True)
class Delivery:
    """Everything that one POST holds, in order."""

    messages: list[Inbound] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    # Each status as it came, by (message id, status).
    reports: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    rest: list[Other] = field(default_factory=list)
    # What Meta told of the account itself: codes by the id of their evidence in `rest`, None where it has none.
    account: dict[str, int | None] = field(default_factory=dict)

    @property
    def others(self) -> list[str]:
        """The names of what else there is: fields other than messages, account errors, echoes, the unreadable."""
        return sorted({other.name for other in self.rest})


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


def delivery(content: object) -> Delivery:
    """Every update of every change of every entry."""
    found = Delivery()
    entries = content.get("entry") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        found.rest.append(_other("unreadable", content))
        return found
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            found.rest.append(_other("unreadable", entry))
            continue
        for change in changes:
            _take(found, change, entry)
    return found


def inbound(message: dict[str, Any], phone_id: str, user_id: object = None) -> Inbound:
    """One message object as `Inbound`."""
    given, kind = message.get("id"), message.get("type")
    own_id = _user_id(message.get("from_user_id")) or _user_id(user_id)
    kind = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "unknown"
    phone = _phone(message.get("from")) or _shared_phone(message)
    texts = (text for path in _TEXTS.get(kind, ()) if isinstance(text := _at(message, *path), str) and text)
    return Inbound(
        message_id=given if isinstance(given, str) and _ID.fullmatch(given) else _hash(message),
        phone_id=phone_id,
        phone=phone,
        user_id=own_id,
        kind=kind,
        text=SHARED if _shared_phone(message) else next(texts, None),
        payload=message,
    )


def _take(found: Delivery, change: object, entry: dict[str, Any]) -> None:
    """Sort one change's updates."""
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(change, dict) or not isinstance(value, dict):
        found.rest.append(_other("unreadable", {"change": change, "time": entry.get("time")}))
        return
    name = change.get("field")
    name = name if isinstance(name, str) and _KIND.fullmatch(name) else "unknown"
    updates = {each: value[each] for each in _UPDATES if isinstance(value.get(each), list)}
    if name not in {"messages", "smb_message_echoes"} or not updates:
        found.changes += _changes_of_field(name, value)
        found.rest.append(_other(name, {"change": change, "time": entry.get("time")}))
        return
    for message, user_id, phone_id in _messages(value, updates.get("messages", [])):
        if isinstance(message, dict):
            read = inbound(message, phone_id, user_id)
            found.messages.append(read)
            found.changes += _changes_of_message(read)
        else:
            found.rest.append(_other("unreadable", {"message": message}))
    for status in updates.get("statuses", []):
        _take_status(found, status)
    for error in updates.get("errors", []):
        other = _other("errors", {"error": error, "time": entry.get("time")})
        found.rest.append(other)
        found.account[other.message_id] = _code(error)
    for echo in updates.get("message_echoes", []):
        found.rest.append(_other("echo", {"echo": echo}, "echo"))


def _messages(value: dict[str, Any], messages: list[Any]) -> Iterator[tuple[object, object, str]]:
    """Each message with its sender's user id as `contacts` tells it, and the number that it came to."""
    given = _at(value, "metadata", "phone_number_id")
    phone_id = given if isinstance(given, str) and _PHONE_ID.fullmatch(given) else ""
    contacts = [each for each in _list(value, "contacts") if isinstance(each, dict)]
    user_ids = {each["wa_id"]: each.get("user_id") for each in contacts if isinstance(each.get("wa_id"), str)}
    only = contacts[0].get("user_id") if len(contacts) == 1 and "wa_id" not in contacts[0] else None
    for message in messages:
        sender = message.get("from") if isinstance(message, dict) else None
        yield message, (user_ids.get(sender) if isinstance(sender, str) else only), phone_id


def _take_status(found: Delivery, status: object) -> None:
    wamid, said = _at(status, "id"), _at(status, "status")
    state = _STATES.get(said) if isinstance(said, str) else None
    if not isinstance(status, dict) or not isinstance(wamid, str) or not _ID.fullmatch(wamid) or state is None:
        found.rest.append(_other("status", {"status": status}))
        return
    code = next((_code(error) for error in _list(status, "errors") if isinstance(error, dict)), None)
    words = None if code is None else f"code {code}"
    found.reports[wamid, str(said)] = status
    found.statuses.append(Status(wamid, state, _uuid(status.get("biz_opaque_callback_data")), words, code))  # type: ignore[arg-type]  # the table's values are the states


def _changes_of_message(message: Inbound) -> Iterator[Change]:
    """A system message's change of number or user id. Signed by Meta, never typed by a customer."""
    system = message.payload.get("system") if message.kind == "system" else None
    kind = _at(system, "type")
    if kind in {"user_changed_number", "customer_changed_number"}:
        phone = _phone(_at(system, "wa_id")) or _phone(_at(system, "new_wa_id"))
        yield Change(message.user_id, message.phone, _user_id(_at(system, "user_id")), phone)
    elif kind == "user_changed_user_id":
        told = _USER_IDS.findall(body) if isinstance(body := _at(system, "body"), str) else []
        new_id = _user_id(_at(system, "user_id")) or (told[1] if len(told) == 2 else None)  # noqa: PLR2004 - from, to
        old_id = told[0] if len(told) == 2 else message.user_id  # noqa: PLR2004 - from, to
        yield Change(old_id, message.phone, new_id, _phone(_at(system, "wa_id")))


def _changes_of_field(name: str, value: dict[str, Any]) -> Iterator[Change]:
    """The field `user_id_update`: `user_id.{previous,current}`, alone or several."""
    if name != "user_id_update":
        return
    for holder in (value, *_list(value, name), *_list(value, "contacts")):
        old, new = _at(holder, "user_id", "previous"), _at(holder, "user_id", "current")
        if _user_id(old) and _user_id(new):
            yield Change(_user_id(old), None, _user_id(new), _phone(_at(holder, "wa_id")))


def _shared_phone(message: dict[str, Any]) -> str | None:
    """The sender's own number, where they pressed the button that shares it; a contact picked by hand is no proof."""
    contacts = [each for each in _list(message, "contacts") if isinstance(each, dict)]
    if message.get("type") != "contacts" or len(contacts) != 1:
        return None
    phones = [each for each in _list(contacts[0], "phones") if isinstance(each, dict)]
    told = [_at(holder, "origin") for holder in (message, contacts[0], *phones)]
    origins = {each for each in told if isinstance(each, str)}
    numbers = {_phone(each.get("wa_id")) for each in phones}
    return numbers.pop() if origins == {"contact_request"} and len(numbers) == 1 else None


def _other(name: str, payload: object, kind: str = "other") -> Other:
    held = payload if isinstance(payload, dict) else {"content": payload}
    return Other(_hash(held), name, kind, held)


def _code(error: object) -> int | None:
    code = _at(error, "code")
    return code if isinstance(code, int) and 0 <= code < _CODES else None


def _list(holder: object, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []


def _at(holder: object, *path: str) -> Any:  # noqa: ANN401 - whatever stands there
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def _phone(wa_id: object) -> str | None:
    digits = wa_id.removeprefix("+") if isinstance(wa_id, str) else ""
    return f"+{digits}" if _DIGITS.fullmatch(digits) else None


def _user_id(given: object) -> str | None:
    """Meta's user id, opaque; one that could be taken for a phone is none."""
    return given if isinstance(given, str) and _USER_ID.fullmatch(given) else None


def _hash(content: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
