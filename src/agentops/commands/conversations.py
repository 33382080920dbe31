"""See who talks with the agent, read what was said, and forget a customer.

Phones are masked; `conversations show ID --reveal` shows the phone and what was said, and that is audited.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from agentops.commands import MASKED, Check, Reveal, Yes
from agentops.counts import counted
from agentops.errors import Kind, NotFound
from agentops.redact import mask_phone
from agentops.session import Answer, Session
from agentops.store.conversations_admin import Conversation, Said

Name = Annotated[str, typer.Argument(metavar="ID|+250…", help="A conversation's number, or the customer's phone.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many, last spoken in first.")]


@dataclass(frozen=True, slots=True)
class Line:
    """One conversation, its customer masked. `working`: a worker has it at this moment."""

    id: int
    customer: str
    phone_id: str
    messages: int
    queued: int
    last_at: datetime | None
    working: bool


@dataclass(frozen=True, slots=True)
class Words:
    """One thing said or done; `said` None unless revealed.

    `role` is user, assistant, tool call, tool output, or note: what we told the model, not the customer.
    """

    at: datetime
    role: str
    characters: int
    said: str | None


@dataclass(frozen=True, slots=True)
class Shown(Line):
    """One conversation with its history."""

    revealed: bool
    history: Sequence[Words]

    def text(self) -> str:
        """For people: a head, then line by line what was said."""
        many = counted(self.messages, "message")
        lines = [f"conversation {self.id} with {self.customer} on {self.phone_id}: {many}"]
        for each in self.history:
            words = f"({counted(each.characters, 'character')})" if each.said is None else each.said
            lines.append(f"  {each.at.astimezone():%Y-%m-%d %H:%M:%S}  {each.role:<11}  {words}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What becomes of one conversation: `status` is forgotten, would_change or absent. `id` is None where absent."""

    id: int | None
    customer: str | None
    status: str
    changed: bool


async def list_(session: Session, limit: Limit = 100) -> list[Line]:
    """List conversations, last spoken in first; customers masked."""
    from agentops.store import conversations_admin

    return [_line(each) for each in await conversations_admin.listed(await session.local(), limit)]


async def show(session: Session, name: Name, reveal: Reveal = False) -> Answer:
    """Show what was said in a conversation, or in all those of a phone; words and phone with --reveal only."""
    from agentops.store import audit, conversations_admin

    platform = await session.local()
    found = await conversations_admin.named(platform, _identity(name))
    if not found:
        raise NotFound("there is no such conversation", "agentops conversations list")
    shown = []
    for each in found:
        if reveal:
            subject, actor = str(each.id), session.process.actor
            await audit.record(platform, actor=actor, action="conversation.reveal", subject=subject)
        said = await conversations_admin.said(platform, each.id)
        shown.append(_shown(each, said, reveal=reveal))
    return Answer(shown, note=None if reveal else MASKED)


async def forget(session: Session, name: Name, check: Check = False, yes: Yes = False) -> Answer:
    """Forget a customer: conversation, history, replies and what they wrote. Only message ids stay, to know repeats."""
    from agentops.store import conversations_admin

    platform = await session.local()
    found = await conversations_admin.named(platform, _identity(name))
    if not found:
        note = "  nothing is known of this customer: forgotten already, or never written"
        return Answer([Forgotten(None, None, "absent", changed=False)], note=note)
    status = "would_change" if check else "forgotten"
    plan = [Forgotten(each.id, mask_phone(each.customer), status, changed=True) for each in found]
    if check:
        return Answer(plan, Kind.DIFFERS)
    who, messages = plan[0].customer, sum(each.messages for each in found)
    what = f"{counted(len(found), 'conversation')}, {counted(messages, 'message')}"
    session.confirm(f"forget {who} on target {platform.target}: {what}?", yes=yes)
    await conversations_admin.forget(platform, [each.id for each in found], session.process.actor)
    return Answer(plan)


def _identity(name: str) -> str:
    """A phone however it is typed, as +E.164; a conversation's number or a user id as it is.

    Raises:
        UsageError: it looks like a phone and is none.
    """
    if not name.startswith(("+", "0")):
        return name
    from agentops.agent.phones import normalised

    return normalised(name)


def _line(each: Conversation) -> Line:
    return Line(**{**asdict(each), "customer": mask_phone(each.customer)})


def _shown(each: Conversation, said: Sequence[Said], *, reveal: bool) -> Shown:
    words = [_words(one, reveal=reveal) for one in said]
    line = asdict(each) if reveal else asdict(_line(each))
    return Shown(**line, revealed=reveal, history=words)


def _words(one: Said, *, reveal: bool) -> Words:
    kind, item = one.item.get("type"), one.item
    if kind == "function_call":
        role, text = "tool call", f"{item.get('name')} {item.get('arguments')}"
    elif kind == "function_call_output":
        role, text = "tool output", str(item.get("output"))
    elif item.get("role"):
        role, text = str(item["role"]).replace("developer", "note"), _content(item.get("content"))
    else:
        role, text = str(kind), ""
    return Words(one.at, role, len(text), text if reveal else None)


def _content(content: Any) -> str:  # noqa: ANN401 - a text, or the model's list of parts
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return json.dumps(content)
