"""The embedded PostgreSQL: one server per state folder, started by whoever comes first, stopped when nobody is left.

    attach ──> shared lock on clients.lock ──> does it answer? ──yes──> Attachment(url)
                                                  │ no
                                                  v
                                     start a supervisor, wait for its word

Every process that uses the database holds the lock until it ends, however it ends. See `supervisor` for the other side
and `place` for the files. Importing this package is cheap: standard library only, no driver, no event loop.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from agentops.embedded import locks
from agentops.embedded.place import Place, locate, make_state_folder, require_own
from agentops.embedded.probe import DATABASE, USER, State, ask, create_database
from agentops.embedded.runtime import binaries
from agentops.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Attachment", "attach", "binaries", "release", "remove", "running", "stop_when_idle"]

START_SECONDS = 60.0
_POLL_SECONDS = 0.01

_held: dict[Path, int] = {}  # state folder -> the file descriptor whose shared lock says that this process is a user
_guard = threading.Lock()


@dataclass(frozen=True)
class Attachment:
    """A server that answered a moment ago, and keeps running at least as long as this process holds its lock."""

    url: str
    """For any client of libpq, such as psycopg and psql: `postgresql:///agentops?host=/socket/folder&user=agentops`."""
    socket_dir: Path
    data_dir: Path
    started: bool
    """Whether this call started it."""


def attach(state: Path, *, idle_seconds: float = 600) -> Attachment:
    """Use the server of the folder `state`: start it if need be, wait until it answers, create the database if missing.

    Blocks: a few milliseconds when the server runs, some 0.3 s when not, 2 s the first time ever, 60 s at most.
    Call it again whenever a connection fails: that is cheap, and brings a server back whose supervisor was killed.
    `idle_seconds` counts only for the supervisor this call may start: how long the server outlives its last user.

    UsageError: a path that cannot be used. NotAuthorised: another user's folder. Unavailable: no server, and the
    message has the end of its log.
    """
    place = locate(state)
    make_state_folder(place)
    deadline = time.monotonic() + START_SECONDS
    new = _hold(place, deadline)
    try:
        started = _bring_up(place, idle_seconds, deadline)
        socket_dir = place.socket_dir
    except BaseException:  # also of Ctrl-C: a caller that goes on without the server must not keep it alive
        if new:
            release(state)
        raise
    url = f"postgresql:///{DATABASE}?host={quote(str(socket_dir))}&user={USER}"
    return Attachment(url, socket_dir, place.data, started)


def release(state: Path) -> None:
    """Stop counting this process as a user of the server (a forked child that inherited its lock still counts)."""
    with _guard:
        fd = _held.pop(locate(state).state, None)
        if fd is not None:
            os.close(fd)


def running(state: Path) -> bool:
    """Whether the server of `state` is supervised and answers now. Starts and creates nothing. Errors as `attach`."""
    place = locate(state)
    require_own(place)
    return _answer(place) in (State.READY, State.NO_DATABASE)


def stop_when_idle(state: Path) -> None:
    """Ask the supervisor to stop as soon as nobody uses the server, this process included. Returns at once."""
    from agentops.embedded.control import signal_supervisor

    place = locate(state)
    require_own(place)
    signal_supervisor(place, signal.SIGUSR1)


def remove(state: Path) -> None:
    """Stop the server, even under its users, and delete all that belongs to `state`, inside and outside. For tests."""
    from agentops.embedded.control import demolish

    release(state)
    demolish(locate(state))


def _hold(place: Place, deadline: float) -> bool:
    """Hold the shared client lock; True when this process did not before. A server that is stopping is waited for."""
    with _guard:
        fd = _held.get(place.state)
        new = fd is None or not locks.is_open_at(fd, place.clients_lock)
        if fd is None or new:
            if fd is not None:  # the folder was removed and made again: nobody looks at the old lock
                os.close(_held.pop(place.state))
            fd = _held[place.state] = _open_client_lock(place, deadline)
    os.utime(fd)  # a visit too short to be seen still counts against idleness
    return new


def _open_client_lock(place: Place, deadline: float) -> int:
    try:
        fd = locks.open_lock(place.clients_lock)
    except OSError as error:
        message = f"cannot open {place.clients_lock}: {error.strerror}"
        raise Unavailable(message, "set AGENTOPS_HOME to a folder you can write to") from error
    if locks.lock_until(fd, locks.SHARED, deadline):
        return fd
    os.close(fd)
    message = f"the embedded PostgreSQL of {place.state} is still stopping"
    raise Unavailable(message, f"the whole log: {place.log}")


def _answer(place: Place) -> State:
    """Ask the server; without a supervisor it is DOWN, whatever it says, because it is about to end."""
    if not locks.is_held(place.supervisor_lock):
        return State.DOWN
    answer = ask(place.socket_dir)
    if answer.state is State.REFUSED:
        raise Unavailable(f"the embedded PostgreSQL refused us: {answer.detail}", f"the whole log: {place.log}")
    return answer.state


def _bring_up(place: Place, idle_seconds: float, deadline: float) -> bool:
    """Return when the server serves the database; True when it was us who started it."""
    started = False
    while (state := _answer(place)) is not State.READY:
        if state is State.NO_DATABASE:
            create_database(place.socket_dir)
        elif not locks.is_held(place.supervisor_lock):
            from agentops.embedded.launch import launch

            started = launch(place, idle_seconds, deadline) or started
        elif time.monotonic() >= deadline:
            from agentops.embedded.launch import not_ready

            raise not_ready(place, 0)
        else:
            time.sleep(_POLL_SECONDS)
    return started
