"""ai-whatsapp-webhook: takes what WhatsApp posts, durably, and answers it later.

    GET hub.* → the challenge (Meta's verification) · GET → health
    POST → signature over the raw bytes → who is whom → every update in the inbox, one commit → statuses → 200
    worker → work(job) → agent.whatsapp.answer, turn by turn

Exactly 200 for whatever was understood or stored: anything else makes Meta deliver again, for seven days.
Source: https://developers.facebook.com/docs/whatsapp/cloud-api/guides/set-up-webhooks
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agentops.agent import answering, hearing, pseudonyms, whatsapp, whatsapp_payload
from agentops.errors import AgentOpsError, Conflict, NotAuthorised, TimedOut, Unavailable, UsageError
from agentops.settings import CHAT
from agentops.store import customers, inbox, statuses
from agentops.web import json_response, text_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.agent.whatsapp_payload import Delivery, Inbound, Other
    from agentops.stack import Stack
    from agentops.web import Request, Response

# What another message would meet as well: the batch comes again, and no content is to blame.
_NOT_OF_THE_CONTENT = (Unavailable, TimedOut, NotAuthorised, UsageError, Conflict)


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
    for turn in job.turns:
        if job.stopping():
            return
        await whatsapp.answer(job.lease, turn, stack)


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
    found = whatsapp_payload.delivery(content)
    for change in found.changes:
        moved = await customers.changed(stack.database, change)
        if moved is not None:
            await _unite(stack, [moved])
    received = await _received(found, request, stack)
    await statuses.record(stack.database, found.reports)
    changed = await hearing.hear(found.statuses, stack)
    events.info(
        "ai.whatsapp.webhook.received",
        messages=received.queued + received.skipped,
        statuses=len(found.statuses),
        statuses_applied=changed,
        others=found.others,
        **_who(found, stack),
    )
    for message_id in received.duplicates:
        events.info("ai.whatsapp.message.duplicate", message=pseudonyms.message(stack, message_id))
    if found.messages and not received.enabled:
        events.info("ai.whatsapp.webhook.disabled", skipped=received.skipped)
    if received.moved:
        await _unite(stack, received.moved)


async def _received(found: Delivery, request: Request, stack: Stack) -> inbox.Received:
    """Store what there is in one commit. One that the database refuses is stored without its content, alone."""
    batch = [*map(_incoming, found.messages), *map(_evidence, found.rest)]
    if not batch:
        return inbox.Received(0, 0, (), stack.flag(CHAT))
    try:
        received = await inbox.receive(stack.database, request.slug, request.correlation_id, CHAT, batch)
    except _NOT_OF_THE_CONTENT:
        raise
    except AgentOpsError as failure:
        if len(batch) == 1:
            raise
        stack.events.bind(request.correlation_id, request.slug).error(
            "ai.whatsapp.webhook.exception", error=failure.message, stored="one by one"
        )
        received = await _one_by_one(batch, request, stack)
    hearing.account(
        [code for each, code in found.account.items() if each not in received.duplicates],
        stack.events.bind(request.correlation_id, request.slug),
    )
    evidence = {other.message_id for other in found.rest}
    known = tuple(each for each in received.duplicates if each not in evidence)
    skipped = received.skipped - len(found.rest) + len(received.duplicates) - len(known)
    return replace(received, skipped=skipped, duplicates=known)


async def _one_by_one(batch: Sequence[inbox.Incoming], request: Request, stack: Stack) -> inbox.Received:
    results = []
    for message in batch:
        try:
            one = await inbox.receive(stack.database, request.slug, request.correlation_id, CHAT, [message])
        except _NOT_OF_THE_CONTENT:
            raise
        except AgentOpsError:
            bare = inbox.Incoming(message.message_id, "", None, None, "other", answerable=False, payload={})
            one = await inbox.receive(stack.database, request.slug, request.correlation_id, CHAT, [bare])
        results.append(one)
    return inbox.Received(
        sum(each.queued for each in results),
        sum(each.skipped for each in results),
        tuple(known for each in results for known in each.duplicates),
        results[0].enabled,
        tuple(number for each in results for number in each.moved),
    )


async def _unite(stack: Stack, ids: Sequence[int]) -> None:
    """Bring a customer's lanes together; where that fails now, their next message brings it about."""
    with suppress(AgentOpsError):
        await customers.unite(stack.database, ids)


def _who(found: Delivery, stack: Stack) -> dict[str, object]:
    """Who wrote, as pseudonyms: one by name, several as a list; and the one message."""
    identities = dict.fromkeys(message.customer for message in found.messages if message.customer)
    named = [pseudonyms.customer(stack, identity) for identity in identities]
    told: dict[str, object] = {"customer": named[0]} if len(named) == 1 else {"customers": named} if named else {}
    if len(found.messages) == 1:
        told["message"] = pseudonyms.message(stack, found.messages[0].message_id)
    return told


def _incoming(message: Inbound) -> inbox.Incoming:
    return inbox.Incoming(
        message_id=message.message_id,
        phone_id=message.phone_id,
        user_id=message.user_id,
        phone=message.phone,
        kind=message.kind,
        answerable=message.answerable,
        payload=message.payload,
    )


def _evidence(other: Other) -> inbox.Incoming:
    return inbox.Incoming(other.message_id, "", None, None, other.kind, answerable=False, payload=other.payload)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
