"""What Meta tells of our replies after it has accepted them, and what that leads to.

sent, delivered, read → the outbox, monotonic · a blocked number that sends again is free
failed → its code → Action ─ token, policy, rate: the number stops, the reply waits    (`health` names it)
                           ├ pair, transient:     the customer's lane waits, the reply is tried again
                           └ window, refused:     the reply failed
an error of the account, of no reply → an event that names it; what it stops is seen when something is sent
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.agent.sending import interval
from agentops.clients import graph_codes
from agentops.clients.graph_codes import Action
from agentops.store import outbox, pacing, statuses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.events import Events
    from agentops.stack import Stack
    from agentops.store.outbox import Status

SLUG = "ai-whatsapp-webhook"


async def hear(found: Sequence[Status], stack: Stack) -> int:
    """Apply status webhooks, in any order, twice or not; how many replies changed.

    Raises:
        AgentOpsError: the database failed. Applied again, what was applied already changes nothing.
    """
    heard = await outbox.statuses(stack.database, [each for each in found if each.state != "failed"])
    for phone_id in await pacing.proven(stack.database, heard.proves):
        stack.events.bind(phone_id, SLUG).info("ai.whatsapp.send.unblocked", phone_id=phone_id)
    told = [_failure(each) for each in found if each.state == "failed"]
    failed = await statuses.failures(stack.database, told, interval=interval(stack))
    for each in failed:
        stack.events.bind(each.correlation_id, SLUG).error(
            "ai.whatsapp.send.error",
            outbox=each.outbox,
            state=each.state,
            error=f"WhatsApp could not deliver the message ({each.error})",
            hint=graph_codes.FIXES.get(Action(each.action)),
            code=each.code,
            retry_in_ms=None if each.seconds is None else round(each.seconds * 1000),
        )
    return heard.changed + len(failed)


def account(codes: Sequence[int | None], events: Events) -> None:
    """Tell what Meta said of the account itself, by its codes; None is an error without one."""
    for code in codes:
        action = Action.REFUSED if code is None else graph_codes.action(code)
        error = "an error without a code" if code is None else graph_codes.words(code)
        events.error("ai.whatsapp.account.error", error=error, code=code, hint=graph_codes.FIXES.get(action))


def _failure(status: Status) -> statuses.Failure:
    """What a failed status asks for; one without a code tells nothing that could be cured."""
    action = Action.REFUSED if status.code is None else graph_codes.action(status.code)
    words = status.error or "no code"
    return statuses.Failure(status.wamid, status.callback_data, words, status.code, action.value)
