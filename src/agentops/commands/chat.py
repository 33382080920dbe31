"""Chat with the agent as a customer would: signed WhatsApp deliveries in, the replies as they are sent.

On a terminal a conversation (Ctrl-D ends it), with --message one message, else one message per line of stdin.
The replies go where the stack sends them: with real providers, to that very phone too.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import typer

from agentops import seal
from agentops.errors import AgentOpsError, NotAuthorised, NotFound, TimedOut, Unavailable, UsageError
from agentops.platforms import Row
from agentops.platforms.local import LocalPlatform
from agentops.session import Session
from agentops.sql import statements

From = Annotated[str, typer.Option("--from", metavar="PHONE", help="Whose phone the messages come from.")]
Message = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Send this one and end.")]
Correlation = Annotated[
    str | None, typer.Option("--correlation", metavar="ID", help="The id under which the logs show --message.")
]
Timeout = Annotated[int, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for a reply.")]

SLUG = "ai-whatsapp-webhook"
_SQL = statements(__file__)
_POLL_SECONDS = 0.1
_SENT = frozenset({"sent", "delivered", "read"})
_OK, _UNAUTHORISED, _NOT_FOUND = 200, 401, 404


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message and what was answered. `agentops logs show --correlation ID` tells how."""

    correlation_id: str
    message: str
    replies: list[str]
    answered: bool

    def text(self) -> str:
        """The replies, for eyes."""
        return "\n".join(f"agent> {reply}" for reply in self.replies)


@dataclass(frozen=True, slots=True)
class _Customer:
    """Who writes, and what makes the stack believe it."""

    platform: LocalPlatform
    phone: str
    phone_id: str
    app_secret: str
    seconds: int


async def chat(
    session: Session,
    from_: From = "+250788000000",
    message: Message = None,
    correlation: Correlation = None,
    seconds: Timeout = 30,
) -> AsyncIterator[Exchange]:
    """Chat with the agent as a customer would.

    Exit 0 where every message was answered, 9 where none came in time, 1 where chat is off or the stack gave it up.
    """
    session.confirm_production()
    customer = await _customer(session, from_, seconds)
    if message is not None:
        exchange, failure = await _exchange(customer, message, correlation or str(uuid.uuid4()))
        yield exchange
        if failure:
            raise failure
        return
    last: AgentOpsError | None = None
    if session.interactive:
        session.note(f"you write as {customer.phone}; Ctrl-D ends the conversation")
    async for line in _lines(prompt="you> " if session.interactive else ""):
        if line.strip():
            exchange, failure = await _exchange(customer, line.strip(), str(uuid.uuid4()))
            yield exchange
            last = failure or last
            if failure and session.interactive:
                session.note(f"{failure.message}\n  → {failure.hint}")
    if last and not session.interactive:
        raise last


async def _customer(session: Session, phone: str, seconds: int) -> _Customer:
    from agentops.agent import phones
    from agentops.platforms.local import secrets as stored

    platform = await session.local()
    if not any(server.role == "web" and server.url for server in await platform.servers()):
        raise Unavailable("no server runs here, so there is nobody to chat with", "agentops up")
    private = seal.private_key(session.process.home)
    if private is None:
        raise NotAuthorised("this machine has not the stack's private key, so it cannot sign", "set AGENTOPS_STACK_KEY")
    values = await stored.values(platform, private)
    if not values.get("WA_APP_SECRET"):
        raise UsageError("WA_APP_SECRET is not set, so no delivery can be signed", "agentops secrets set WA_APP_SECRET")
    home = values.get("AGENT_COUNTRY") or phones.DEFAULT_COUNTRY
    return _Customer(
        platform, phones.normalised(phone, home), values.get("WA_PHONE_ID") or "0", values["WA_APP_SECRET"], seconds
    )


async def _exchange(customer: _Customer, text: str, correlation_id: str) -> tuple[Exchange, AgentOpsError | None]:
    """Send one message and wait for what becomes of it; why it was not answered, if it was not.

    Raises:
        AgentOpsError: the stack does not take the delivery.
    """
    message_id = _wamid(customer.phone)
    await _deliver(customer, text, correlation_id, message_id)
    hint = f"agentops logs show --correlation {correlation_id}"
    deadline = time.monotonic() + customer.seconds
    while time.monotonic() < deadline:
        for row in await customer.platform.query(_SQL["outcome"], {"message_id": message_id}):
            if row["outbox_state"] in _SENT:
                return Exchange(correlation_id, text, [row["body"]], answered=True), None
            failure = _unanswered(row, hint)
            if failure:
                return Exchange(correlation_id, text, [], answered=False), failure
        await asyncio.sleep(_POLL_SECONDS)
    late = TimedOut(f"no reply within {customer.seconds} s", f"{hint}; does a worker run? agentops status")
    return Exchange(correlation_id, text, [], answered=False), late


def _unanswered(row: Row, hint: str) -> AgentOpsError | None:
    if row["outbox_state"] == "uncertain":
        return AgentOpsError("a reply was made, but it is not certain that it was sent", hint)
    if row["state"] == "skipped":
        return AgentOpsError("not answered: chat is off", "agentops flags enable chat")
    return AgentOpsError(f"not answered: {row['last_error']}", hint) if row["state"] == "dead" else None


async def _deliver(customer: _Customer, text: str, correlation_id: str, message_id: str) -> None:
    body = json.dumps(_payload(customer, text, message_id)).encode()
    signature = hmac.digest(customer.app_secret.encode(), body, "sha256").hex()
    headers = {"x-hub-signature-256": f"sha256={signature}", "x-correlation-id": correlation_id}
    answer = await customer.platform.invoke(SLUG, "POST", body, headers)
    if answer.status == _NOT_FOUND:
        raise NotFound(f"{SLUG} is not deployed", f"agentops deploy {SLUG}")
    if answer.status == _UNAUTHORISED:
        raise NotAuthorised("the server refuses the signature", "it may not have the newest secrets: agentops health")
    if answer.status != _OK:
        raise Unavailable(f"{SLUG} answered {answer.status}", f"agentops logs show --correlation {correlation_id}")


def _payload(customer: _Customer, text: str, message_id: str) -> dict[str, object]:
    """A delivery of the shape that Meta documents.

    https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/payload-examples
    """
    wa_id = customer.phone.removeprefix("+")
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550000000", "phone_number_id": customer.phone_id},
        "contacts": [{"profile": {"name": "agentops chat"}, "wa_id": wa_id}],
        "messages": [
            {
                "from": wa_id,
                "id": message_id,
                "timestamp": str(int(time.time())),
                "type": "text",
                "text": {"body": text},
            }
        ],
    }
    change = {"field": "messages", "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": "100000000000000", "changes": [change]}]}


def _wamid(phone: str) -> str:
    """A message id of Meta's shape: base64 that holds the number, and 20 characters that nobody else has."""
    digits = phone.removeprefix("+").encode()
    unique = secrets.token_hex(10).upper().encode()
    raw = b"\x1c\x18" + bytes([len(digits)]) + digits + b"\x15\x02\x00\x12\x18\x14" + unique + b"\x00"
    return f"wamid.{base64.b64encode(raw).decode()}"


async def _lines(prompt: str) -> AsyncIterator[str]:
    """Lines of stdin, as they come; Ctrl-C is heard meanwhile, which a blocking read would not allow."""
    descriptor, waiting = sys.stdin.fileno(), b""
    while True:
        typer.echo(prompt, nl=False, err=True)
        while b"\n" not in waiting:
            await _readable(descriptor)
            chunk = os.read(descriptor, 65536)
            if not chunk:
                if waiting:
                    yield waiting.decode(errors="replace")
                return
            waiting += chunk
        line, _, waiting = waiting.partition(b"\n")
        yield line.decode(errors="replace")


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, set_ready)
    except PermissionError:  # a regular file is always readable
        return
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
