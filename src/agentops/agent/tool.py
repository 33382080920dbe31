"""Tool: one thing that the agent can do, with everything that every call of it goes through.

    call → admit (401) → flags (403) → arguments (400) → whose customer (400, 403) → recall, else perform
         → Outcome, and one `ai.tool.<name>.start` with exactly one end event

`call` never raises; `run` is the same for callers that want the answer or an exception.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from agentops.agent import money, policy, schemas
from agentops.agent.outcome import Call, Outcome
from agentops.agent.policy import Principal, Refused
from agentops.errors import AgentOpsError, Conflict, TimedOut, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.platforms import Queries
    from agentops.stack import Stack

Arguments = Mapping[str, object] | str | bytes


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool by its name. `perform(request, call, queries)` does it or raises `Refused`.

    `phone` is the request's field that names the customer, `words` what other fields are refused with if not
    `Invalid <field>`. Where `moves_money`, `queries` is the open money transaction, else the pool; for a
    customer always a transaction behind row-level security. `recall(request, call)` may know the answer of a tool that
    moves no money without a database; it comes after every check.
    """

    name: str
    description: str
    request: type[BaseModel]
    answer: type[BaseModel]
    flag: str
    perform: Callable[[Any, Call, Queries], Awaitable[BaseModel]]
    phone: str | None = None
    moves_money: bool = False
    recall: Callable[[Any, Call], BaseModel | None] | None = None
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The function that offers this tool over HTTP; the tool's events carry it, whichever way a call came."""
        return "ai-" + self.name.replace("_", "-")

    def chat_schema(self, principal: Principal) -> dict[str, Any]:
        """OpenAI's strict function tool for this one. A customer's has no phone in it: who they are is known."""
        hidden = self.phone if not policy.may_name_another(principal) else None
        nullable = self.phone if principal.phone is not None else None
        parameters = schemas.strict(self.request, hidden=hidden, nullable=nullable)
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": parameters,
            "strict": True,
        }

    async def run(
        self,
        arguments: Arguments,
        principal: Principal,
        stack: Stack,
        *,
        correlation_id: str,
        idempotency_key: str | Callable[[str], str] | None = None,
    ) -> BaseModel:
        """The tool's answer.

        Raises:
            Refused: anything else than success, with its status and words.
        """
        outcome = await self.call(
            arguments, principal, stack, correlation_id=correlation_id, idempotency_key=idempotency_key
        )
        if outcome.status != 200:  # noqa: PLR2004 - a tool succeeds in one way
            raise Refused(
                outcome.status, str(outcome.body["error"]), event=outcome.event, retry_after=outcome.retry_after
            )
        return self.answer.model_validate(outcome.body)

    async def call(
        self,
        arguments: Arguments,
        principal: Principal,
        stack: Stack,
        *,
        correlation_id: str,
        idempotency_key: str | Callable[[str], str] | None = None,
    ) -> Outcome:
        """What came of it: never raises, and the body holds nothing that is not meant for the caller.

        Args:
            arguments: the call's arguments, parsed or as JSON text; unknown ones are ignored, null means not given.
            principal: who calls.
            stack: the settings and doors that this call began with.
            correlation_id: what binds its events together.
            idempotency_key: with one, a repetition gets the first answer and has no effect (tools that move money); or
                a rule that makes one of the checked request's fingerprint.
        """
        began = perf_counter()
        call = Call(principal, stack, correlation_id, idempotency_key)
        events = stack.events.bind(correlation_id, self.slug)
        events.info(f"ai.tool.{self.name}.start", channel=principal.channel)
        try:
            outcome = await self._outcome(arguments, call)
        except asyncio.CancelledError:
            self._finish(call, Outcome.failed(499, "cancelled"), began)
            raise
        self._finish(call, outcome, began)
        return outcome

    async def _outcome(self, arguments: Arguments, call: Call) -> Outcome:
        try:
            return await self._attempt(arguments, call)
        except Refused as refusal:
            return Outcome.refused(refusal)
        except (Unavailable, TimedOut, Conflict) as error:
            # The transaction was rolled back, or its commit went unanswered: a repetition with the same key is safe.
            return Outcome.failed(503, "temporarily unavailable", finding=error.message, retry_after=1)
        except AgentOpsError as error:
            return Outcome.failed(500, "internal error", finding=f"{error.message} ({error.hint})")
        except Exception as error:  # noqa: BLE001 - the last wall: a defect becomes an event and an honest 500
            return Outcome.failed(500, "internal error", event="exception", finding=_where(error))

    async def _attempt(self, arguments: Arguments, call: Call) -> Outcome:
        policy.admit(call.principal)
        for flag in (self.flag, policy.CHANNEL_FLAGS[call.principal.channel]):
            if flag is not None and not call.stack.flag(flag):
                raise Refused(403, "feature_disabled")
        request = self._request(arguments, call)
        if self.moves_money:
            return await money.moved(self, request, call)
        known = self.recall(request, call) if self.recall else None
        if known is not None:
            return Outcome.done(known)
        customer = policy.walled(call.principal)
        if customer is None:
            return Outcome.done(await self.perform(request, call, call.stack.database))
        async with call.stack.database.bounded(customer) as transaction:
            return Outcome.done(await self.perform(request, call, transaction))

    def _request(self, arguments: Arguments, call: Call) -> BaseModel:
        what = "The request body" if call.principal.channel == "http" else "The text of the arguments"
        given = {key: value for key, value in parsed(arguments, what).items() if value is not None}
        if self.phone is not None:
            named, words = given.get(self.phone), self._words(self.phone)
            given[self.phone] = policy.customer(call.principal, named, words, policy.country(call.stack))
            call.note_phone(self.phone, str(given[self.phone]))
        try:
            return self.request.model_validate(given)
        except ValidationError as error:
            location = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
            raise Refused(400, self._words(str(location[0]) if location else "request")) from None

    def _words(self, name: str) -> str:
        return self.words.get(name, f"Invalid {name}")

    def _finish(self, call: Call, outcome: Outcome, began: float) -> None:
        events = call.stack.events.bind(call.correlation_id, self.slug)
        fields: dict[str, object] = {"channel": call.principal.channel, **call.masked}
        fields |= {name: outcome.body[name] for name in ("voucher_id", "approval_id") if name in outcome.body}
        if outcome.event != "success":
            fields |= {"status": outcome.status, "error": outcome.finding or outcome.body["error"]}
        if outcome.replayed:
            fields["replayed"] = True
        emit = events.info if outcome.event == "success" else events.error if outcome.status >= 500 else events.warning  # noqa: PLR2004 - where HTTP's server errors begin
        emit(f"ai.tool.{self.name}.{outcome.event}", latency_ms=round((perf_counter() - began) * 1000), **fields)


def parsed(arguments: Arguments, what: str = "The request body") -> Mapping[str, object]:
    """Arguments as a mapping; `what` they are begins the sentence of a refusal.

    Raises:
        Refused: 400 with one sentence, where the text is no JSON or no object.
    """
    if isinstance(arguments, Mapping):
        return arguments
    try:
        content = from_json(arguments, allow_inf_nan=False)
    except ValueError:
        raise Refused(400, f"{what} is not valid JSON") from None
    if not isinstance(content, dict):
        raise Refused(400, f"{what} must be a JSON object")
    return content


def _where(error: Exception) -> str:
    """An exception's type and place. Its words are left out: they may quote what a customer wrote."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(
        f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in reversed(frames)
    )
    return f"{type(error).__name__} in {places}"
