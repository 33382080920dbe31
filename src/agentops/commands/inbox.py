"""See the messages that customers sent, and end or repeat those that were given up.

A message is queued, done, skipped (it is not to be answered) or dead (given up after five attempts). One of kind
notice is ours: it tells a customer that their voucher was approved or not.

Phones are masked; `inbox show ID --reveal` shows the phone and what the customer wrote, and that is audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from agentops.commands import MASKED, Check, Reveal, Yes
from agentops.errors import Kind, NotFound
from agentops.redact import mask_phone, scrub
from agentops.session import Answer, Session
from agentops.store.inbox_admin import Change, Detail, Entry

Number = Annotated[int, typer.Argument(metavar="ID", help="The message's number.")]
Numbers = Annotated[list[int], typer.Argument(metavar="ID…", help="The messages' numbers.")]
State = Annotated[
    Literal["queued", "done", "skipped", "dead"] | None, typer.Option("--state", help="Only those of this state.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many, newest first.")]


@dataclass(frozen=True, slots=True)
class Line:
    """One message, its customer masked."""

    id: int
    state: str
    customer: str | None
    kind: str
    attempts: int = field(metadata={"spare": 3})
    received_at: datetime
    finished_at: datetime | None = field(metadata={"spare": 2})
    error: str | None
    correlation_id: str = field(metadata={"spare": 1})


@dataclass(frozen=True, slots=True)
class Shown(Line):
    """One message in full. `reply` is the state of the reply written for it.

    Only if revealed: the customer's phone unmasked, `said` and `payload`.
    """

    turn: int | None
    reply: str | None
    reply_error: str | None
    revealed: bool
    said: str | None
    payload: dict[str, Any] | None


async def list_(session: Session, state: State = None, limit: Limit = 100) -> list[Line]:
    """List messages, newest first; customers masked, no word of what they wrote."""
    from agentops.store import inbox_admin

    return [_line(entry) for entry in await inbox_admin.listed(await session.local(), state, limit)]


async def show(session: Session, number: Number, reveal: Reveal = False) -> Answer:
    """Show one message: what became of it and of its reply."""
    from agentops.store import audit, inbox_admin

    platform = await session.local()
    found = await inbox_admin.one(platform, number)
    if reveal:
        await audit.record(platform, actor=session.process.actor, action="inbox.reveal", subject=str(number))
    return Answer(_shown(found, reveal=reveal), note=None if reveal else MASKED)


async def retry(session: Session, numbers: Numbers, check: Check = False) -> Answer:
    """Queue dead messages again, their attempts counted anew; a reply that was written but not sent is sent."""
    from agentops.store import inbox_admin

    platform = await session.local()
    plan = await inbox_admin.planned(platform, numbers, "retry")
    wanted = [each.id for each in plan if each.changed]
    if not check and wanted:
        await session.warn_unserved()
        await inbox_admin.revive(platform, wanted, session.process.actor)
    return _answer(plan, check=check)


async def discard(session: Session, numbers: Numbers, check: Check = False, yes: Yes = False) -> Answer:
    """End dead or waiting messages without an answer. Not what a worker has in hand at this moment."""
    from agentops.store import inbox_admin

    platform = await session.local()
    plan = await inbox_admin.planned(platform, numbers, "discard")
    wanted = [each.id for each in plan if each.changed]
    if not check and wanted:
        words = ", ".join(map(str, wanted))
        session.confirm(f"discard unanswered on target {platform.target}: {words}?", yes=yes)
        await inbox_admin.discard(platform, wanted, session.process.actor)
    return _answer(plan, check=check)


def _answer(plan: Sequence[Change], *, check: bool) -> Answer:
    absent = [str(each.id) for each in plan if each.status == "absent"]
    if absent and len(absent) == len(plan):
        raise NotFound(f"there is no message {', '.join(absent)}", "agentops inbox list")
    if any(each.status in {"absent", "working"} for each in plan):
        return Answer(plan, Kind.PARTIAL)
    return Answer(plan, Kind.DIFFERS if check and any(each.changed for each in plan) else Kind.DONE)


def _line(entry: Entry) -> Line:
    customer = mask_phone(entry.customer) if entry.customer else None
    error = str(scrub(entry.error)) if entry.error else None
    return Line(**{**asdict(entry), "customer": customer, "error": error})


def _shown(found: Detail, *, reveal: bool) -> Shown:
    from agentops.agent.whatsapp_payload import inbound

    payload = dict(found.payload)
    line = asdict(_line(found.entry))
    return Shown(
        **(line | {"customer": found.entry.customer} if reveal else line),
        turn=found.turn,
        reply=found.reply_state,
        reply_error=str(scrub(found.reply_error)) if found.reply_error else None,
        revealed=reveal,
        said=inbound(payload, "").text if reveal else None,
        payload=payload if reveal else None,
    )
