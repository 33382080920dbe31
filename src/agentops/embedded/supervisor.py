"""The one process per state folder that runs PostgreSQL: its parent, its undertaker, the judge of whether it is needed.

    python -P -m agentops.embedded.supervisor STATE IDLE_SECONDS REPORT_FD BINARIES

    supervisor.lock ──taken──> report busy, exit
          │
          v
    initdb if need be ──> postgres ──> answers? ──> report ready
                             ^                          │
                 backoff ────┴── crashed? <── look now and then ──> clients.lock free for IDLE_SECONDS? ──> stop

It keeps the exclusive lock on clients.lock while it stops, so a new client waits for the end and starts a fresh one.
SIGUSR1 = stop as soon as nobody is there. SIGTERM, SIGINT = stop now. It has one thread, because the signal that its
children get on its death (see `cluster`) is tied to the thread that made them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentops.embedded import cluster, locks, log, processes
from agentops.embedded.place import Place, locate
from agentops.embedded.probe import State, ask, create_database, socket_path
from agentops.errors import AgentOpsError, Unavailable

if TYPE_CHECKING:
    import subprocess
    from types import FrameType

_LOCK_SECONDS = 0.2  # a client that only looks at the lock holds it for some microseconds
_FAST, _SLOW = 0.01, 5.0  # seconds between two looks: while something is about to happen, at most otherwise
_ASKED = 0.2  # … and after SIGUSR1
_STABLE_SECONDS = 10.0  # up for so long: the next crash is a first one again
_BACKOFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before the n-th restart in a row
_STOPPING = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))  # fast, immediate, by force
_LEFTOVER_SECONDS = 10.0  # a server without a supervisor gets so long for a fast shutdown before an immediate one


class Report:
    """The pipe to whoever started us: one line of JSON, once. They may be gone; that is no concern of ours."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def send(self, state: str, message: str = "", hint: str | None = None) -> None:
        """Say `ready`, `busy` or `failed`; what is said after that goes nowhere."""
        if self._fd is None:
            return
        with suppress(BrokenPipeError):
            os.write(self._fd, json.dumps({"state": state, "message": message, "hint": hint}).encode() + b"\n")
        os.close(self._fd)
        self._fd = None


class Signals:
    """Signals as flags, and a wait that any of them cuts short."""

    def __init__(self) -> None:
        self.stop = False
        self.stop_when_idle = False
        self._readable, writable = os.pipe()
        for fd in (self._readable, writable):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.stop_when_idle = True
        elif number != signal.SIGCHLD:
            self.stop = True

    def wait(self, seconds: float) -> None:
        """Sleep until a signal arrives or `seconds` are over."""
        select.select([self._readable], [], [], max(0.0, seconds))
        with suppress(BlockingIOError):  # empty when it was the time that was over
            os.read(self._readable, 4096)


class Supervisor:
    """Keeps one cluster running for as long as somebody uses it."""

    def __init__(
        self, server: cluster.Cluster, idle_seconds: float, signals: Signals, report: Report, lock: int
    ) -> None:
        self._cluster = server
        self._place: Place = server.place
        self._idle_seconds = idle_seconds
        self._signals = signals
        self._report = report
        self._lock = lock
        self._clients = locks.open_lock(self._place.clients_lock)
        self._log_start = log.size(self._place.log)
        self._postgres: subprocess.Popen[bytes] | None = None
        self._made = self._announced = False
        self._socket_seen = False
        self._failures = 0
        self._started_at = self._start_after = self._seen_at = time.monotonic()
        self._leftover_since: float | None = None
        self._touched = 0

    def run(self) -> None:
        """Return when the server has stopped for good; Unavailable when it never came up."""
        try:
            while not self._over():
                self._keep_running()
                self._announce()
                self._signals.wait(self._pause())
        finally:
            self._stop_postgres()

    def _over(self) -> bool:
        """Whether to stop. True from idleness leaves the exclusive client lock held, up to the end of this process."""
        # A lock file that is no longer the one a client would open: the next supervisor would not see us.
        if self._signals.stop or not locks.is_open_at(self._lock, self._place.supervisor_lock):
            return True
        if not self._announced:
            return False
        now = time.monotonic()
        if not locks.try_lock(self._clients, locks.EXCLUSIVE):
            self._seen_at = now
            return False
        touched = os.fstat(self._clients).st_mtime_ns
        if touched != self._touched:  # somebody came and went between two looks
            self._touched, self._seen_at = touched, now
        if self._signals.stop_when_idle or now - self._seen_at >= self._idle_seconds:
            return True
        locks.unlock(self._clients)
        return False

    def _pause(self) -> float:
        now = time.monotonic()
        if self._postgres is None:
            return max(_FAST, self._start_after - now)
        if not self._announced:
            return _FAST
        return min(_ASKED if self._signals.stop_when_idle else _SLOW, max(self._idle_seconds / 10, _FAST))

    def _keep_running(self) -> None:
        if self._postgres is None:
            if time.monotonic() >= self._start_after:
                self._start()
        elif self._postgres.poll() is not None:
            self._take_note_of_exit(self._postgres.returncode)
        elif os.path.exists(socket_path(self._place.socket_dir)):  # noqa: PTH110 - a string
            self._socket_seen = True
        elif self._socket_seen:
            log.note("the socket was removed; restarting the server to get a new one")
            self._stop_postgres()

    def _start(self) -> None:
        lock = locks.open_lock(self._place.server_lock)
        try:
            if not locks.try_lock(lock, locks.EXCLUSIVE):
                self._evict_leftover()
                return
            self._leftover_since = None
            self._made = self._cluster.ensure_data(lock)
            self._postgres = self._cluster.spawn(lock)
        finally:
            os.close(lock)  # the children keep it
        self._started_at, self._socket_seen = time.monotonic(), False

    def _evict_leftover(self) -> None:
        """Get rid of an earlier server: backends of a dead one end by themselves, a live one is told to stop."""
        now = time.monotonic()
        pid = processes.postmaster(self._place.data)
        if self._leftover_since is None:
            self._leftover_since = now
            if pid is not None:
                log.note(f"stopping server {pid}, whose supervisor is gone")
                processes.tell(pid, signal.SIGINT)
        elif pid is not None and now - self._leftover_since > _LEFTOVER_SECONDS:
            processes.tell(pid, signal.SIGQUIT)
        self._start_after = now + _FAST

    def _take_note_of_exit(self, code: int) -> None:
        self._postgres = None
        if self._signals.stop:
            return
        if not self._announced:
            message = f"the embedded PostgreSQL did not start ({code}):\n{log.tail(self._place.log, self._log_start)}"
            raise Unavailable(message, f"the whole log: {self._place.log}")
        now = time.monotonic()
        self._failures = 0 if now - self._started_at > _STABLE_SECONDS else self._failures + 1
        delay = _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._start_after = now + delay
        log.note(f"the server exited ({code}); restarting it in {delay} s")

    def _announce(self) -> None:
        if self._announced or self._postgres is None:
            return
        if ask(self._place.socket_dir, "postgres").state in (State.DOWN, State.STARTING):
            return
        if self._made:
            create_database(self._place.socket_dir)
        self._announced = True
        self._seen_at = time.monotonic()
        self._report.send("ready")

    def _stop_postgres(self) -> None:
        """Shut down fast: sessions are ended, a checkpoint is written. By force only when that does not end."""
        for number, seconds in _STOPPING:
            if self._postgres is None or self._postgres.poll() is not None:
                break
            self._postgres.send_signal(number)
            deadline = time.monotonic() + seconds
            while self._postgres.poll() is None and time.monotonic() < deadline:
                self._signals.wait(deadline - time.monotonic())
        self._postgres = None


def main(argv: list[str]) -> int:
    """Detach, take the lock, supervise. The exit code is for nobody: whoever started us reads the report."""
    state, idle_seconds, report_fd, binaries = argv
    if os.fork():
        os._exit(0)  # our parent waits for this process only; the other one belongs to nobody
    report = Report(int(report_fd))
    place = locate(Path(state))
    lock = locks.open_lock(place.supervisor_lock)
    if not locks.lock_until(lock, locks.EXCLUSIVE, time.monotonic() + _LOCK_SECONDS):
        report.send("busy")
        return 0
    signals = Signals()  # before our id is known: until then SIGUSR1 would kill
    locks.write_pid(lock)
    try:
        server = cluster.prepare(place, Path(binaries))
        Supervisor(server, float(idle_seconds), signals, report, lock).run()
        report.send("failed", "the embedded PostgreSQL was told to stop while it was starting")
    except AgentOpsError as error:
        log.note(error.message.partition("\n")[0])
        report.send("failed", error.message, error.hint)
    except OSError as error:
        log.note(str(error))
        report.send("failed", f"the embedded PostgreSQL cannot run: {error}", f"the whole log: {place.log}")
    finally:
        os.ftruncate(lock, 0)
        os.close(lock)  # before clients.lock, which ends with this process: a waiting client must find this one free
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
