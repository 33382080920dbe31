"""One server process: `python -m agentops.server.process --role web --socket FD`, orders on standard input.

    order → pool, log writer, settings watch, lookup watch → web: app on the inherited socket · worker: the queue
    SIGTERM, or the end of standard input (the supervisor died) → drain → exit 0

Draining: nothing new is begun, what is under way gets 7 s, then the last events are stored and the heartbeat's row
is removed, all within the supervisor's 8.5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop

from agentops.clients import Clients
from agentops.events import Events
from agentops.server import foreign_logs, heartbeat, lookup_watch
from agentops.server.context import ServerContext
from agentops.server.echo import Echo
from agentops.server.loader import Loader
from agentops.server.log_writer import LogWriter
from agentops.server.order import Order
from agentops.server.settings_watch import SettingsWatch
from agentops.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Coroutine

GRACE_SECONDS = 7
LAST_WORDS_SECONDS = 0.8
CLOSING_SECONDS = 0.3
# Without settings a web process answers 503, but gives the first ones a moment, so that a normal start fails nobody.
FIRST_SETTINGS_SECONDS = 2.0
MAXIMUM_CONNECTIONS = 1_500
OPEN_FILES = 8_192


def main() -> None:
    """Run one process until it is told to end, or its supervisor is gone."""
    parser = argparse.ArgumentParser(prog="python -m agentops.server.process")
    parser.add_argument("--role", choices=("web", "worker"), required=True)
    parser.add_argument("--socket", type=int, help="the listening socket's file descriptor (web)")
    options = parser.parse_args()
    order = Order.read(_first_line())
    # Ctrl-C reaches every process of the terminal; the supervisor's word counts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listening = socket.socket(fileno=options.socket) if options.socket is not None else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.role, order, listening))


async def serve(role: str, order: Order, listening: socket.socket | None) -> None:
    """One process's life, from its first connection to its last word."""
    stop = _stop_event()
    database = await Database.opening(order.database_url)
    writer, echo = LogWriter(order.database_url), Echo()
    context = ServerContext(uuid.uuid4(), role, order.url, database, Loader(), Events(writer, echo=echo))
    foreign_logs.take_over(context.events)
    clients = Clients(os.environ)
    watch = SettingsWatch(context, clients, order.stack_key)
    settings = asyncio.create_task(watch.run(), name="settings")
    lookups = asyncio.create_task(lookup_watch.run(context), name="lookups")
    logs = writer.start()
    try:
        # A worker has time: it begins nothing before it knows the settings and has the functions.
        await _first(watch, [settings, logs, lookups], stop, FIRST_SETTINGS_SECONDS if role == "web" else None)
        work = _web(context, listening, stop) if listening else _worker(context, stop, order.lanes)
        await _until_over(work, [settings, logs, lookups])
    finally:
        context.draining = True
        context.events.info("ai.server.stopped", role=role, pid=os.getpid())
        settings.cancel()
        lookups.cancel()
        closing = asyncio.create_task(watch.close())
        # With a bound: a database that hangs keeps even a cancelled query waiting.
        await asyncio.wait({settings, lookups, closing}, timeout=CLOSING_SECONDS)
        await _last_words(context, writer, clients)
        echo.close(CLOSING_SECONDS)


async def _web(context: ServerContext, listening: socket.socket, stop: asyncio.Event) -> None:
    import uvicorn

    from agentops.server.app import app
    from agentops.server.limits import BoundedProtocol

    _raise_open_files()
    config = uvicorn.Config(
        app(context),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        limit_concurrency=MAXIMUM_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    # Not `serve`: that takes over the signals, which are ours.
    serving = asyncio.create_task(server._serve([listening]), name="http")  # noqa: SLF001 - as said
    context.events.info("ai.server.started", role=context.role, pid=os.getpid(), url=context.url)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    context.draining = True
    server.should_exit = True
    await serving


async def _worker(context: ServerContext, stop: asyncio.Event, lanes: int) -> None:
    from agentops.server import reconcile, retention, warming, worker

    context.events.info("ai.server.started", role=context.role, pid=os.getpid())
    working = asyncio.create_task(worker.run(context, stop, lanes=lanes), name="queue")
    beside = [
        asyncio.create_task(retention.keep(context), name="retention"),
        asyncio.create_task(warming.keep(context), name="warming"),
        asyncio.create_task(reconcile.run(context), name="reconcile"),
    ]
    stopped = asyncio.create_task(stop.wait())
    try:
        await _until_over(asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED), beside)
        context.draining = True
        async with asyncio.timeout(GRACE_SECONDS):
            await working
    except TimeoutError:
        context.events.warning("ai.server.drain_timeout", seconds=GRACE_SECONDS)
    finally:
        for task in (stopped, *beside):
            task.cancel()


async def _first(
    watch: SettingsWatch, background: list[asyncio.Task[None]], stop: asyncio.Event, seconds: float | None
) -> None:
    waits = {asyncio.create_task(watch.first.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait({*waits, *background}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()


async def _until_over(work: Coroutine[None, None, object], background: list[asyncio.Task[None]]) -> None:
    """Until the work is done. A background task never ends by itself; if one fails, so does the process."""
    working = asyncio.create_task(work)
    done, _ = await asyncio.wait({working, *background}, return_when=asyncio.FIRST_COMPLETED)
    if working not in done:
        working.cancel()
    for task in done:
        task.result()


async def _last_words(context: ServerContext, writer: LogWriter, clients: Clients) -> None:
    goodbye = asyncio.create_task(heartbeat.remove(context.database, context))
    await asyncio.gather(asyncio.wait({goodbye}, timeout=LAST_WORDS_SECONDS), writer.close(LAST_WORDS_SECONDS))
    closing = asyncio.gather(clients.aclose(), context.database.close(), goodbye, return_exceptions=True)
    await asyncio.wait({closing}, timeout=CLOSING_SECONDS)


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM, and by the end of standard input: the supervisor holds its other end as long as it lives."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def listen() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, listen)
    return stop


def _first_line() -> bytes:
    """The order, byte by byte: nothing behind its line is taken from the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("agentops.server.process is started by its supervisor, which gives the orders on standard input")
        line += byte
    return line


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
