"""Bring the stack up on this machine: database, keys, functions, server and worker.

In the foreground until Ctrl-C or `agentops down`; --detach leaves it running. --sandbox adds simulated peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from agentops.errors import AgentOpsError, Kind, TimedOut, UsageError
from agentops.platforms.local import secrets
from agentops.server import first_run, hold
from agentops.server.keys import APP_SECRET
from agentops.server.launch import LIVE, SANDBOX, EmbeddedKeeper, Launch, Wanted, deploy_missing, prepare
from agentops.server.supervisor import stopping_signals
from agentops.session import Session
from agentops.settings import CHAT, DEFAULT_PORT, Process, elsewhere

Detach = Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")]
Port = Annotated[
    int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where to listen; default: 54321.")
]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="With simulated OpenAI, WhatsApp and Slack; needs no key.")]
Processes = Annotated[int, typer.Option("--processes", metavar="N", min=1, max=64, help="How many web processes.")]

HOST = "127.0.0.1"
DETACH_SECONDS = 90.0
ENABLE = "agentops flags enable chat vouchers customer-lookup"


@dataclass(frozen=True, slots=True)
class Up:
    """A stack that is up. `database_url` is without its password."""

    target: str
    url: str
    webhook: str
    database_url: str
    pid: int
    simulated: bool
    changed: bool
    advice: tuple[str, ...] = field(default=(), metadata={"json": False})

    def text(self) -> str:
        """For people: where everything is, and what to type next."""
        title = "agentops is up" if self.changed else "agentops is already up"
        if self.simulated:
            title += " (SIMULATION: OpenAI, WhatsApp and Slack are local stand-ins, nothing leaves this machine)"
        places = {
            "target": self.target,
            "functions": f"{self.url}/functions/v1/<slug>",
            "webhook": self.webhook,
            "database": self.database_url,
            "process": str(self.pid),
        }
        lines = [title, *(f"  {name:<10} {place}" for name, place in places.items()), "next:"]
        return "\n".join(lines + [f"  {line}" for line in self.advice])


async def up(
    session: Session, detach: Detach = False, port: Port = None, sandbox: Sandbox = False, processes: Processes = 1
) -> AsyncIterator[Up]:
    """Bring the stack up on this machine: database, keys, functions, server and worker."""
    _choose(session, sandbox=sandbox)
    session.confirm_production()
    wanted = port or session.process.port or DEFAULT_PORT
    if detach:
        yield await _detached(session, wanted, processes)
        return
    taken = hold.take(hold.path(session.process))
    if taken is None:
        yield await _already(session)
        return
    try:
        async for entry in _foreground(session, taken, Wanted(processes, 1, HOST, wanted, _typed(session))):
            yield entry
    finally:
        taken.release()


async def _foreground(session: Session, taken: hold.Hold, wanted: Wanted) -> AsyncIterator[Up]:
    process = session.process
    kind = SANDBOX if process.target == "sandbox" else LIVE
    launch, keeper = Launch(wanted), EmbeddedKeeper(process)
    try:
        taken.say(launch.url, ready=False)
        platform = await session.local(any_schema=True)
        key = await prepare(platform, process, kind)
        if kind == SANDBOX and key.created:
            await first_run.furnish(platform)
        for deployment in await deploy_missing(platform, process):
            if deployment.finding:
                session.note(f"note: {deployment.slug} is not deployed: {deployment.finding}")
        app_secret = (await secrets.values(platform, key.private)).get(APP_SECRET) if kind == SANDBOX else None
        keeper.start()
        with stopping_signals() as stop:
            async with launch.running(
                platform.url, key.private, kind, session.note, stop, app_secret=app_secret
            ) as ended:
                if await launch.ready(platform, stop):
                    taken.say(launch.url, ready=True)
                    yield await _up(session, launch.url or "", os.getpid(), changed=True)
                await session.close()  # a database connection less for as long as it runs
                await ended
    finally:
        keeper.stop()
        launch.close()


def _choose(session: Session, *, sandbox: bool) -> None:
    process = session.process
    if sandbox and process.target != "sandbox":
        if process.origin == "--target":
            raise UsageError(f"--sandbox has a database of its own, not {process.label}", "leave out --target")
        session.process = elsewhere(process, "sandbox", "--sandbox")
    if session.process.hosted:
        words = f"{session.process.label} is a hosted project, which is always up"
        raise UsageError(words, "agentops deploy all, to put the functions there; agentops health, to look at it")


async def _up(session: Session, url: str, pid: int, *, changed: bool) -> Up:
    platform = await session.local()
    process = session.process
    simulated = process.target == "sandbox"
    on = {flag.secret for flag in await platform.flags() if flag.enabled}
    target = "export AGENTOPS_TARGET=sandbox" if simulated and os.environ.get("AGENTOPS_TARGET") != "sandbox" else None
    advice = [target, None if CHAT in on else f"{ENABLE}     (flags are off at first)"]
    advice += ["agentops chat" if simulated else None, "agentops health", "agentops logs tail"]
    advice += ['eval "$(agentops status --env)"     (for curl and psql)', "agentops down"]
    return Up(
        target=process.label,
        url=url,
        webhook=f"{url}/functions/v1/ai-whatsapp-webhook",
        database_url=replace(process, target=platform.url).label,
        pid=pid,
        simulated=simulated,
        changed=changed,
        advice=tuple(line for line in advice if line),
    )


async def _already(session: Session) -> Up:
    """The one that holds the target, once it is ready; it may just be starting."""
    deadline = time.monotonic() + DETACH_SECONDS
    file = hold.path(session.process)
    while time.monotonic() < deadline:
        held = hold.read(file)
        if held is None:
            raise AgentOpsError("another agentops up was starting, and failed", f"{_typed(session)} again shows why")
        if held.ready:
            return await _up(session, held.url or "", held.pid, changed=False)
        await asyncio.sleep(0.05)
    raise TimedOut(f"another agentops up has been starting for {DETACH_SECONDS:g} s", "agentops down, then up again")


async def _detached(session: Session, port: int, processes: int) -> Up:
    """Start ourselves in the background, and wait until that serves or fails."""
    file = hold.path(session.process)
    if hold.read(file):
        return await _already(session)
    log = file.with_suffix(".log")
    child = _start(session.process, log, port, processes)
    deadline = time.monotonic() + DETACH_SECONDS
    while time.monotonic() < deadline:
        held = hold.read(file)
        if held and held.pid == child.pid and held.ready:
            return await _up(session, held.url or "", held.pid, changed=True)
        if child.poll() is not None:
            if child.returncode == 0:  # somebody else was faster
                return await _already(session)
            raise _failure(log, child.returncode)
        await asyncio.sleep(0.05)
    child.terminate()
    raise TimedOut(f"the stack is not up after {DETACH_SECONDS:g} s:\n{_tail(log)}", f"the whole log: {log}")


def _start(process: Process, log: Path, port: int, processes: int) -> subprocess.Popen[bytes]:
    hold.make_folder(log.parent)
    argv = [sys.executable, "-m", "agentops", "up", "--json", "--port", str(port), "--processes", str(processes)]
    if process.confirmation:
        argv += ["--confirm", process.confirmation]  # who started us has typed it
    # Through the environment: an address may hold a password, and command lines are public.
    told = (process.name if process.told("url") == process.target else None) or process.target
    environment = {**os.environ, "AGENTOPS_TARGET": told, "AGENTOPS_HOME": str(process.home)}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own program
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=process.project,
            start_new_session=True,
        )


def _failure(log: Path, code: int) -> AgentOpsError:
    """The child's own error, as if it were ours; else the end of its log."""
    kind = next((kind for kind in Kind if kind.exit_code == code), Kind.FAILED)
    failure = AgentOpsError(f"the stack did not come up:\n{_tail(log)}", f"the whole log: {log}")
    for line in reversed(_tail(log).splitlines()):
        with suppress(ValueError, TypeError, KeyError):
            told = json.loads(line)
            failure = AgentOpsError(str(told["message"]), told["hint"])
            break
    failure.kind = kind
    return failure


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _typed(session: Session) -> str:
    return "agentops up --sandbox" if session.process.target == "sandbox" else "agentops up"
