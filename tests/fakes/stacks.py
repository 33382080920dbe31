"""A stack over a test's own database: flags and secrets as given, events collected instead of printed."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from agentops.events import Events
from agentops.settings import CHAT, CUSTOMER_LOOKUP, VOICE, VOUCHERS
from agentops.stack import Stack
from agentops.store.database import Database
from agentops.web import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agentops.clients import Clients
    from agentops.events import Event
    from agentops.web import Response

SERVICE_KEY = "a-service-key-for-tests"
ALL_ON: Mapping[str, bool] = MappingProxyType(dict.fromkeys((CHAT, VOICE, VOUCHERS, CUSTOMER_LOOKUP), True))
_SET_FLAG = """
insert into agentops.flags (name, enabled, updated_by) values (%(name)s, %(enabled)s, 'tests')
on conflict (name) do update set enabled = excluded.enabled
"""


@dataclass
class Recorded:
    """An event sink that keeps what it is given."""

    events: list[Event] = field(default_factory=list)

    def write(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]

    @property
    def text(self) -> str:
        return "\n".join(event.line() for event in self.events)


def bare_stack(flags: Mapping[str, bool] = ALL_ON, secrets: Mapping[str, str] | None = None) -> Stack:
    """A stack without a database: for what must be decided before one is asked."""
    return _stack(cast("Database", None), None, flags, secrets)


@asynccontextmanager
async def open_stack(
    database_url: str,
    flags: Mapping[str, bool] = ALL_ON,
    secrets: Mapping[str, str] | None = None,
    *,
    clients: object = None,
    size: int = 8,
    set_flags: bool = True,
) -> AsyncIterator[Stack]:
    """A stack whose flags are also rows (unless `set_flags` is false); its events are in `recorded(stack)`."""
    database = await Database.open(database_url, size=size)
    try:
        for name, enabled in flags.items() if set_flags else ():
            await set_flag(database, name, enabled=enabled)
        yield _stack(database, clients, flags, secrets)
    finally:
        await database.close()


def _stack(database: Database, clients: object, flags: Mapping[str, bool], secrets: Mapping[str, str] | None) -> Stack:
    return Stack(
        database=database,
        clients=cast("Clients", clients),
        events=Events(Recorded(), echo=None),
        flags=MappingProxyType(dict(flags)),
        secrets=MappingProxyType({"SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY, **(secrets or {})}),
    )


async def set_flag(database: Database, name: str, *, enabled: bool) -> None:
    """Switch a flag in the database only: no stack in memory hears of it."""
    await database.query(_SET_FLAG, {"name": name, "enabled": enabled})


def recorded(stack: Stack) -> Recorded:
    """What a stack of `open_stack` has emitted."""
    return cast("Recorded", stack.events.sink)


def post(slug: str, content: object, *, key: str = SERVICE_KEY, **headers: str) -> Request:
    """A POST with the service key; `content` is JSON, or bytes as they are. A header's `_` becomes `-`."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", slug, "test-correlation", {"authorization": f"Bearer {key}", **named}, body=body)


def parsed(response: Response) -> Any:
    """A response's JSON."""
    return json.loads(response.body)
