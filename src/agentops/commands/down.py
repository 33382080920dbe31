"""End the stack that `agentops up` started on this machine, in order; its data stays."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from agentops import embedded
from agentops.errors import NotAuthorised, TimedOut, UsageError
from agentops.server import hold
from agentops.session import Answer, Session

WAIT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Down:
    """What became of it: `pid` is the process that was ended, null where none ran."""

    target: str
    pid: int | None
    changed: bool

    def text(self) -> str:
        """For people."""
        return f"target {self.target} is down" if self.changed else f"target {self.target} was not up"


async def down(session: Session) -> Answer:
    """End the stack that `agentops up` started on this machine, in order; its data stays."""
    process = session.process
    if process.hosted:
        words = f"{process.label} is a hosted project, which agentops cannot bring down"
        raise UsageError(words, "agentops incident kill-switch, to switch chat and voice off there")
    session.confirm_production()
    file = hold.path(process)
    held = hold.read(file)
    if held:
        _terminate(held.pid)
        await _wait(file, held.pid)
    if process.embedded and process.state.is_dir():
        embedded.stop_when_idle(process.state)
    other = replace(process, target="sandbox" if process.target == "local" else "local")
    note = None
    if not held and process.embedded and hold.read(hold.path(other)):
        note = f"note: target {other.target} is up; to end that: agentops --target {other.target} down"
    return Answer(Down(process.label, held.pid if held else None, changed=held is not None), note=note)


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise NotAuthorised(f"process {pid} belongs to another user", "end it as that user") from error
    except ProcessLookupError:
        return


async def _wait(file: os.PathLike[str], pid: int) -> None:
    """Until the holder has let go, which the kernel does for it at the latest when it ends."""
    from pathlib import Path

    deadline = time.monotonic() + WAIT_SECONDS
    while (held := hold.read(Path(file))) and held.pid == pid:
        if time.monotonic() > deadline:
            raise TimedOut(f"process {pid} has not ended within {WAIT_SECONDS:g} s", f"kill -9 {pid}")
        with suppress(asyncio.TimeoutError):
            await asyncio.sleep(0.05)
