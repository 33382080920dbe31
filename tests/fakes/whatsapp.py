"""What WhatsApp posts: payloads of Meta's shape, signed."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from agentops.functions import ai_whatsapp_webhook
from agentops.web import Request

if TYPE_CHECKING:
    from agentops.stack import Stack
    from agentops.web import Response

SLUG = "ai-whatsapp-webhook"
APP_SECRET = "an-app-secret-for-tests"
CUSTOMER = "+250788000001"
_numbers = itertools.count(1)


def text(body: str, sender: str = CUSTOMER, message_id: str | None = None) -> dict[str, Any]:
    """A text message."""
    message_id = message_id or wamid(sender)
    return {
        "from": sender[1:],
        "id": message_id,
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": body},
    }


def wamid(sender: str) -> str:
    """An id like Meta's: base64 that holds the phone number."""
    raw = b"\x1c\x18\x0c" + sender[1:].encode() + b"\x15\x02\x00\x12\x18\x14" + f"{next(_numbers):020d}".encode()
    return f"wamid.{base64.b64encode(raw).decode()}"


def payload(*messages: dict[str, Any], **value: Any) -> dict[str, Any]:
    """A whole delivery with these messages, and more in its value."""
    contacts = [
        {"profile": {"name": "Aline"}, "wa_id": m.get("from"), "user_id": f"RW.{m.get('from')}"} for m in messages
    ]
    metadata = {"display_phone_number": "250788999999", "phone_number_id": "106540352242922"}
    content = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    if messages:
        content |= {"contacts": contacts, "messages": list(messages)}
    change = {"field": "messages", "value": content}
    return {"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [change]}]}


def signed(content: object, correlation_id: str = "corr-1", secret: str = APP_SECRET) -> Request:
    """A POST with its signature; `content` is JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    return Request("POST", SLUG, correlation_id, {"x-hub-signature-256": f"sha256={signature}"}, body=body)


async def deliver(stack: Stack, *messages: dict[str, Any], correlation_id: str = "corr-1") -> Response:
    """One delivery of these messages to the webhook."""
    return await ai_whatsapp_webhook.handle(signed(payload(*messages), correlation_id), stack)
