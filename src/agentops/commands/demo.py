"""The tour: a whole stack on this machine, operated step by step, each step's command shown before it runs.

OpenAI, WhatsApp and Slack are simulated, nothing leaves the machine and no key is needed. The stack stays up.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Annotated

import typer

from agentops.errors import AgentOpsError, Kind
from agentops.session import Session
from agentops.settings import KNOWN_FLAGS, elsewhere
from agentops.sql import statements

Port = Annotated[
    int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where to listen; default: 54321.")
]

CUSTOMER = "+250788000000"
_SQL = statements(__file__)
_STORED_SECONDS = 5
_DONE = (Kind.DONE.exit_code,)
_DONE_OR_DEGRADED = (Kind.DONE.exit_code, Kind.DIFFERS.exit_code)


@dataclass(frozen=True, slots=True)
class Tour:
    """A tour that came to its end. `seconds` is how long it took."""

    target: str
    url: str
    steps: int
    voucher_id: str
    seconds: float

    def text(self) -> str:
        """How to go on and how to stop."""
        export = "" if os.environ.get("AGENTOPS_TARGET") == "sandbox" else "  export AGENTOPS_TARGET=sandbox\n"
        return (
            f"The tour took {self.seconds:.0f} s and made voucher {self.voucher_id}. "
            f"The stack stays up at {self.url} (a simulation).\n"
            f"go on:\n{export}"
            "  agentops chat\n"
            "  agentops status\n"
            "  agentops runbook list\n"
            '  eval "$(agentops status --env)"     (for curl and psql)\n'
            "stop:\n"
            "  agentops down"
        )


async def demo(session: Session, port: Port = None) -> Tour:
    """Take the tour of a simulated stack; it ends with the stack up."""
    began = time.monotonic()
    session.process = elsewhere(session.process, "sandbox", "agentops demo")
    session.note("The tour of agentops, on target sandbox: OpenAI, WhatsApp and Slack are SIMULATED on this machine.")
    if os.environ.get("AGENTOPS_TARGET") != "sandbox":
        session.note("$ export AGENTOPS_TARGET=sandbox")
    guide, correlation_id = _Guide(session), f"demo-{uuid.uuid4().hex[:8]}"
    where = f"up --sandbox --detach --port {port}" if port else "up --sandbox --detach"
    await guide.show("Start a stack: database, server, worker, simulated providers.", where)
    await _put_back(guide)
    await guide.show("Deploy the six functions (a new stack comes with them).", "deploy all")
    await guide.show("Again: nothing is left to do.", "deploy all")
    message = shlex.quote(f"create voucher 10000 for {CUSTOMER}")
    words = f"chat --message {message} --correlation {correlation_id}"
    await guide.show("A WhatsApp message, signed as Meta signs it; the agent creates a voucher.", words)
    voucher_id = await _issued(session, correlation_id)
    await _told(session, correlation_id)
    await guide.show("What happened, end to end.", f"logs show --correlation {correlation_id}")
    await guide.show("The page's statistics.", "stats vouchers")
    await guide.show("Switch chat off, at once and on every server.", "flags disable chat")
    await guide.show(
        "The next message is stored, and not answered.", "chat --message hello", accepted=(Kind.FAILED.exit_code,)
    )
    await guide.show("An emergency: stop chat and voice, and wait until nothing of them runs.", "incident kill-switch")
    await guide.show("Is everything well?", "health", accepted=_DONE_OR_DEGRADED)
    await _put_back(guide)
    url = next((server.url for server in await (await session.local()).servers() if server.url), "")
    return Tour("sandbox", url or "", guide.steps, voucher_id, round(time.monotonic() - began, 1))


@dataclass(slots=True)
class _Guide:
    """Shows a command, runs it, and stops the tour where it does not end as it must."""

    session: Session
    steps: int = 0

    async def show(self, title: str, command: str, accepted: tuple[int, ...] = _DONE) -> None:
        self.steps += 1
        self.session.note(f"\n{self.steps}. {title}\n$ agentops {command}")
        code = await self.session.dispatch(shlex.split(command))
        # In one file or pipe, a result stands below its command.
        sys.stdout.flush()
        if code not in accepted:
            words = f"the tour stops: agentops {command} ended with exit code {code}"
            raise AgentOpsError(words, "its message is above; agentops --target sandbox logs show tells more")


async def _put_back(guide: _Guide) -> None:
    """Switch on again what this tour, or an earlier one, has switched off."""
    from agentops.store import incidents

    platform = await guide.session.platform()
    for incident in await incidents.listed(platform):
        if incident.kind == "kill-switch" and incident.status == "open":
            await guide.show("Put back what the kill switch stopped.", f"incident restore {incident.id} --yes")
    off = [flag.name for flag in await platform.flags() if not flag.enabled and flag.name in KNOWN_FLAGS]
    if off:
        await guide.show("Switch on what is off.", f"flags enable {' '.join(off)}")


async def _told(session: Session, correlation_id: str) -> None:
    """Wait until the message's events are stored: servers do that in batches, never on the way of a request."""
    platform = await session.local()
    for _ in range(_STORED_SECONDS * 10):
        if (await platform.query(_SQL["told"], {"correlation_id": correlation_id}))[0]["told"]:
            return
        await asyncio.sleep(0.1)


async def _issued(session: Session, correlation_id: str) -> str:
    """The voucher that the chat message made; the tour is no tour without it."""
    rows = await (await session.local()).query(_SQL["issued"], {"correlation_id": correlation_id})
    if not rows:
        raise AgentOpsError(
            "the tour stops: the message made no voucher",
            f"agentops --target sandbox logs show --correlation {correlation_id}",
        )
    return str(rows[0]["voucher_id"])
