"""The deployed functions of this process: swaps a module when its row changes, keeps the old one when the new fails.

    active_rows(database) → Loader.apply(rows, stack) → import from memory → GET in process → swap → report
    app → Loader.get(slug) → LoadedFunction.handle(request, stack)

A request under way finishes on the version it began with: its coroutine holds it, and a version's modules are
forgotten when nothing holds it any more.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentops import modules
from agentops.errors import UsageError
from agentops.server.probe import health
from agentops.sql import statements
from agentops.stack import Deployed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import ModuleType

    from agentops.platforms import Queries
    from agentops.stack import Stack
    from agentops.web import Request, Response

_SQL = statements(__file__)
# With the GET after it, below the time that a deploy waits for a confirmation.
IMPORT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class ActiveRow:
    """The active version of one function; `deployed_at` is ISO 8601 in UTC."""

    slug: str
    version: int
    reload: int
    sha256: str
    entrypoint: str
    files: dict[str, str]
    deployed_at: str

    @property
    def identity(self) -> tuple[int, int, str]:
        """What makes servers load it afresh when it differs."""
        return self.version, self.reload, self.sha256


async def active_rows(queries: Queries) -> list[ActiveRow]:
    """The active version of every deployed function, by slug."""
    return [ActiveRow(**row) for row in await queries.query(_SQL["active_rows"])]


class _Code:
    """An imported version; its modules are forgotten when nothing holds it any more."""

    def __init__(self, module: ModuleType) -> None:
        self.handle = modules.handle_of(module)
        self.work = getattr(module, "work", None)
        weakref.finalize(self, modules.unload, modules.package_of(module))


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """One version of one function, ready to be called."""

    row: ActiveRow
    code: _Code

    @property
    def deployed(self) -> Deployed:
        """What the stack tells about it."""
        return Deployed(self.row.slug, self.row.version, self.row.deployed_at)

    async def handle(self, request: Request, stack: Stack) -> Response:
        """Answer one request."""
        return await self.code.handle(request, stack)

    @property
    def work(self) -> Callable[[Any, Stack], Awaitable[Any]] | None:
        """`work(job, stack)` where the function queues, else None."""
        return self._work if self.code.work is not None else None

    async def _work(self, job: Any, stack: Stack) -> Any:  # noqa: ANN401 - between the function and its queue
        work: Any = self.code.work
        return await work(job, stack)


class Loader:
    """The functions of this process, by slug."""

    def __init__(self) -> None:
        self._functions: dict[str, LoadedFunction] = {}
        self._failed: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()

    def get(self, slug: str) -> LoadedFunction | None:
        """The function that answers requests to `slug` now."""
        return self._functions.get(slug)

    def failed(self, slug: str) -> bool:
        """Whether the active version of `slug` did not load here."""
        return slug in self._failed

    def loaded(self) -> Mapping[str, Deployed]:
        """What runs here, by slug: for `Stack.functions`."""
        return {slug: function.deployed for slug, function in self._functions.items()}

    async def apply(self, rows: Sequence[ActiveRow], stack: Stack) -> dict[str, dict[str, Any]]:
        """Make `rows` what runs here: load what is new or changed, drop what is gone.

        Returns:
            For the heartbeat, by slug: `version` and `reload` of the row; `ok`: that very version runs here; `error`:
            why not, as `file:line: Type: message`, else None. Raises nothing of the functions' own.
        """
        async with self._turn:
            report = {row.slug: await self._apply(row, stack) for row in rows}
            for slug in self._functions.keys() - report.keys():
                del self._functions[slug]
            self._failed = frozenset(slug for slug, told in report.items() if not told["ok"])
        return report

    async def _apply(self, row: ActiveRow, stack: Stack) -> dict[str, Any]:
        current = self._functions.get(row.slug)
        error = None
        if current is None or current.row.identity != row.identity:
            error = await self._swap(row, stack)
        elif current.row.deployed_at != row.deployed_at:
            # The same version was made active again: its caches stay, only the date is new.
            self._functions[row.slug] = replace(current, row=row)
        return {"version": row.version, "reload": row.reload, "ok": error is None, "error": error}

    async def _swap(self, row: ActiveRow, stack: Stack) -> str | None:
        label = f"{row.slug}@{row.version}"
        try:
            # In a thread: other requests are answered while a module takes its time to import.
            async with asyncio.timeout(IMPORT_SECONDS):
                outcome = await asyncio.to_thread(_import, row, label)
        except TimeoutError:
            return f"{label}/{row.entrypoint}:1: the import takes more than {IMPORT_SECONDS} s"
        if isinstance(outcome, str):
            return outcome
        deployed = outcome.deployed
        trial = replace(stack, functions={**self.loaded(), row.slug: deployed})
        error = await health(outcome.handle, row.slug, trial, label)
        if error is None:
            self._functions[row.slug] = outcome
        return error


def _import(row: ActiveRow, label: str) -> LoadedFunction | str:
    name = f"{row.slug.replace('-', '_')}_v{row.version}_r{row.reload}"
    try:
        module = modules.load(name, row.files, row.entrypoint, label)
    except modules.FAILURES as error:
        return modules.finding(error, label)
    try:
        return LoadedFunction(row, _Code(module))
    except UsageError as error:
        modules.unload(modules.package_of(module))
        return error.message
