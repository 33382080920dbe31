"""ai-whatsapp-webhook: takes what WhatsApp posts, durably, and answers it later.

    GET hub.* → the challenge (Meta's verification) · GET → health
    POST → signature over the raw bytes → every message in the inbox, one commit → 200 {"received": true}
    worker → work(job) → agent.whatsapp.answer, message by message

Exactly 200 for whatever was understood or stored: anything else makes Meta deliver again, for seven days.
Source: https://developers.facebook.com/docs/whatsapp/cloud-api/guides/set-up-webhooks
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from agentops.agent import answering, whatsapp, whatsapp_payload
from agentops.errors import AgentOpsError
from agentops.settings import CHAT
from agentops.store import inbox, outbox
from agentops.web import json_response, text_response

if TYPE_CHECKING:
    from agentops.agent.whatsapp_payload import Inbound
    from agentops.stack import Stack
    from agentops.web import Request, Response


async def handle(request: Request, stack: Stack) -> Response:
    """Meta's verification and messages; a GET without `hub.*` is the function's health."""
    if request.method == "GET":
        return _verified(request, stack) if "hub.mode" in request.query else answering.health(request.slug, stack)
    if request.method != "POST":
        return answering.method_not_allowed()
    events = stack.events.bind(request.correlation_id, request.slug)
    finding = _unsigned(request, stack)
    if finding:
        emit = events.error if "not set" in finding else events.warning
        emit("ai.whatsapp.webhook.exception", error=finding)
        return answering.failure(401, "unauthorized")
    try:
        content = whatsapp_payload.parse(request.body)
    except ValueError:
        events.warning("ai.whatsapp.webhook.exception", error="the body is not valid JSON")
        return answering.failure(400, "The request body is not valid JSON")
    try:
        await _store(content, request, stack)
    except AgentOpsError as failure:
        events.error("ai.whatsapp.webhook.exception", error=failure.message)
        return answering.failure(503, "temporarily unavailable", Retry_After="5")
    return json_response(200, {"received": True})


async def work(job: inbox.Job, stack: Stack) -> None:
    """Answer a conversation's messages in order.

    Raises:
        AgentOpsError: the first message that is still queued failed; it and those behind it wait.
    """
    for message in job.messages:
        if job.stopping():
            return
        await whatsapp.answer(job.lease, message, stack)


def _verified(request: Request, stack: Stack) -> Response:
    query, token = request.query, stack.secret("WA_VERIFY_TOKEN")
    agrees = token is not None and hmac.compare_digest(_bytes(query.get("hub.verify_token", "")), _bytes(token))
    accepted = agrees and query.get("hub.mode") == "subscribe" and "hub.challenge" in query
    events = stack.events.bind(request.correlation_id, request.slug)
    if accepted:
        events.info("ai.whatsapp.webhook.verify", accepted=True)
        return text_response(200, query["hub.challenge"])
    why = "another verify token" if token else "WA_VERIFY_TOKEN is not set"
    events.warning("ai.whatsapp.webhook.verify", accepted=False, error=why)
    return answering.failure(403, "unauthorized")


def _unsigned(request: Request, stack: Stack) -> str | None:
    """What is wrong with the signature; None where the app secret made it over these very bytes."""
    secret = stack.secret("WA_APP_SECRET")
    if secret is None:
        return "WA_APP_SECRET is not set, so no delivery can be trusted (agentops secrets set WA_APP_SECRET)"
    given = request.headers.get("x-hub-signature-256")
    if given is None:
        return "the delivery has no signature"
    expected = b"sha256=" + hmac.digest(_bytes(secret), request.body, "sha256").hex().encode()
    return None if hmac.compare_digest(_bytes(given), expected) else "the signature is not of our app secret"


async def _store(content: object, request: Request, stack: Stack) -> None:
    events = stack.events.bind(request.correlation_id, request.slug)
    messages = list(whatsapp_payload.messages(content))
    statuses = whatsapp_payload.statuses(content)
    received = inbox.Received(0, 0, 0, stack.flag(CHAT))
    if messages:
        batch = [_incoming(message) for message in messages]
        received = await inbox.receive(stack.database, request.slug, request.correlation_id, CHAT, batch)
    changed = await outbox.statuses(stack.database, statuses)
    events.info(
        "ai.whatsapp.webhook.received",
        messages=received.queued + received.skipped,
        statuses=len(statuses),
        statuses_applied=changed,
        others=whatsapp_payload.others(content),
    )
    if received.duplicates:
        events.info("ai.whatsapp.message.duplicate", count=received.duplicates)
    if messages and not received.enabled:
        events.info("ai.whatsapp.webhook.disabled", skipped=received.skipped)


def _incoming(message: Inbound) -> inbox.Incoming:
    customer = message.customer
    return inbox.Incoming(
        message_id=message.message_id,
        lane=f"{message.phone_id}:{customer}" if customer else None,
        phone_id=message.phone_id,
        customer=customer or "",
        kind=message.kind,
        answerable=message.answerable,
        payload=message.payload,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
