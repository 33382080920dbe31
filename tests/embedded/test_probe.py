"""What counts as an answer: a socket that accepts is not a server that serves."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from agentops.embedded.probe import State, ask, socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def error(code: str) -> bytes:
    return message(b"E", f"SFATAL\0C{code}\0Mthe reason\0\0".encode())


@contextmanager
def peer(folder: Path, answer: bytes) -> Iterator[None]:
    """A socket that accepts once, reads the startup packet, sends `answer` and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path(folder))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


READY = message(b"R", struct.pack("!I", 0)) + message(b"S", b"a\0b\0") + message(b"Z", b"I")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (READY, State.READY),
        (error("53300"), State.READY),
        (error("57P03"), State.STARTING),
        (error("3D000"), State.NO_DATABASE),
        (error("28000"), State.REFUSED),
        (b"", State.DOWN),
        (message(b"R", struct.pack("!I", 0)), State.DOWN),
    ],
    ids=["serves", "is full", "is starting", "lacks the database", "refuses", "hangs up", "dies on the way"],
)
def test_a_server_that(tmp_path: Path, answer: bytes, expected: State) -> None:
    with peer(tmp_path, answer):
        assert ask(tmp_path).state is expected


def test_a_server_whose_socket_is_missing_is_down(tmp_path: Path) -> None:
    assert ask(tmp_path).state is State.DOWN
