"""Keeps a server process's stack true to the database: hears of changes, re-reads all, swaps, reports.

    NOTIFY agentops_settings ┐
    one second has passed    ├──> settings (one statement) ──> unseal ──> Stack ──> context.swap ──> heartbeat
    a timed flag turns       ┘                   └─ deployments changed ──> loader ──> swap its functions ──> heartbeat

Flags and secrets never wait for a module that loads: a kill switch is obeyed meanwhile. While the database is away the
last stack stays, `context.ready` turns false by itself, and one event says so.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from agentops import pseudonyms, seal
from agentops.errors import AgentOpsError, Unavailable, UsageError
from agentops.platforms.local.listen import Line
from agentops.server import heartbeat
from agentops.server.loader import active_rows
from agentops.sql import statements
from agentops.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from agentops.clients import Clients
    from agentops.platforms import Queries, Row
    from agentops.server.context import ServerContext

CHANNEL = "agentops_settings"
POLL_SECONDS = 1.0
# A database that hangs is as good as away.
ANSWER_SECONDS = 3.0
RECONNECT_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
_SQL = statements(__file__)
_T = TypeVar("_T")


class SettingsWatch:
    """The settings of one server process. `run` works until it is cancelled; `first` is set by the first stack."""

    def __init__(self, context: ServerContext, clients: Clients, private_key: str) -> None:
        self._context = context
        self._clients = clients
        self._private_key = private_key
        self._pseudonym_key = pseudonyms.key(private_key)
        self.first = asyncio.Event()
        self._line: Line | None = None
        self._generation = -1
        self._turns_at: float | None = None
        self._stale = False
        self._unsealed: dict[tuple[str, int, str], str | None] = {}
        self._wanted: list[Any] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._functions: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Follow the settings; reconnect for as long as it takes."""
        failures = 0
        while True:
            try:
                self._line = await self._bounded(Line.open(self._context.database.url, CHANNEL))
                await self._apply()
                if self._stale:
                    await self._recovered()
                failures = 0
                await self._follow()
            except AgentOpsError as failure:
                self._lost(failure)
                await asyncio.sleep(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)])
                failures += 1
            finally:
                await self._hang_up()

    async def close(self) -> None:
        """Stop loading. Call it after `run` has been cancelled."""
        if self._loading:
            self._loading.cancel()
            with suppress(asyncio.CancelledError):
                await self._loading

    async def _follow(self) -> None:
        line = self._connected()
        while True:
            until_turn = POLL_SECONDS if self._turns_at is None else self._turns_at - monotonic()
            heard = await line.wait(min(POLL_SECONDS, until_turn))
            turned = self._turns_at is not None and monotonic() >= self._turns_at
            # The heartbeat is also the poll: it answers the newest generation.
            if heard or turned or self._wanted is None or await self._beat(line) != self._generation:
                await self._apply()

    async def _apply(self) -> None:
        row = await self._answer(_SQL["settings"])
        if not row:
            raise Unavailable("this database is no stack yet", "agentops up, or agentops serve, makes it one")
        self._generation = row[0]["generation"]
        turns_in = row[0]["turns_in"]
        # A moment later than the turn itself, so that the clock is past it when it is read again.
        self._turns_at = None if turns_in is None else monotonic() + turns_in + 0.002
        self._context.swap(self._stack_of(row[0]))
        if row[0]["deployments"] != self._wanted:
            self._wanted = row[0]["deployments"]
            self._load_soon()
        if not self.first.is_set() and self._loading:
            await asyncio.shield(self._loading)
        # A load that the database broke off is none: a deployed function would be answered as unknown.
        self._context.settled = self._context.settled or self._wanted is not None
        await self._beat(self._connected())
        self.first.set()

    def _stack_of(self, row: Row) -> Stack:
        return Stack(
            database=self._context.database,
            clients=self._clients,
            events=self._context.events,
            generation=row["generation"],
            flags=MappingProxyType(row["flags"]),
            secrets=MappingProxyType(self._secrets(row["secrets"])),
            functions=MappingProxyType(dict(self._context.loader.loaded())),
            simulated=row["kind"] == "sandbox",
            lookups=self._context.lookups,
            pseudonym_key=self._pseudonym_key,
        )

    def _secrets(self, sealed: Sequence[tuple[str, int, str]]) -> Mapping[str, str]:
        """Unseal what is new; a secret that does not open is left out and named in an event, once."""
        opened: dict[tuple[str, int, str], str | None] = {}
        for name, version, text in sealed:
            key = (name, version, text)
            opened[key] = self._unsealed[key] if key in self._unsealed else self._open(*key)
        self._unsealed = opened
        return {name: value for (name, _, _), value in opened.items() if value is not None}

    def _open(self, name: str, version: int, text: str) -> str | None:
        try:
            return seal.unseal(self._private_key, name, version, base64.b64decode(text))
        except UsageError as failure:
            self._context.events.error("ai.server.secret_unreadable", secret=name, error=failure.message)
            return None

    def _load_soon(self) -> None:
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name="load functions")

    async def _load(self) -> None:
        """Load until what runs here is what is wanted; each round reports itself.

        It asks through the pool: the watch's own line is busy listening.
        """
        applied: list[Any] | None = None
        while applied != self._wanted:
            applied = self._wanted
            try:
                await self._load_once()
            except AgentOpsError:
                self._wanted = None  # the watch tries again with its next look
                return
            except Exception as defect:  # noqa: BLE001 - whatever a loader does, flags and secrets go on
                self._context.events.error("ai.server.loader_exception", error=type(defect).__name__)

    async def _load_once(self) -> None:
        context = self._context
        self._functions = await context.loader.apply(await active_rows(context.database), context.stack())
        context.swap(replace(context.stack(), functions=MappingProxyType(dict(context.loader.loaded()))))
        for slug, report in self._functions.items():
            if not report["ok"]:
                context.events.error("ai.server.function_failed", slug=slug, error=report["error"])
        if self.first.is_set():
            await self._beat(context.database)

    async def _beat(self, queries: Queries) -> int:
        newest = await self._bounded(heartbeat.beat(queries, self._context, self._generation, self._functions))
        self._context.answered_at = monotonic()
        return newest

    async def _answer(self, statement: str) -> list[Row]:
        return await self._bounded(self._connected().query(statement))

    async def _bounded(self, work: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await work
        except TimeoutError:
            message = f"PostgreSQL has not answered for {ANSWER_SECONDS:g} s"
            raise Unavailable(message, "agentops health database") from None

    def _connected(self) -> Line:
        if self._line is None:
            raise Unavailable("the connection to PostgreSQL is lost", "agentops health database")
        return self._line

    def _lost(self, failure: AgentOpsError) -> None:
        if not self._stale:
            self._stale = True
            self._context.events.error("ai.server.settings_stale", generation=self._generation, error=failure.message)

    async def _recovered(self) -> None:
        self._stale = False
        self._context.events.info("ai.server.settings_fresh", generation=self._generation)
        await self._context.database.renew()

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line:
            with suppress(AgentOpsError, OSError):
                await line.close()
