"""Ask a PostgreSQL server over its unix socket whether it serves, in its own words: no driver, one round trip.

A socket that exists proves nothing: a server in crash recovery accepts connections and answers `57P03`. Only one that
answers the startup packet with an authentication request and then reports ready for queries is ready.
Protocol: https://www.postgresql.org/docs/18/protocol-message-formats.html
"""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from agentops.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORT = 5432
USER = "agentops"
DATABASE = "agentops"
TIMEOUT_SECONDS = 5.0

_PROTOCOL_3_0 = 196608
_CREATED_MEANWHILE = ("42P04", "23505")  # found by the check, or by the unique index


class State(Enum):
    """What the server said."""

    READY = auto()
    NO_DATABASE = auto()
    STARTING = auto()  # or stopping: it is there, and does not serve now
    REFUSED = auto()
    DOWN = auto()


_STATES = {
    "3D000": State.NO_DATABASE,  # no such database
    "57P03": State.STARTING,  # cannot connect now
    "53300": State.READY,  # too many connections, so it serves
}


@dataclass(frozen=True)
class Answer:
    """The server's state and, where it sent an error, its text."""

    state: State
    detail: str = ""


def socket_path(socket_dir: Path) -> str:
    """Name the file that PostgreSQL puts into its socket folder."""
    return f"{socket_dir}/.s.PGSQL.{PORT}"


def ask(socket_dir: Path, database: str = DATABASE) -> Answer:
    """Open a session and close it again; never raises for a server that is away, slow or unwilling."""
    try:
        with _session(socket_dir, database) as conversation:
            return _classify(conversation.until_ready())
    except OSError as error:
        return Answer(State.DOWN, str(error))


def create_database(socket_dir: Path, database: str = DATABASE) -> None:
    """Create `database`, which another process may be doing too; Unavailable when the server refuses."""
    try:
        with _session(socket_dir, "postgres") as conversation:
            failure = conversation.until_ready() or conversation.query(f'CREATE DATABASE "{database}"')
    except OSError as error:
        failure = {"C": "", "M": str(error)}
    if failure and failure.get("C") not in _CREATED_MEANWHILE:
        reason = failure.get("M", "no reason given")
        raise Unavailable(f"the embedded PostgreSQL could not create the database {database}: {reason}")


def _classify(failure: dict[str, str]) -> Answer:
    if not failure:
        return Answer(State.READY)
    return Answer(_STATES.get(failure.get("C", ""), State.REFUSED), failure.get("M", ""))


class _Conversation:
    """One connection: messages are a type byte, a length (itself included), a body."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def start(self, database: str) -> None:
        settings = f"user\0{USER}\0database\0{database}\0application_name\0agentops probe\0\0".encode()
        self._connection.sendall(struct.pack("!II", len(settings) + 8, _PROTOCOL_3_0) + settings)

    def query(self, statement: str) -> dict[str, str]:
        body = statement.encode() + b"\0"
        self._connection.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self.until_ready()

    def until_ready(self) -> dict[str, str]:
        """Read up to ReadyForQuery or the server's hanging up; return an error's fields, {} when there was none."""
        failure: dict[str, str] = {}
        while True:
            header = self._stream.read(5)
            if len(header) < 5:  # noqa: PLR2004 - the server hung up, after an error if it sent one
                if failure:
                    return failure
                raise ConnectionError("the server closed the connection")
            kind, length = struct.unpack("!cI", header)
            body = self._stream.read(length - 4)
            if kind == b"E":
                fields = body.decode(errors="replace").split("\0")
                failure = {field[0]: field[1:] for field in fields if field}
            elif kind == b"Z":
                return failure

    def close(self) -> None:
        with suppress(OSError):  # when the server hung up first, nobody is left to say goodbye to
            self._connection.sendall(b"X" + struct.pack("!I", 4))
        self._stream.close()


@contextmanager
def _session(socket_dir: Path, database: str) -> Iterator[_Conversation]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(socket_path(socket_dir))
        conversation = _Conversation(connection)
        try:
            conversation.start(database)
            yield conversation
        finally:
            conversation.close()
