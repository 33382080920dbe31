"""Every shape that Meta publishes is read, and none that it does not makes an exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentops.agent.whatsapp_payload import SHARED, delivery, parse
from agentops.store.customers import Change

if TYPE_CHECKING:
    from agentops.agent.whatsapp_payload import Delivery, Inbound

WHO = {"from": "250788000001", "from_user_id": "RW.13491", "timestamp": "1749416383"}
CONTACT = {"profile": {"name": "Aline", "username": "aline"}, "wa_id": "250788000001", "user_id": "RW.13491"}


def post(*changes: Any, **entry: Any) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": "1022", "changes": list(changes), **entry}]}


def change(field: Any = "messages", **value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "250788999999", "phone_number_id": "1065"}
    return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}


def message(kind: str, **content: Any) -> dict[str, Any]:
    return post(change(contacts=[CONTACT], messages=[{**WHO, "id": f"wamid.{kind}", "type": kind, **content}]))


def read(content: Any) -> Delivery:
    return delivery(parse(json.dumps(content).encode()))


MESSAGES: list[tuple[str, dict[str, Any], str | None, bool]] = [
    ("text", {"text": {"body": "Muraho"}, "context": {"from": "1", "id": "wamid.x"}}, "Muraho", True),
    ("text", {"text": {"body": "Hi"}, "referral": {"source_url": "u", "ctwa_clid": "c"}}, "Hi", True),
    ("image", {"image": {"id": "1", "mime_type": "image/jpeg", "sha256": "x", "caption": "c"}}, None, True),
    ("audio", {"audio": {"id": "1", "mime_type": "audio/ogg", "voice": True}}, None, True),
    ("video", {"video": {"id": "1", "url": "https://x"}}, None, True),
    ("document", {"document": {"id": "1", "filename": "a.pdf"}}, None, True),
    ("sticker", {"sticker": {"id": "1", "animated": False}}, None, True),
    ("button", {"button": {"payload": "p", "text": "Yes"}}, "Yes", True),
    (
        "interactive",
        {"interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "One"}}},
        "One",
        True,
    ),
    ("interactive", {"interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Two"}}}, "Two", True),
    ("interactive", {"interactive": {"type": "nfm_reply", "nfm_reply": {"response_json": "{}"}}}, None, True),
    ("interactive", {"interactive": {"type": "call_permission_reply", "call_permission_reply": {}}}, None, True),
    ("reaction", {"reaction": {"message_id": "wamid.x", "emoji": "👍"}}, None, False),
    ("reaction", {"reaction": {"message_id": "wamid.x"}}, None, False),
    ("location", {"location": {"latitude": -1.9, "longitude": 30.1}}, None, True),
    ("contacts", {"contacts": [{"name": {}, "phones": [{"phone": "+250 788", "wa_id": "250788000009"}]}]}, None, True),
    ("order", {"order": {"catalog_id": "1", "product_items": []}}, None, True),
    ("system", {"system": {"body": "x", "type": "customer_identity_changed"}}, None, False),
    ("unsupported", {"errors": [{"code": 131051}], "unsupported": {"type": "poll"}}, None, True),
    ("edit", {"edit": {"original_message_id": "wamid.x", "message": {}}}, None, False),
    ("revoke", {"revoke": {"original_message_id": "wamid.x"}}, None, False),
    ("hologram", {"hologram": {}}, None, True),
]


@pytest.mark.parametrize(
    ("kind", "content", "text", "answerable"), MESSAGES, ids=[f"{n}-{kind}" for n, (kind, *_) in enumerate(MESSAGES)]
)
def test_every_kind_of_message_is_read(
    kind: str, content: dict[str, Any], text: str | None, *, answerable: bool
) -> None:
    found = read(message(kind, **content))
    (one,) = found.messages
    assert (one.kind, one.text, one.answerable) == (kind, text, answerable)
    assert (one.phone, one.user_id, one.phone_id) == ("+250788000001", "RW.13491", "1065")
    assert found.rest == []


def test_a_sender_without_a_phone_is_known_by_their_user_id() -> None:
    bare = {"from_user_id": "RW.13491", "id": "wamid.1", "type": "text", "text": {"body": "hi"}}
    assert [(m.phone, m.user_id, m.customer) for m in read(post(change(messages=[bare]))).messages] == [
        (None, "RW.13491", "RW.13491")
    ]
    by_contact = {"id": "wamid.2", "type": "text", "text": {"body": "hi"}}
    two = [{"user_id": "RW.1"}, {"user_id": "RW.2"}]
    assert read(post(change(contacts=two[:1], messages=[by_contact]))).messages[0].user_id == "RW.1"
    assert read(post(change(contacts=two, messages=[by_contact]))).messages[0].user_id is None
    older = {"from": "250788000001", "id": "wamid.3", "type": "text", "text": {"body": "hi"}}
    assert read(post(change(contacts=[CONTACT], messages=[older]))).messages[0].user_id == "RW.13491"


def test_only_the_button_proves_a_number_never_a_contact_picked_by_hand() -> None:
    def shared(origin: Any, *phones: str) -> Inbound:
        contact = {"origin": origin, "phones": [{"phone": f"+{phone}", "wa_id": phone} for phone in phones]}
        bare = {"from_user_id": "RW.1", "id": "wamid.1", "type": "contacts", "contacts": [contact]}
        return read(post(change(messages=[bare]))).messages[0]

    own = shared("contact_request", "250788000001")
    assert (own.phone, own.text) == ("+250788000001", SHARED)
    for other in (
        shared("other", "250788000001"),
        shared(None, "250788000001"),
        shared("contact_request", "1" * 8, "2" * 8),
    ):
        assert (other.phone, other.text) == (None, None)


STATUS = {"id": "wamid.x", "timestamp": "1749416383", "recipient_user_id": "RW.1"}


def test_statuses_are_read_with_and_without_contacts() -> None:
    statuses = [
        {**STATUS, "status": "sent", "biz_opaque_callback_data": "0b0e7a4e-8b1c-4f5e-9f6d-1234567890ab"},
        {**STATUS, "status": "delivered", "recipient_id": "250788000001", "pricing": {"billable": True}},
        {**STATUS, "status": "read"},
        {**STATUS, "status": "played"},
        {**STATUS, "status": "failed", "errors": [{"code": 131026, "title": "Undeliverable"}]},
        {**STATUS, "status": "deleted"},
        {"status": "sent"},
        7,
    ]
    for contacts in ({}, {"contacts": [CONTACT]}):
        found = read(post(change(statuses=statuses, **contacts)))
        assert [status.state for status in found.statuses] == ["sent", "delivered", "read", "read", "failed"]
        assert found.statuses[-1].error == "code 131026"
        assert str(found.statuses[0].callback_data).startswith("0b0e7a4e")
        assert sorted(found.reports) == [("wamid.x", s) for s in ("delivered", "failed", "played", "read", "sent")]
        assert [other.name for other in found.rest] == ["status"] * 3


OTHERS: list[tuple[str, Any]] = [
    ("errors", post(change(errors=[{"code": 130429, "title": "Rate limit hit"}]))),
    ("account_update", post(change("account_update", event="ACCOUNT_VIOLATION"), time=1749416383)),
    ("security", {"entry": [{"id": "1", "time": 1, "changes": [{"field": "security", "value": {"event": "PIN"}}]}]}),
    ("history", post({"field": "history", "value": {"history": [{"phase": 0}]}})),
    ("user_preferences", post(change("user_preferences", contacts=[CONTACT], user_preferences=[{"value": "stop"}]))),
    ("echo", post(change("smb_message_echoes", message_echoes=[{"from": "1", "to_user_id": "RW.1", "id": "wamid.e"}]))),
    ("messages", post(change())),
    ("unknown", post({"field": 7, "value": {}})),
    ("unreadable", post({"field": "messages", "value": [1]})),
    ("unreadable", post(change(messages=["text"]))),
    ("unreadable", {"entry": [{"id": "1"}, {"changes": []}]}),
    ("unreadable", {"object": "page"}),
    ("unreadable", None),
    ("unreadable", [1, 2]),
]


@pytest.mark.parametrize(("name", "content"), OTHERS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(OTHERS)])
def test_what_is_no_message_is_kept_whole(name: str, content: Any) -> None:
    found = read(content)
    assert (found.messages, found.others) == ([], [name])
    assert all(other.payload for other in found.rest)


def test_a_batch_of_many_entries_and_changes_is_taken_whole() -> None:
    texts = [{**WHO, "id": f"wamid.{n}", "type": "text", "text": {"body": str(n)}} for n in range(1000)]
    content = post(*(change(messages=texts[n : n + 10]) for n in range(0, 500, 10)))
    content["entry"] += post(*(change(messages=texts[n : n + 10]) for n in range(500, 1000, 10)))["entry"]
    assert [one.text for one in read(content).messages] == [str(n) for n in range(1000)]


CHANGES: list[tuple[Any, Change]] = [
    (
        message("system", system={"type": "user_changed_number", "wa_id": "250788000002", "user_id": "RW.2"}),
        Change("RW.13491", "+250788000001", "RW.2", "+250788000002"),
    ),
    (
        message("system", system={"type": "user_changed_user_id", "body": "User Aline changed from RW.1 to RW.2"}),
        Change("RW.1", "+250788000001", "RW.2", None),
    ),
    (
        post(change("user_id_update", user_id={"previous": "RW.1", "current": "RW.2"})),
        Change("RW.1", None, "RW.2", None),
    ),
]


@pytest.mark.parametrize(("content", "expected"), CHANGES)
def test_a_new_number_or_user_id_is_a_change_of_the_same_customer(content: Any, expected: Change) -> None:
    assert read(content).changes == [expected]


def test_a_text_message_that_looks_like_a_system_message_changes_nobody() -> None:
    words = "User Aline changed from RW.1 to RW.2"
    typed = message("text", text={"body": words}, system={"type": "user_changed_user_id", "body": words})
    assert read(typed).changes == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "id",
        "from",
        "from_user_id",
        "type",
        "text",
        "system",
        "contacts",
        "phones",
        "wa_id",
        "origin",
        "errors",
        "status",
    ]
)
ITEM = st.dictionaries(
    NAMES, st.sampled_from(["text", "system", "contacts", "wamid.1", "250788000001"]) | JSON, max_size=6
)
VALUE = st.dictionaries(
    st.sampled_from(["messages", "statuses", "errors", "message_echoes", "contacts", "metadata", "user_id"]),
    st.lists(ITEM | JSON, max_size=3) | ITEM | JSON,
    max_size=4,
)
FIELD = st.sampled_from(["messages", "user_id_update", "smb_message_echoes", "flows"]) | JSON


@given(JSON | st.builds(lambda field, value: post({"field": field, "value": value}), FIELD, VALUE | JSON))
def test_no_json_raises(content: Any) -> None:
    found = read(content)
    kept = [(one.message_id, one.payload) for one in found.messages]
    kept += [(other.message_id, other.payload) for other in found.rest]
    json.dumps(kept, allow_nan=False)
    assert all(len(message_id) <= 400 for message_id, _ in kept)
