"""Start the supervisor as a process that belongs to nobody, and hear from it how it went."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentops.embedded import log
from agentops.embedded.runtime import binaries
from agentops.errors import Unavailable

if TYPE_CHECKING:
    from agentops.embedded.place import Place

# A process that may live for weeks keeps none of the operator's secrets, and none of their PG* variables.
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "PYTHONHOME")


def launch(place: Place, idle_seconds: float, deadline: float) -> bool:
    """Start a supervisor and wait for its word; True when it brought the server up, False when another one is at it.

    Unavailable, with the end of the log, when the server did not start or not before `deadline` (time.monotonic).
    """
    start = log.size(place.log)
    readable, writable = os.pipe()
    try:
        try:
            _spawn(place, idle_seconds, writable)
        except OSError as error:
            raise Unavailable(f"cannot start the embedded PostgreSQL's supervisor: {error}", _hint(place)) from error
        finally:
            os.close(writable)
        line = _read_line(readable, deadline)
    finally:
        os.close(readable)
    if not line:
        raise not_ready(place, start)
    word = json.loads(line)
    if word["state"] == "failed":
        raise Unavailable(word["message"], word["hint"] or _hint(place))
    return bool(word["state"] == "ready")


def not_ready(place: Place, log_start: int) -> Unavailable:
    """Make the error for a server that does not answer, with what its log has said since byte `log_start`."""
    message = "the embedded PostgreSQL does not answer"
    lines = log.tail(place.log, log_start)
    return Unavailable(f"{message}; its log says:\n{lines}" if lines else message, _hint(place))


def _hint(place: Place) -> str:
    return f"the whole log: {place.log}"


def _spawn(place: Place, idle_seconds: float, report: int) -> None:
    module = [sys.executable, "-P", "-m", "agentops.embedded.supervisor"]
    arguments = [str(place.state), str(idle_seconds), str(report), str(binaries())]
    output = log.open_log(place.log)
    try:
        # The supervisor forks at once and goes on in its child, so this wait is short and leaves no zombie behind.
        subprocess.run(  # noqa: S603 - our own program and arguments
            [*module, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(),
            pass_fds=(report,),
            start_new_session=True,
        )
    finally:
        os.close(output)


def _environment() -> dict[str, str]:
    """Collect what the supervisor may know, with a PYTHONPATH that finds this very package from any folder."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    entries = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]  # noqa: PTH100 - of a string
    package_root = str(Path(__file__).resolve().parents[2])
    if package_root not in (*entries, sysconfig.get_path("purelib")):  # which may not come before the standard library
        entries.append(package_root)
    return {**kept, "PYTHONPATH": os.pathsep.join(entries)} if entries else kept


def _read_line(readable: int, deadline: float) -> bytes:
    """One line, or what there was of it when the writer ended or the time was over."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([readable], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(readable, 65536) if ready else b""
        if not part:
            return b""
        line += part
    return line
