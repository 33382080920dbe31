"""One WhatsApp message, from the queue to its reply.

    begin (count, flag) → read receipt and typing | turn → outbox row + history, one commit → sending → Graph → settled
          └ an earlier turn's outbox row: pending → send it · sending → uncertain, never sent again

Raises where another attempt may help, and then nothing was sent. Every write names the lease's fence.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agentops.agent import loop, policy
from agentops.agent.pseudonyms import pseudonym
from agentops.agent.whatsapp_payload import inbound
from agentops.errors import AgentOpsError, Kind, Unavailable, UsageError
from agentops.redact import mask_phone
from agentops.settings import CHAT
from agentops.store import conversations, history, inbox, outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentops.agent.whatsapp_payload import Inbound
    from agentops.clients.graph import Graph
    from agentops.stack import Stack
    from agentops.store.conversations import Lease

APOLOGY = "Sorry, I cannot answer right now. Please try again in a few minutes."
ONLY_TEXT = "Sorry, I can only read text messages. Please write what you need."
OFF = "chat was switched off"


@dataclass(frozen=True, slots=True)
class _Answering:
    """What the steps of one message share. `stack.events` are bound to its correlation id."""

    lease: Lease
    message: inbox.Message
    inbound: Inbound
    phone: str
    stack: Stack
    last: bool


async def answer(lease: Lease, message: inbox.Message, stack: Stack) -> None:
    """Answer one queued message, or settle why it is not answered.

    Raises:
        LeaseLost: another worker has the conversation; nothing more may be done here.
        AgentOpsError: this attempt failed, another may do better.
    """
    events = stack.events.bind(message.correlation_id, message.slug)
    begun = await inbox.begin(stack.database, lease, message, CHAT)
    if begun is None:
        return
    read = inbound(dict(message.payload), lease.phone_id)
    events.info(
        "ai.whatsapp.message.processing",
        kind=message.kind,
        attempt=begun.attempts,
        message=pseudonym(stack, "message", message.message_id),
        customer_masked=mask_phone(lease.customer),
    )
    reason = _unanswerable(begun, read)
    if reason:
        await _settle_unanswered(lease, message, stack, begun, reason)
        level = events.error if begun.attempts > inbox.BEGUN_AT_MOST else events.info
        level("ai.whatsapp.message.error" if begun.enabled else "ai.whatsapp.webhook.disabled", error=reason)
        return
    bound = replace(stack, events=events)
    last = begun.attempts >= inbox.ATTEMPTS
    await _conclude(_Answering(lease, message, read, read.phone or "", bound, last), begun)


def _unanswerable(begun: inbox.Begun, read: Inbound) -> str | None:
    if not begun.enabled:
        return OFF
    if begun.attempts > inbox.BEGUN_AT_MOST:
        return f"given up after {inbox.BEGUN_AT_MOST} turns that ended without a word"
    return None if read.phone else "the sender's phone number is not known"


async def _settle_unanswered(
    lease: Lease, message: inbox.Message, stack: Stack, begun: inbox.Begun, reason: str
) -> None:
    outcome: inbox.Outcome = "dead" if begun.enabled and begun.attempts > inbox.BEGUN_AT_MOST else "skipped"
    if begun.outbox_id and begun.outbox_state in {"pending", "sending"}:
        # `sending` that outlived its worker may have arrived, whatever the flag says now.
        state: outbox.Settled = "failed" if begun.outbox_state == "pending" else "uncertain"
        await outbox.settle(stack.database, lease, begun.outbox_id, state, outcome, error=reason)
    else:
        await inbox.finish(stack.database, lease, message, outcome, reason)


async def _conclude(work: _Answering, begun: inbox.Begun) -> None:
    """Go on from where an earlier attempt left it."""
    stack, lease = work.stack, work.lease
    if begun.outbox_id is None:
        await _send(work, *await _reply(work))
    elif begun.outbox_state == "pending":
        await _send(work, begun.outbox_id, begun.body or "")
    elif begun.outbox_state == "sending":
        reason = "the worker ended while sending: the reply may have arrived"
        await outbox.settle(stack.database, lease, begun.outbox_id, "uncertain", "done", error=reason)
        stack.events.error("ai.whatsapp.send.error", outbox=begun.outbox_id, state="uncertain", error=reason)
    else:  # a status webhook has settled it
        await inbox.finish(stack.database, lease, work.message, "done")


async def _reply(work: _Answering) -> tuple[str, str]:
    """Make the reply and write it down; its outbox id and text."""
    async with _typing(work):
        turn = await _turn(work)
    lease = work.lease
    async with work.stack.database.transaction() as transaction:
        await conversations.hold(transaction, lease)
        outbox_id = await outbox.put(transaction, lease, work.message, turn.text)
        if turn.items:
            await history.append(transaction, lease.conversation_id, turn.items)
    return outbox_id, turn.text


async def _turn(work: _Answering) -> loop.Turn:
    text, stack = work.inbound.text, work.stack
    if text is None:
        return loop.Turn(ONLY_TEXT, [])
    past = await history.recent(stack.database, work.lease.conversation_id, loop.history_items(stack))
    asked = loop.Asked(
        text=text,
        history=past,
        principal=policy.sender(work.phone, stack),
        message_id=work.message.message_id,
        lane=work.lease.lane,
        correlation_id=work.message.correlation_id,
    )
    try:
        return await loop.turn(asked, stack)
    except AgentOpsError as failure:
        if _may_pass(failure) and not work.last:
            raise
        # `ai.process.error` has said why; the customer hears of it once.
        return loop.Turn(APOLOGY, [{"role": "user", "content": text}, {"role": "assistant", "content": APOLOGY}])


def _may_pass(failure: AgentOpsError) -> bool:
    from agentops.clients.openai import SpendLimit

    return isinstance(failure, Unavailable) and not isinstance(failure, SpendLimit)


async def _send(work: _Answering, outbox_id: str, body: str) -> None:
    stack, lease = work.stack, work.lease
    graph = stack.clients.graph(stack.secrets)
    if not await outbox.sending(stack.database, lease, outbox_id, CHAT):
        await outbox.settle(stack.database, lease, outbox_id, "failed", "skipped", error=OFF)
        stack.events.info("ai.whatsapp.webhook.disabled", error=OFF)
        return
    stack.events.info(
        "ai.whatsapp.send.start", outbox=outbox_id, to_masked=mask_phone(work.phone), characters=len(body)
    )
    try:
        sent = await graph.send_text(work.phone, body, outbox_id, work.message.correlation_id)
    except AgentOpsError as failure:
        await _not_sent(work, outbox_id, failure)
        return
    await outbox.settle(stack.database, lease, outbox_id, "sent", "done", wamid=sent.message_id)
    stack.events.info("ai.whatsapp.send.success", outbox=outbox_id, to_masked=mask_phone(work.phone))
    waited = datetime.now(UTC) - work.message.received_at
    stack.events.info("ai.whatsapp.message.success", latency_ms=round(waited.total_seconds() * 1000))


async def _not_sent(work: _Answering, outbox_id: str, failure: AgentOpsError) -> None:
    """Settle a send that failed, or put it back and raise, where it certainly was not sent and may be later."""
    stack, lease = work.stack, work.lease
    certain = isinstance(failure, UsageError) or getattr(failure, "certainly_not_sent", False)
    again = certain and failure.kind is Kind.UNAVAILABLE and not work.last
    state: outbox.Settled = "failed" if certain else "uncertain"
    stack.events.error(
        "ai.whatsapp.send.error",
        outbox=outbox_id,
        state="pending" if again else state,
        error=failure.message,
        hint=failure.hint,
        code=getattr(failure, "code", None),
    )
    if again:
        await outbox.again(stack.database, lease, outbox_id, failure.message)
        raise failure
    outcome: inbox.Outcome = "dead" if certain else "done"
    await outbox.settle(stack.database, lease, outbox_id, state, outcome, error=failure.message)
    stack.events.error("ai.whatsapp.message.error", error=failure.message, state=state)


@asynccontextmanager
async def _typing(work: _Answering) -> AsyncIterator[None]:
    """Show the customer that their message is read and being answered, beside the work; its failure is only logged."""
    task = asyncio.create_task(_mark_read(work))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _mark_read(work: _Answering) -> None:
    stack = work.stack
    try:
        graph: Graph = stack.clients.graph(stack.secrets)
        await graph.mark_read_and_typing(work.message.message_id, work.message.correlation_id)
    except AgentOpsError as failure:
        stack.events.warning("ai.whatsapp.typing.error", error=failure.message)
