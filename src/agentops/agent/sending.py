"""One written-down reply, from the outbox to Graph and what became of it.

    pending → may it go? ── pace, block ────────────→ NotYet: the lane waits, no attempt is counted
                 └→ sending → Graph ── accepted ────→ sent
                                    ├─ refused ─────→ by Meta's code: NotYet (lane or number) | failed
                                    └─ no answer ───→ stays `sending` for its status webhook; the message is done

Never sent twice where it may have arrived. Every write names the lease's fence.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agentops.agent.instructions import ASK_CONTACT
from agentops.clients.graph import Deadline
from agentops.clients.graph_codes import Action
from agentops.errors import AgentOpsError, UsageError
from agentops.redact import mask_phone
from agentops.settings import CHAT
from agentops.store import inbox, outbox, pacing

if TYPE_CHECKING:
    from agentops.clients.graph import Graph
    from agentops.stack import Stack
    from agentops.store.conversations import Lease

OFF = "chat was switched off"
# Refusals in a row by Meta's own trouble, over about a quarter of an hour, after which the reply is given up.
TRANSIENT_TRIES = 7
LOOK_SECONDS = 60.0
# A request leaves so soon after its row went `sending`, or not at all; Graph's answer is waited for 10 s at most. So
# what an operator has sent again (`server.reconcile`: later) is not sent too by a worker that was stopped meanwhile.
LEAVE_SECONDS = 5.0
_BLOCKS: dict[Action, pacing.Reason] = {
    Action.RATE: "rate",
    Action.TOKEN: "token",
    Action.POLICY: "policy",
}


@dataclass(frozen=True, slots=True)
class Addressed:
    """Whom a reply goes to, and the message it answers. `stack.events` are bound to its correlation id.

    `phone` is +E.164, or a user id where Meta tells no phone.
    """

    lease: Lease
    message: inbox.Message
    phone: str
    stack: Stack


async def send(to: Addressed, outbox_id: str, body: str) -> None:
    """Send a reply that is `pending`, and settle it together with the message it answers.

    Raises:
        LeaseLost: another worker has the conversation.
        NotYet: it certainly was not sent and waits in the outbox.
    """
    stack, lease = to.stack, to.lease
    graph = await _graph(to, outbox_id)
    graph.prepare()
    deadline = Deadline(LEAVE_SECONDS)
    pace = interval(stack)
    taken = await outbox.sending(stack.database, lease, outbox_id, CHAT, interval=pace, generation=stack.generation)
    if taken.seconds and taken.enabled:
        raise outbox.NotYet(_eased(taken.seconds), f"{taken.reason or 'pace'} of this customer or number")
    if not taken.taken:
        await _not_taken(to, outbox_id, taken)
        return
    stack.events.info("ai.whatsapp.send.start", outbox=outbox_id, to_masked=mask_phone(to.phone), characters=len(body))
    try:
        # The sentence that asks for the number goes with the button that shares it.
        post = graph.request_contact if body == ASK_CONTACT else graph.send_text
        sent = await post(to.phone, body, outbox_id, to.message.correlation_id, deadline=deadline)
    except AgentOpsError as failure:
        await _not_sent(to, outbox_id, failure)
        return
    if await outbox.settle(stack.database, lease, outbox_id, "sent", "done", wamid=sent.message_id):
        await pacing.wake(stack.database, [lease.phone_id])
    stack.events.info("ai.whatsapp.send.success", outbox=outbox_id, to_masked=mask_phone(to.phone))
    waited = datetime.now(UTC) - to.message.received_at
    stack.events.info("ai.whatsapp.message.success", latency_ms=round(waited.total_seconds() * 1000))


async def interrupted(to: Addressed, outbox_id: str) -> None:
    """An earlier attempt ended while sending: the reply may have arrived, so it is left to its status webhook.

    Raises:
        LeaseLost: another worker has the conversation.
    """
    reason = "the worker ended while sending: the reply may have arrived"
    await outbox.settle(to.stack.database, to.lease, outbox_id, "sending", "done", error=reason)
    to.stack.events.warning("ai.whatsapp.send.error", outbox=outbox_id, state="sending", error=reason)


def interval(stack: Stack) -> float:
    """Seconds between replies to one customer beyond the burst (`AGENT_REPLY_SECONDS`, else 6)."""
    text = stack.secret("AGENT_REPLY_SECONDS") or ""
    return float(text) if text.isascii() and text.isdigit() else outbox.INTERVAL_SECONDS


async def _graph(to: Addressed, outbox_id: str) -> Graph:
    """The client; without a usable token the number waits for one, as it does for a valid one."""
    try:
        return to.stack.clients.graph(to.stack.secrets)
    except UsageError as failure:
        await _block(to, outbox_id, "token", failure)
        raise  # not reached: the block raises


async def _not_taken(to: Addressed, outbox_id: str, taken: outbox.Taken) -> None:
    """The flag went off, or a late status settled the reply while it waited."""
    if taken.enabled:
        await outbox.settle(to.stack.database, to.lease, outbox_id, "failed", "done")
        return
    await outbox.settle(to.stack.database, to.lease, outbox_id, "failed", "skipped", error=OFF)
    to.stack.events.info("ai.whatsapp.webhook.disabled", error=OFF)


async def _not_sent(to: Addressed, outbox_id: str, failure: AgentOpsError) -> None:
    """What a send without success leads to, by what Meta says."""
    from agentops.clients.graph import GraphError

    stack, lease = to.stack, to.lease
    if not isinstance(failure, GraphError):  # the number is none
        await _end(to, outbox_id, "failed", "dead", failure)
    elif not failure.certainly_not_sent:
        await _end(to, outbox_id, "sending", "done", failure)
    elif failure.action is Action.WINDOW:
        await _end(to, outbox_id, "failed", "done", failure)
    elif failure.action in _BLOCKS:
        await _block(to, outbox_id, _BLOCKS[failure.action], failure)
    elif failure.action in {Action.PAIR, Action.TRANSIENT}:
        pace = interval(stack)
        strikes, seconds = await outbox.back_off(
            stack.database, lease, outbox_id, failure.message, failure.code, interval=pace
        )
        if failure.action is Action.TRANSIENT and strikes > TRANSIENT_TRIES:
            await _end(to, outbox_id, "failed", "dead", failure)
        else:
            _tell(to, outbox_id, "pending", failure, seconds)
            raise outbox.NotYet(seconds, failure.message) from failure
    else:
        await _end(to, outbox_id, "failed", "dead", failure)


async def _block(to: Addressed, outbox_id: str, reason: pacing.Reason, failure: AgentOpsError) -> None:
    """Stop the number and put the reply back.

    Raises:
        NotYet: always.
    """
    seconds = await pacing.block(
        to.stack.database,
        to.lease,
        outbox_id,
        reason,
        error=failure.message,
        code=getattr(failure, "code", None),
        generation=to.stack.generation,
    )
    _tell(to, outbox_id, "pending", failure, seconds)
    raise outbox.NotYet(_eased(seconds), failure.message) from failure


async def _end(
    to: Addressed, outbox_id: str, state: outbox.Settled, outcome: inbox.Outcome, failure: AgentOpsError
) -> None:
    code = getattr(failure, "code", None)
    await outbox.settle(to.stack.database, to.lease, outbox_id, state, outcome, error=failure.message, code=code)
    _tell(to, outbox_id, state, failure, None)
    if state == "failed":
        to.stack.events.error("ai.whatsapp.message.error", error=failure.message, state=outcome)


def _tell(to: Addressed, outbox_id: str, state: str, failure: AgentOpsError, seconds: float | None) -> None:
    to.stack.events.error(
        "ai.whatsapp.send.error",
        outbox=outbox_id,
        state=state,
        error=failure.message,
        hint=failure.hint,
        code=getattr(failure, "code", None),
        retry_in_ms=None if seconds is None else round(seconds * 1000),
    )


def _eased(seconds: float) -> float:
    """A wait that is looked at once a minute, and not by all lanes in the same instant."""
    return min(seconds, LOOK_SECONDS) + random.random()  # noqa: S311 - spreads load, guards nothing
