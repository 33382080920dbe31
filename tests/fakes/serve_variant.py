"""`agentops serve` whose processes differ in what `VARIANTS` names: `python -m tests.fakes.serve_variant serve …`.

    here → agentops.main, its children started through this module → child: variants applied → agentops.server.process

`quick`, `short_leases` and `debug` only set what has no setting; the others are known-bad: each breaks one promise, and
a campaign must find it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import ModuleType

    from agentops.agent.sending import Addressed
    from agentops.server.supervisor import Child
    from agentops.store.inbox import Incoming, Received

VARIABLE = "VARIANTS"
PROGRAM = ("-m", "tests.fakes.serve_variant")
CHILD = "child"
# Much longer than a targeted kill needs, much shorter than a test waits.
UNCOMMITTED_SECONDS = 1.5


def quick() -> None:
    """Short bursts, backoffs and looks, for a campaign of seconds."""
    from agentops.server import reconcile, worker

    _put(worker, run=partial(worker.run, burst_seconds=0.1, wait=lambda _: 0.2))
    # Here Graph answers at once: what it has not answered in a second is not under way any more.
    _put(reconcile, run=partial(reconcile.run, every=0.3), LEAST_SECONDS=1.0)


def short_leases() -> None:
    """A killed worker's conversations are soon another's."""
    from agentops.server import worker

    _put(worker, run=partial(worker.run, lease_seconds=2.0))


def debug() -> None:
    """Libraries tell everything."""
    from agentops.server import foreign_logs

    _put(foreign_logs, take_over=partial(foreign_logs.take_over, level=logging.DEBUG))


def unscrubbed() -> None:
    """What is told is told as it is."""
    from agentops import events
    from agentops.server import foreign_logs

    _put(events, scrub=lambda value: value)
    _put(foreign_logs, _words=logging.LogRecord.getMessage)


def ack_before_commit() -> None:
    """The sender hears that a message is stored before it is."""
    from agentops.store import inbox

    real, tasks = inbox.receive, set[asyncio.Task[Any]]()

    async def later(*given: Any) -> None:
        await asyncio.sleep(UNCOMMITTED_SECONDS)
        await real(*given)

    async def receive(*given: Any) -> Received:
        task = asyncio.create_task(later(*given))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return inbox.Received(len(given[-1]), 0, (), enabled=True)

    _put(inbox, receive=receive)


def dedupe_in_memory() -> None:
    """Each process remembers which messages it has seen; the database does not."""
    from agentops.store import inbox

    real: Callable[..., Awaitable[Received]] = inbox.receive
    seen = set[str]()

    async def receive(*given: Any) -> Received:
        *rest, messages = given
        fresh: Sequence[Incoming] = [each for each in messages if each.message_id not in seen]
        seen.update(each.message_id for each in fresh)
        if not fresh:
            return inbox.Received(0, 0, tuple(each.message_id for each in messages), enabled=True)
        return await real(*rest, [replace(each, message_id=f"{each.message_id}/{uuid.uuid4()}") for each in fresh])

    _put(inbox, receive=receive)


def blind_resend() -> None:
    """A reply that was being sent when its worker died is sent again."""
    from agentops.agent import sending

    async def interrupted(to: Addressed, outbox_id: str) -> None:
        statement = "update agentops.outbox set state = 'pending' where id = %(id)s::uuid returning body"
        (row,) = await to.stack.database.query(statement, {"id": outbox_id})
        await sending.send(to, outbox_id, row["body"])

    _put(sending, interrupted=interrupted)


_ALL = (quick, short_leases, debug, unscrubbed, ack_before_commit, dedupe_in_memory, blind_resend)
KNOWN = {each.__name__: each for each in _ALL}


def variant(*names: str) -> dict[str, str]:
    """The environment in which the program differs in these; it needs the tests' own modules then."""
    if not names:
        return {}
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {VARIABLE: ",".join(names), "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _put(module: ModuleType, **values: object) -> None:
    for name, value in values.items():
        assert hasattr(module, name), "there is nothing of that name to be different"
        setattr(module, name, value)


def main() -> None:
    """Be the program, or one of its children."""
    if sys.argv[1] == CHILD:
        from agentops.server import process

        del sys.argv[1]
        for name in os.environ[VARIABLE].split(","):
            KNOWN[name]()
        process.main()
        return
    from agentops.main import main as program
    from agentops.server import launch
    from agentops.server.supervisor import server_child

    def here(*given: Any) -> Child:
        child = server_child(*given)
        python, *isolated, _, _ = child.argv[: child.argv.index("--role")]
        rest = child.argv[child.argv.index("--role") :]
        return replace(child, argv=(python, *isolated, *PROGRAM, CHILD, *rest))

    _put(launch, server_child=here)
    program()


if __name__ == "__main__":
    main()
