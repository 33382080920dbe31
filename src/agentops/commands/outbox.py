"""See replies on their way to customers, and settle those of which nobody knows whether they arrived.

Phones are masked; `outbox show ID --reveal` shows the phone and the text, and that is audited.

A reply is never sent twice by itself. Where WhatsApp gave no answer and told no status, look at the customer's chat
(or ask), then say what happened; a late status still corrects you.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentops.commands import MASKED, Check, Reveal, Yes
from agentops.errors import Conflict, Kind
from agentops.redact import mask_phone
from agentops.session import Answer, Session

if TYPE_CHECKING:
    from agentops.store.outbox import Entry

Id = Annotated[str, typer.Argument(metavar="ID", help="The reply's id.")]


class State(StrEnum):
    """Where a reply is on its way."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    UNCERTAIN = "uncertain"
    FAILED = "failed"


class Word(StrEnum):
    """What an operator may say about a reply."""

    SENT = "sent"
    FAILED = "failed"
    RESEND = "resend"


# What each word makes of a reply, from which states, and in which states it says nothing new.
_MEANS: dict[Word, tuple[State, Sequence[State], Sequence[State]]] = {
    Word.SENT: (State.SENT, (State.UNCERTAIN,), (State.SENT, State.DELIVERED, State.READ)),
    Word.FAILED: (State.FAILED, (State.UNCERTAIN,), (State.FAILED,)),
    Word.RESEND: (State.PENDING, (State.UNCERTAIN, State.FAILED), (State.PENDING,)),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply without its text; the customer's phone is masked."""

    id: str
    state: str
    customer: str
    correlation_id: str = field(metadata={"spare": 1})
    characters: int = field(metadata={"spare": 4})
    code: int | None = field(metadata={"spare": 5})
    error: str | None = field(metadata={"spare": 6})
    created_at: datetime
    sending_since: datetime | None = field(metadata={"spare": 2})
    sent_at: datetime | None = field(metadata={"spare": 3})


@dataclass(frozen=True, slots=True)
class Shown(Reply):
    """A reply; only if revealed, with its text and the customer's phone unmasked."""

    body: str | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a reply by an operator's word."""

    id: str
    target: str
    before: str
    state: str
    changed: bool


async def list_(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only replies in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many, newest first.")] = 50,
) -> list[Reply]:
    """List replies, newest first. Texts are never listed."""
    from agentops.store import outbox

    return [Reply(**_masked(entry)) for entry in await outbox.listed(await session.local(), state, limit)]


async def show(session: Session, id_: Id, reveal: Reveal = False) -> Answer:
    """Show one reply: what became of it; its text and the customer's phone with --reveal only."""
    from agentops.store import outbox

    platform = await session.local()
    found = await outbox.one(platform, id_)
    if not reveal:
        return Answer(Shown(**_masked(found), body=None), note=MASKED)
    body = await outbox.reveal(platform, found.id, session.process.actor)
    return Answer(Shown(**asdict(found), body=body))


async def resolve(
    session: Session,
    id_: Id,
    word: Annotated[Word, typer.Option("--as", help="What became of it: sent or failed; resend sends it again.")],
    yes: Yes = False,
    check: Check = False,
) -> Answer:
    """Settle an uncertain reply: it was sent, it failed, or it shall be sent again (also one that failed).

    Sending again asks: if the first one did arrive, the customer reads it twice.
    """
    from agentops.store import outbox

    platform = await session.local()
    found = await outbox.one(platform, id_)
    to, among, already = _MEANS[word]
    if found.state in already:
        return Answer(Resolution(found.id, platform.target, found.state, found.state, changed=False))
    if found.state not in among:
        raise Conflict(f"the reply is {found.state}: there is nothing to resolve", f"agentops outbox show {found.id}")
    plan = Resolution(found.id, platform.target, found.state, to, changed=True)
    if check:
        return Answer(plan, Kind.DIFFERS)
    if word is Word.RESEND:
        masked = mask_phone(found.customer)
        session.confirm(f"send this reply to {masked} again on target {platform.target}?", yes=yes)
        await session.warn_unserved()
    if not await outbox.resolve(platform, found.id, to, among=among, actor=session.process.actor):
        raise Conflict("the reply has changed meanwhile, or its message is forgotten", f"agentops outbox show {id_}")
    await outbox.tidy(platform)
    return Answer(plan)


def _masked(entry: Entry) -> dict[str, Any]:
    fields = asdict(entry)
    customer = mask_phone(fields.pop("customer"))
    return {**fields, "customer": customer}
