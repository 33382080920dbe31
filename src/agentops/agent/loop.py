"""One turn: what the customer said, the model, its tool calls, and what is said back.

    Asked(text, history, principal) → instructions + history + tools → clients.openai
                                    → tool calls → agent.tools (validated, guarded by the policy) → outputs → model …
                                    → Turn(text, items)

The model is hostile: it names a tool and arguments, the server says who is asking. It gets 8 tool calls and 60 seconds.
Events: `ai.process.start`, `.success`, `.error`; never a word of what was said.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agentops.agent.instructions import CACHE_KEY, INSTRUCTIONS
from agentops.agent.pseudonyms import pseudonym
from agentops.agent.tools import tools
from agentops.errors import AgentOpsError, Unavailable
from agentops.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.agent.tools import Principal, Tool
    from agentops.clients.openai import Reply, ToolCall
    from agentops.stack import Stack

    Item = dict[str, Any]

TOOL_CALLS = 8
TURN_SECONDS = 60.0
HISTORY_ITEMS = 20
REPLY_LIMIT = 4096
# Longer questions cost money and say no more; what is cut is not asked.
QUESTION_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Asked:
    """What a turn begins with. `message_id` names the message for idempotency; `lane` the customer's conversation."""

    text: str
    history: Sequence[Item]
    principal: Principal
    message_id: str
    lane: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn ends with: the reply, one message long, and all that the conversation gained, for the history."""

    text: str
    items: list[Item]


@dataclass(slots=True)
class _Conversation:
    """A turn under way."""

    asked: Asked
    stack: Stack
    model: str
    deadline: float
    items: list[Item] = field(default_factory=list)
    calls: int = 0
    tokens: dict[str, int] = field(default_factory=dict)

    # How often each checked request was made, by its fingerprint.
    made: Counter[str] = field(default_factory=Counter)

    @property
    def exhausted(self) -> bool:
        return self.calls >= TOOL_CALLS

    def once(self, fingerprint: str) -> str:
        """What makes a repeated turn repeat its effects as one: the n-th same request of a message is the same key.

        Not its place among the calls, nor its spelling: a model that is asked again says the same differently.
        """
        self.made[fingerprint] += 1
        text = f"{self.asked.message_id}|{fingerprint}|{self.made[fingerprint]}"
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


async def turn(asked: Asked, stack: Stack) -> Turn:
    """Answer one message. `stack.events` are bound to its correlation id.

    Raises:
        Unavailable: the model or the database does not answer (in time); trying again may help.
        AgentOpsError: the model refuses for good, a setting is missing.
    """
    begun = time.monotonic()
    model = stack.secret("OPENAI_RESPONSES_MODEL") or DEFAULT_MODEL
    talk = _Conversation(asked, stack, model, begun + TURN_SECONDS)
    stack.events.info("ai.process.start", model=model, history_items=len(asked.history))
    try:
        async with asyncio.timeout(TURN_SECONDS):
            text = await _converse(talk)
    except TimeoutError:
        failure = Unavailable(f"the turn took more than {TURN_SECONDS:g} s")
        _failed(talk, failure, begun)
        raise failure from None
    except AgentOpsError as error:
        _failed(talk, error, begun)
        raise
    stack.events.info("ai.process.success", **_measured(talk, begun))
    return Turn(one_message(text), talk.items)


def history_items(stack: Stack) -> int:
    """How many items of the past the model is told (`AGENT_HISTORY_ITEMS`, else 20)."""
    text = stack.secret("AGENT_HISTORY_ITEMS") or ""
    return int(text) if text.isascii() and text.isdigit() else HISTORY_ITEMS


def one_message(text: str, limit: int = REPLY_LIMIT) -> str:
    """The text cut to `limit` characters, at the end of a sentence where there is one in its second half."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = text[:limit]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? ", ".\n", "!\n", "?\n"))
    if end >= limit // 2:
        return head[: end + 1]
    return head[: limit - 1].rsplit(None, 1)[0] + "…"


async def _converse(talk: _Conversation) -> str:
    talk.items.append({"role": "user", "content": talk.asked.text[:QUESTION_LIMIT]})
    while True:
        reply = await _ask(talk, [] if talk.exhausted else tools())
        if talk.exhausted or not reply.calls:
            if not reply.text.strip():
                raise AgentOpsError("the model answered with no text")
            talk.items += [item for item in reply.items if item.get("type") != "function_call"]
            return reply.text
        talk.items += reply.items
        for call in reply.calls:
            output = await _run(talk, call)
            talk.items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


async def _ask(talk: _Conversation, offered: Sequence[Tool]) -> Reply:
    asked, stack = talk.asked, talk.stack
    reply = await stack.clients.openai(stack.secrets).respond(
        model=talk.model,
        instructions=INSTRUCTIONS,
        items=[*asked.history, *talk.items],
        tools=[tool.chat_schema(asked.principal) for tool in offered],
        safety_identifier=pseudonym(stack, "lane", asked.lane),
        cache_key=CACHE_KEY,
        correlation_id=asked.correlation_id,
        deadline_seconds=max(talk.deadline - time.monotonic(), 0.1),
    )
    for name, count in asdict(reply.usage).items():
        talk.tokens[name] = talk.tokens.get(name, 0) + count
    talk.model = reply.model
    return reply


async def _run(talk: _Conversation, call: ToolCall) -> str:
    """Do one tool call; whatever is wrong with it is told to the model, as the tool's own refusals are."""
    if talk.exhausted:
        return _refusal("too many tool calls in this turn")
    talk.calls += 1
    tool = next((each for each in tools() if each.name == call.name), None)
    if tool is None:
        return _refusal("there is no such tool")
    outcome = await tool.call(
        call.arguments,
        talk.asked.principal,
        talk.stack,
        correlation_id=talk.asked.correlation_id,
        idempotency_key=talk.once,
    )
    return json.dumps(outcome.body, ensure_ascii=False)


def _refusal(error: str) -> str:
    return json.dumps({"success": False, "error": error})


def _failed(talk: _Conversation, failure: AgentOpsError, begun: float) -> None:
    talk.stack.events.error("ai.process.error", **_measured(talk, begun), error=failure.message, hint=failure.hint)


def _measured(talk: _Conversation, begun: float) -> dict[str, Any]:
    latency = round((time.monotonic() - begun) * 1000)
    return {"model": talk.model, "latency_ms": latency, "tool_calls": talk.calls, "usage": talk.tokens}
