"""WhatsApp's Cloud API (Meta's Graph): send a text, ask for a number, mark a message as read.

    outbox row → Graph.send_text(to, body, callback_data) → POST {base_url}/{phone_id}/messages → Sent(message_id)

There is no idempotency key: a send whose answer was lost may have arrived, and a second one would be a second message
to the customer and on the bill. So every failure says whether the message was `certainly_not_sent`; where it may have
been, wait for the status webhook that carries `callback_data` before sending again. A 200 means accepted,
not delivered.

A worker that was stopped (a suspended machine, SIGSTOP) may go on long after somebody else has decided what becomes of
its message. Graph cannot be told "only until then", so the client looks at a `Deadline` when the connection stands,
right before the first byte leaves, and gives every call up after `timeout` seconds. What remains: a process that is
stopped between that look and the system call behind it (microseconds), a virtual machine that is frozen with its
clocks, and bytes that have left the process and that the network delivers later.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from agentops.clients import graph_codes
from agentops.clients.graph_codes import Action
from agentops.errors import AgentOpsError, Kind, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

BASE_URL = "https://graph.facebook.com/v26.0"
CONNECT_SECONDS = 3.0
TEXT_LIMIT = 4096  # characters of a text's body; Graph refuses more
CONTACT_LIMIT = 1024  # of an interactive message's body
_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")

_TRACE = re.compile(r"[A-Za-z0-9_+/=-]{1,80}")


class GraphError(AgentOpsError):
    """Graph refused or did not answer.

    Attributes:
        code: Meta's error code, or None where there was no answer of its own.
        action: what the code asks for.
        fbtrace_id: what Meta's support asks for.
        certainly_not_sent: nothing reached the customer: no connection, or an explicit refusal. False where the answer
            was lost or could not be read.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        code: int | None = None,
        fbtrace_id: str | None = None,
        action: Action | None = None,
        certainly_not_sent: bool,
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.fbtrace_id = fbtrace_id
        self.certainly_not_sent = certainly_not_sent
        self.action = action or graph_codes.action(code)
        if self.action in graph_codes.WAITING:
            self.kind = Kind.UNAVAILABLE
        elif self.action is Action.TOKEN:
            self.kind = Kind.NOT_AUTHORISED


class Deadline:
    """A moment `seconds` from now, after which nothing may leave any more.

    By the clock that has gone further: a process's own stands still while the machine is suspended, the machine's may
    be set back.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = _clocks()

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return max(now - then for now, then in zip(_clocks(), self._began, strict=True)) > self._seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """Accepted by Meta under this id (`wamid.…`); delivery is told by webhook."""

    message_id: str


class Graph:
    """One WhatsApp number.

    Args:
        token: the system user's access token; held, never shown.
        phone_id: the number's id at Meta.
        base_url: up to and with the version.
        timeout: seconds for one call, connection included.

    Raises:
        UsageError: the token, the phone id or the address is none.
    """

    def __init__(self, token: str, phone_id: str, *, base_url: str = BASE_URL, timeout: float = 10.0) -> None:
        if not re.fullmatch(r"https?://[^/\s?#@]+[^\s?#]*", base_url):
            raise UsageError("WHATSAPP_API_URL is no HTTP address", f"it looks like {BASE_URL}")
        if not re.fullmatch(r"[!-~]+", token):
            raise UsageError("WA_TOKEN is no token", "set it: agentops secrets set WA_TOKEN")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", phone_id):
            raise UsageError("WA_PHONE_ID is no id", "it is the number's id at Meta, not the phone number")
        self._token = token
        self._address = f"{base_url.rstrip('/')}/{phone_id}/messages"
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Graph({self._address!r})"

    async def send_text(
        self,
        to: str,
        body: str,
        callback_data: str,
        correlation_id: str | None = None,
        *,
        deadline: Deadline | None = None,
    ) -> Sent:
        """Send a text message.

        Args:
            to: the customer's number with its country code, with or without `+`; or their user id (`RW.…`), where
                Meta tells no number.
            body: at most `TEXT_LIMIT` characters.
            callback_data: comes back in the status webhooks, at most 512 characters: the outbox row's id.
            correlation_id: sent as `x-correlation-id`.
            deadline: when it has passed, nothing is sent.

        Raises:
            GraphError: see its attributes.
            UsageError: `to` is neither an international number nor a user id; nothing was sent.
        """
        text = {"type": "text", "text": {"body": body, "preview_url": False}}
        return await self._send(to, text, callback_data, correlation_id, deadline)

    async def request_contact(
        self,
        to: str,
        body: str,
        callback_data: str,
        correlation_id: str | None = None,
        *,
        deadline: Deadline | None = None,
    ) -> Sent:
        """Send a text with a button by which the customer shares their own number: a `contacts` webhook follows.

        The arguments and errors are those of `send_text`; `body` has at most `CONTACT_LIMIT` characters.
        """
        action = {"type": "request_contact_info", "body": {"text": body}, "action": {"name": "request_contact_info"}}
        content = {"type": "interactive", "interactive": action}
        return await self._send(to, content, callback_data, correlation_id, deadline)

    async def _send(
        self,
        to: str,
        content: Mapping[str, object],
        callback_data: str,
        correlation_id: str | None,
        deadline: Deadline | None,
    ) -> Sent:
        message = {
            "recipient_type": "individual",
            **_addressed(to),
            **content,
            "biz_opaque_callback_data": callback_data,
        }
        answer = await self._post(message, correlation_id, deadline)
        match answer:
            case {"messages": [{"id": str(message_id)}, *_]} if message_id:
                return Sent(message_id)
        raise GraphError("WhatsApp accepted the message but named no id", certainly_not_sent=False)

    async def mark_read_and_typing(self, message_id: str, correlation_id: str | None = None) -> None:
        """Mark a customer's message (and all before it) as read, and show "typing…" until the reply or for 25 seconds.

        Raises:
            GraphError: see its attributes.
        """
        mark = {"status": "read", "message_id": message_id, "typing_indicator": {"type": "text"}}
        await self._post(mark, correlation_id)

    def prepare(self) -> httpx.AsyncClient:
        """Make the client, which takes a while, so that it is not made between a reply's `sending` and its request."""
        import httpx

        if self._client is None:
            timeout = httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
            self._client = httpx.AsyncClient(timeout=timeout)
        return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _post(
        self, message: Mapping[str, object], correlation_id: str | None, deadline: Deadline | None = None
    ) -> Any:  # noqa: ANN401 - as Meta says
        import httpx

        client = self.prepare()
        headers = {"authorization": f"Bearer {self._token}"}
        if correlation_id:
            headers["x-correlation-id"] = correlation_id
        content = {"messaging_product": "whatsapp", **message}
        try:
            # A read timeout is per read: only this one ends an answer that trickles.
            async with asyncio.timeout(self._timeout):
                response = await client.post(
                    self._address, json=content, headers=headers, extensions={"trace": _watch(deadline)}
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            hint = "see the network and WHATSAPP_API_URL"
            raise GraphError("WhatsApp cannot be reached", hint, certainly_not_sent=True) from None
        except (httpx.TimeoutException, TimeoutError):
            raise GraphError("WhatsApp gave no answer in time", certainly_not_sent=False) from None
        except httpx.HTTPError as error:
            reason = type(error).__name__
            raise GraphError(f"the connection to WhatsApp broke ({reason})", certainly_not_sent=False) from None
        answer = _json(response)
        if response.status_code != HTTPStatus.OK or (isinstance(answer, dict) and "error" in answer):
            raise _refusal(response.status_code, answer)
        return answer


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _watch(deadline: Deadline | None) -> Callable[[str, object], Awaitable[None]]:
    """What the connection calls at each of its steps: it lets no request begin after the deadline."""

    async def watch(step: str, _: object) -> None:
        if deadline and step.endswith("send_request_headers.started") and deadline.passed:
            words = "the worker was held up before it could send the message"
            raise GraphError(words, certainly_not_sent=True)

    return watch


def _json(response: httpx.Response) -> Any:  # noqa: ANN401 - whatever the JSON holds
    try:
        return response.json()
    except ValueError:
        return None


def _refusal(status: int, answer: object) -> GraphError:
    """Meta's own error object is an explicit refusal; a gateway's page in its place says nothing about the message."""
    match answer:
        case {"error": {"code": int(code)} as error}:
            trace = error.get("fbtrace_id")
            trace = trace if isinstance(trace, str) and _TRACE.fullmatch(trace) else None
            # Meta's words may quote the recipient, so only its code is repeated.
            hint = f"quote fbtrace_id {trace} to Meta" if trace else None
            hint = graph_codes.FIXES.get(graph_codes.action(code), hint)
            words = f"WhatsApp refuses the message (code {code})"
            return GraphError(words, hint, code=code, fbtrace_id=trace, certainly_not_sent=True)
    if status == HTTPStatus.UNAUTHORIZED:
        hint = graph_codes.FIXES[Action.TOKEN]
        return GraphError("WhatsApp answered 401", hint, action=Action.TOKEN, certainly_not_sent=True)
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    refused = refused and status != HTTPStatus.REQUEST_TIMEOUT
    return GraphError(f"WhatsApp answered {status}", certainly_not_sent=refused)


def _addressed(to: str) -> dict[str, str]:
    """Whom a message goes to: `recipient` is a user id, `to` a number. Where both stand, Meta takes `to`."""
    return {"recipient": to} if _USER_ID.fullmatch(to) else {"to": _international(to)}


def _international(to: str) -> str:
    # Without `+` Graph prepends the business's own country code, and the message goes to somebody else.
    digits = re.sub(r"[\s().-]", "", to).removeprefix("+")
    if not re.fullmatch(r"[1-9][0-9]{6,14}", digits):
        raise UsageError("the recipient is no international phone number", "give it with its country code: +250…")
    return f"+{digits}"
