"""What the tests of the embedded server share: users that are processes of their own, the process table."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from agentops.embedded import locks, processes, stop_when_idle
from agentops.embedded.place import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).parents[2] / "src"

_USER = """
import json, pathlib, sys
from agentops import embedded
a = embedded.attach(pathlib.Path(sys.argv[1]), idle_seconds=float(sys.argv[2]))
print(json.dumps({"url": a.url, "socket_dir": str(a.socket_dir), "started": a.started}), flush=True)
sys.stdin.read()
"""


class User:
    """A process that attaches, says what it got, and stays until it is dismissed or killed."""

    def __init__(
        self, state: Path, idle_seconds: float = 600, *, python: str = sys.executable, uid: int | None = None
    ) -> None:
        found = [str(SOURCE), *(path for path in sys.path if path.endswith("site-packages"))]
        self.process = subprocess.Popen(
            [python, "-c", _USER, str(state), str(idle_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )

    def answer(self) -> dict[str, str | bool]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user could not attach; see its traceback"
        found: dict[str, str | bool] = json.loads(line)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.dismiss()

    def dismiss(self) -> None:
        self.process.communicate(timeout=30)


@contextlib.contextmanager
def user(state: Path, idle_seconds: float = 600) -> Iterator[User]:
    one = User(state, idle_seconds)
    try:
        yield one
    finally:
        one.kill()


def eventually(holds: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until it holds, and fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)


def value(url: str, statement: str) -> object:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def serves(url: str) -> bool:
    try:
        return value(url, "select 1") == 1
    except psycopg.OperationalError:
        return False


def supervisor(state: Path) -> int:
    pid = locks.holder(locate(state).supervisor_lock)
    assert pid is not None
    return pid


def supervisors(state: Path) -> list[int]:
    """Every supervisor of this state in the process table, whether it holds the lock or not."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if processes.mentions(pid, "agentops.embedded.supervisor", str(locate(state).state))]


def postmaster(state: Path) -> int:
    return int((locate(state).data / "postmaster.pid").read_text().split("\n")[0])


def stopped(state: Path) -> bool:
    """Neither a supervisor nor any process of the server is left."""
    place = locate(state)
    return not locks.is_held(place.supervisor_lock) and not locks.is_held(place.server_lock)


def stop(state: Path) -> None:
    """Wait for the end of a server that nobody uses any more."""
    stop_when_idle(state)
    eventually(lambda: stopped(state))


def kill(pid: int) -> None:
    """SIGKILL, and wait until the process is dead: until then it holds its locks."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: dead(pid))


def dead(pid: int) -> bool:
    """Whether it is gone, or a zombie: one that has given its files back and waits for its parent's notice only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def environment(pid: int) -> list[str]:
    return [entry.decode().partition("=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
