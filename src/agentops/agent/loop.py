"""One turn: what the customer said, the model, its tool calls, and what is said back.

    Asked(text, history, principal) → instructions + history + tools → agent.asking (within the day's budget)
                                    → step written down → tool calls → agent.tools (validated, guarded by the policy)
                                    → outputs → model … → Turn(text, items)

A turn that is taken up again gets its steps from the database: what was paid for and decided is not asked twice.

The model is hostile: it names a tool and arguments, the server says who is asking. It gets 8 tool calls and 60 seconds.
Events: `ai.process.start`, `.success`, `.error`, `.over_budget`; never a word of what was said.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agentops.agent import asking
from agentops.agent.budget import Budget, NotReserved, OverBudget
from agentops.agent.instructions import ASK_CONTACT, CACHE_KEY, INSTRUCTIONS
from agentops.agent.pseudonyms import pseudonym
from agentops.agent.tools import tools
from agentops.errors import AgentOpsError
from agentops.settings import DEFAULT_MODEL
from agentops.store import turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.agent.tools import Principal
    from agentops.stack import Stack
    from agentops.store.conversations import Lease
    from agentops.store.turns import Step

    Item = dict[str, Any]

TOOL_CALLS = 8
TURN_SECONDS = 60.0
HISTORY_ITEMS = 20
REPLY_LIMIT = 4096
# Longer questions cost money and say no more; what is cut is not asked.
QUESTION_LIMIT = 4096
# For the words, a message's worth in any language, and for the reasoning before them. It is reserved for each request.
OUTPUT_TOKENS = 4_000
OVER_BUDGET = "Sorry, I cannot answer any more today. Please write again tomorrow."
# Said where tools have been called already: what they did stands, and the history knows of it.
UNFINISHED = "I began with what you asked for, but I cannot say more today. Please ask tomorrow how it went."


class NoAnswer(AgentOpsError):
    """The model gave no answer, and this turn has tried what may help. Its event has said why.

    `items` is what the conversation gained until then, where tools were called: what they did stands.
    """

    items: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a turn begins with. `lease` is the customer's conversation.

    `turn` is the number under which its steps are kept, `message_id` names its effects for idempotency: that of the
    turn's last message, also where an operator has ended that one meanwhile. Both are the same in every attempt.
    """

    text: str
    history: Sequence[Item]
    principal: Principal
    message_id: str
    turn: int
    lease: Lease
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
    # What earlier attempts of this turn were answered, and how many steps this one has made.
    known: list[Step] = field(default_factory=list)
    steps: int = 0
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
    """Answer one message; where the day's budget has no room for the model, with a sentence that says so.

    `stack.events` are bound to the message's correlation id.

    Raises:
        NoAnswer: the model does not answer in time, refuses for good, or a setting is missing.
        LeaseLost: another worker has the conversation.
        Unavailable: the database does not answer; trying again may help.
    """
    begun = time.monotonic()
    model = stack.secret("OPENAI_RESPONSES_MODEL") or DEFAULT_MODEL
    talk = _Conversation(asked, stack, model, begun + TURN_SECONDS)
    stack.events.info("ai.process.start", model=model, history_items=len(asked.history))
    try:
        async with asyncio.timeout(TURN_SECONDS):
            text = await _converse(talk)
    except TimeoutError:
        failure = NoAnswer(f"the turn took more than {TURN_SECONDS:g} s")
        failure.items = _done(talk)
        _failed(talk, failure, begun)
        raise failure from None
    except OverBudget as over:
        return _over_budget(talk, over, begun)
    except AgentOpsError as error:
        if isinstance(error, NoAnswer):
            error.items = _done(talk)
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
    talk.known = await turns.recorded(talk.stack.database, talk.asked.turn)
    while True:
        step = await _step(talk)
        if talk.exhausted or not step.calls:
            if not step.text.strip():
                raise NoAnswer("the model answered with no text")
            talk.items += [item for item in step.items if item.get("type") != "function_call"]
            return step.text
        talk.items += step.items
        for place, call in enumerate(step.calls):
            output = await _run(talk, call) if place < step.allowed else _refusal("too many tool calls in this minute")
            talk.items.append({"type": "function_call_output", "call_id": call["call_id"], "output": output})
        if talk.asked.principal.phone is None:
            # Tools act for a number that Meta has verified: the customer is asked to share it, never to type it.
            talk.items.append({"role": "assistant", "content": ASK_CONTACT})
            return ASK_CONTACT


async def _step(talk: _Conversation) -> Step:
    """The model's next answer, written down before anything is done about it; a known one is not asked for again."""
    ordinal = talk.steps
    talk.steps += 1
    step = talk.known[ordinal] if ordinal < len(talk.known) else await _asked(talk, ordinal)
    for name, count in step.usage.items():
        talk.tokens[name] = talk.tokens.get(name, 0) + count
    talk.model = step.model
    return step


async def _asked(talk: _Conversation, ordinal: int) -> Step:
    asked, stack = talk.asked, talk.stack
    offered = [] if talk.exhausted else tools()
    # By the lane's key: unlike a number, it stays the customer's, also when more becomes known of them.
    budget = Budget(stack.database, asked.lease.lane.removeprefix(f"{asked.lease.phone_id}:"))
    try:
        reply = await asking.ask(
            stack,
            budget,
            talk.deadline,
            model=talk.model,
            instructions=INSTRUCTIONS,
            items=[*asked.history, *talk.items],
            tools=[tool.chat_schema(asked.principal) for tool in offered],
            safety_identifier=pseudonym(stack, "lane", asked.lease.lane),
            cache_key=CACHE_KEY,
            correlation_id=asked.correlation_id,
            max_output_tokens=OUTPUT_TOKENS,
        )
    except (OverBudget, NotReserved):
        raise
    except AgentOpsError as failure:
        raise NoAnswer(failure.message, failure.hint) from failure
    step = turns.Step(reply.items, reply.text, asdict(reply.usage), reply.model)
    return await turns.record(stack.database, asked.lease, asked.turn, ordinal, step)


async def _run(talk: _Conversation, call: Item) -> str:
    """Do one tool call; whatever is wrong with it is told to the model, as the tool's own refusals are."""
    if talk.exhausted:
        return _refusal("too many tool calls in this turn")
    if talk.asked.principal.phone is None:
        return _refusal("the customer's phone number is not known; they are asked to share it")
    name, arguments = str(call["name"]), str(call.get("arguments") or "{}")
    talk.calls += 1
    tool = next((each for each in tools() if each.name == name), None)
    if tool is None:
        return _refusal("there is no such tool")
    outcome = await tool.call(
        arguments,
        talk.asked.principal,
        talk.stack,
        correlation_id=talk.asked.correlation_id,
        idempotency_key=talk.once,
    )
    return json.dumps(outcome.body, ensure_ascii=False)


def _refusal(error: str) -> str:
    return json.dumps({"success": False, "error": error})


def _over_budget(talk: _Conversation, over: OverBudget, begun: float) -> Turn:
    talk.stack.events.warning("ai.process.over_budget", **_measured(talk, begun), limit=over.limit, hint=over.hint)
    text = UNFINISHED if talk.calls else OVER_BUDGET
    return Turn(text, [*talk.items, {"role": "assistant", "content": text}])


def _done(talk: _Conversation) -> list[Item]:
    """What was said and done, every call with an output; nothing where no tool was called."""
    told = {item["call_id"] for item in talk.items if item.get("type") == "function_call_output"}
    lost = [item for item in talk.items if item.get("type") == "function_call" and item["call_id"] not in told]
    broken = _refusal("broken off: look whether it was done before you do it again")
    outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": broken} for item in lost]
    return [*talk.items, *outputs] if talk.calls else []


def _failed(talk: _Conversation, failure: AgentOpsError, begun: float) -> None:
    talk.stack.events.error("ai.process.error", **_measured(talk, begun), error=failure.message, hint=failure.hint)


def _measured(talk: _Conversation, begun: float) -> dict[str, Any]:
    latency = round((time.monotonic() - begun) * 1000)
    return {"model": talk.model, "latency_ms": latency, "tool_calls": talk.calls, "usage": talk.tokens}
