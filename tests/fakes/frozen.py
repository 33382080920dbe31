"""A PostgreSQL that takes connections and then falls silent: a real one behind a socket that passes no statement on."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

# A statement begins with one of these: a simple query, or a prepared one.
_STATEMENTS = (b"Q", b"P")


@contextmanager
def server(url: str) -> Iterator[str]:
    """The address of the database of `url` behind such a socket, until the block ends."""
    about = conninfo_to_dict(url)
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                database = _connected(str(about.get("host", "")), str(about.get("port", "5432")))
                held.extend((client, database))
                for source, sink in ((client, database), (database, client)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

        threading.Thread(target=take, daemon=True).start()
        try:
            port = listener.getsockname()[1]
            yield f"postgresql://{about.get('user', 'postgres')}@127.0.0.1:{port}/{about['dbname']}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in held:
                each.close()


def _connected(host: str, port: str) -> socket.socket:
    if host.startswith("/"):
        found = socket.socket(socket.AF_UNIX)
        found.connect(f"{host}/.s.PGSQL.{port}")
        return found
    return socket.create_connection((host, int(port)))


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            if data.startswith(_STATEMENTS):
                continue  # nobody ever answers
            sink.sendall(data)
    except OSError:
        return
