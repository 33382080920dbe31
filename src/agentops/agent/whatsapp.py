"""What a customer wrote in one go, from the queue to its one reply.

    begin (count, flag) → read receipt and typing | turn → outbox row + history, one commit → sending → Graph → settled
          └ an earlier turn's outbox row: pending → send it · sending → uncertain, never sent again

Raises where another attempt may help, and then nothing was sent. Every write names the lease's fence.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agentops.agent import loop, policy, pseudonyms, sending
from agentops.agent.whatsapp_payload import inbound
from agentops.errors import AgentOpsError
from agentops.redact import mask_phone
from agentops.settings import CHAT
from agentops.store import conversations, history, inbox, outbox, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agentops.clients.graph import Graph
    from agentops.stack import Stack
    from agentops.store.conversations import Lease

APOLOGY = "Sorry, I cannot answer right now. Please try again in a few minutes."
ONLY_TEXT = "Sorry, I can only read text messages. Please write what you need."
TOO_MUCH = "You have sent me a lot in a short time. Please wait a few minutes, then write again."
OVER = {
    "messages": f"more than {inbox.MESSAGES} messages in {inbox.MESSAGES_SECONDS // 60} minutes",
    "tools": f"more than {turns.TOOL_CALLS} tool calls in {turns.TOOL_CALLS_SECONDS} seconds",
}
# How long after a customer's message Meta lets us answer it freely, and how often their phone forgets that we type.
WINDOW = timedelta(hours=24)
TYPING_SECONDS = 20.0
_SECONDS = re.compile(r"[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class _Answering:
    """What the steps of one turn share. `message` is its last one; `stack.events` are bound to its correlation id."""

    lease: Lease
    messages: Sequence[inbox.Message]
    text: str | None
    phone: str | None
    stack: Stack
    last: bool

    @property
    def message(self) -> inbox.Message:
        return self.messages[-1]


async def answer(lease: Lease, turn: Sequence[inbox.Message], stack: Stack) -> None:
    """Answer the queued messages of one turn with one reply, or settle why they are not answered.

    Raises:
        LeaseLost: another worker has the conversation; nothing more may be done here.
        AgentOpsError: this attempt failed, another may do better.
    """
    begun = await inbox.begin(stack.database, lease, turn, CHAT)
    if begun is None:
        return
    messages = [replace(message, turn=begun.turn) for message in turn if message.id in begun.ids]
    message, read = messages[-1], [inbound(dict(each.payload), lease.phone_id) for each in messages]
    phone = read[-1].phone or (lease.customer if lease.customer.startswith("+") else None)
    who = pseudonyms.customer(stack, phone or lease.customer)
    events = stack.events.bind(message.correlation_id, message.slug).about(customer=who)
    events.info(
        "ai.whatsapp.message.processing",
        kind=message.kind,
        messages=len(messages),
        attempt=begun.attempts,
        message=pseudonyms.message(stack, message.message_id),
        customer_masked=mask_phone(lease.customer),
    )
    last = begun.attempts >= inbox.ATTEMPTS
    text = "\n".join(each.text for each in read if each.text is not None) or None
    work = _Answering(lease, messages, text, phone, replace(stack, events=events), last)
    unanswered = None if begun.outbox_id and begun.enabled else _unanswered(work, begun)
    if unanswered:
        await _settle_unanswered(work, begun, unanswered)
    else:
        await _conclude(work, begun)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """Why a turn gets no answer of the model: what it ends as, and the event that says so (None: another has)."""

    reason: str
    event: str | None
    outcome: inbox.Outcome = "skipped"


def _unanswered(work: _Answering, begun: inbox.Begun) -> _Unanswered | None:
    if not begun.enabled:
        return _Unanswered(sending.OFF, "ai.whatsapp.webhook.disabled")
    if begun.attempts > inbox.BEGUN_AT_MOST:
        reason = f"given up after {inbox.BEGUN_AT_MOST} turns that ended without a word"
        return _Unanswered(reason, "ai.whatsapp.message.error", "dead")
    if datetime.now(UTC) - _said_at(work.message) > WINDOW:
        return _Unanswered("older than 24 h: WhatsApp lets nobody answer it any more", "ai.whatsapp.message.skipped")
    if begun.over and not begun.tells:
        return _Unanswered(OVER[begun.over], None)
    return None


def _said_at(message: inbox.Message) -> datetime:
    """When the customer sent it: what waited at Meta during an outage is older than its arrival here."""
    given = message.payload.get("timestamp")
    if isinstance(given, str) and _SECONDS.fullmatch(given):
        return min(datetime.fromtimestamp(int(given), UTC), message.received_at)
    return message.received_at


async def _settle_unanswered(work: _Answering, begun: inbox.Begun, why: _Unanswered) -> None:
    database, lease = work.stack.database, work.lease
    if begun.outbox_id and begun.outbox_state == "pending":
        await outbox.settle(database, lease, begun.outbox_id, "failed", why.outcome, error=why.reason)
    else:
        # A reply that is still `sending` may have arrived, whatever the flag says now: it stays for its status webhook.
        await inbox.finish(database, lease, work.messages, why.outcome, why.reason)
    if why.event:
        level = work.stack.events.error if why.outcome == "dead" else work.stack.events.info
        level(why.event, error=why.reason)


async def _conclude(work: _Answering, begun: inbox.Begun) -> None:
    """Go on from where an earlier attempt left it."""
    if begun.outbox_id is None:
        await sending.send(_addressed(work), *await _reply(work, begun))
    elif begun.outbox_state == "pending":
        await sending.send(_addressed(work), begun.outbox_id, begun.body or "")
    elif begun.outbox_state == "sending":
        await sending.interrupted(_addressed(work), begun.outbox_id)
    else:  # a status webhook has settled it
        await inbox.finish(work.stack.database, work.lease, work.messages, "done")


def _addressed(work: _Answering) -> sending.Addressed:
    return sending.Addressed(work.lease, work.message, work.phone or work.lease.customer, work.stack)


async def _reply(work: _Answering, begun: inbox.Begun) -> tuple[str, str]:
    """Make the reply and write it down; its outbox id and text."""
    if begun.over:
        work.stack.events.warning("ai.limit.reached", limit=begun.over, error=OVER[begun.over])
        turn = loop.Turn(TOO_MUCH, [])
    else:
        async with _typing(work):
            turn = await _turn(work, begun)
    lease = work.lease
    async with work.stack.database.transaction() as transaction:
        await conversations.hold(transaction, lease)
        outbox_id = await outbox.put(transaction, lease, work.message, turn.text)
        if turn.items:
            await history.append(transaction, lease.conversation_id, turn.items)
            await turns.forget(transaction, begun.turn)
    return outbox_id, turn.text


async def _turn(work: _Answering, begun: inbox.Begun) -> loop.Turn:
    text, stack = work.text, work.stack
    if text is None:
        return loop.Turn(ONLY_TEXT, [])
    past = await history.recent(stack.database, work.lease.conversation_id, loop.history_items(stack))
    asked = loop.Asked(
        text=text,
        history=past,
        principal=policy.sender(work.phone, stack, work.lease.customer),
        message_id=begun.message_id,
        turn=begun.turn,
        lease=work.lease,
        correlation_id=work.message.correlation_id,
    )
    try:
        return await loop.turn(asked, stack)
    except loop.NoAnswer as failure:
        # `ai.process.error` has said why; the customer hears of it once. What tools did is remembered.
        said = [*failure.items] or [{"role": "user", "content": text}]
        return loop.Turn(APOLOGY, [*said, {"role": "assistant", "content": APOLOGY}])


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
        while True:
            await graph.mark_read_and_typing(work.message.message_id, work.message.correlation_id)
            await asyncio.sleep(TYPING_SECONDS)
    except AgentOpsError as failure:
        stack.events.warning("ai.whatsapp.typing.error", error=failure.message)
