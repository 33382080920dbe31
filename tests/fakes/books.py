"""A machine's books of a hosted project, as one command after another sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase.books import Books
from agentops.platforms.supabase.management import Management
from tests.fakes.management_api import REF, TOKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.fakes.management_api import ManagementApi


class Told(list[str]):
    """What was said, and the scenario's way to a machine's books as the next command sees them."""

    def __init__(self, api: ManagementApi, folder: Path) -> None:
        super().__init__()
        self._api = api
        self._folder = folder

    def use(self, scenario: Callable[[Books], Awaitable[Any]], machine: str = "ada") -> Any:
        async def run() -> Any:
            api = Management(REF, TOKEN, base_url=self._api.url)
            try:
                return await scenario(Books(self._folder / machine / "supabase" / REF, api, self.append))
            finally:
                await api.aclose()

        return asyncio.run(run())

    def write(self, *whats: str, machine: str = "ada") -> None:
        """A command that writes them down, in the audit."""

        async def scenario(books: Books) -> None:
            books.write("audit", [entry(what) for what in whats])
            await books.send()
            books.remark()

        self.use(scenario, machine)

    def read(self, machine: str = "ada") -> list[str]:
        """What a command reads from the audit."""

        async def scenario(books: Books) -> list[str]:
            await books.load("audit")
            books.remark()
            return [each.content["action"] for each in books.entries("audit")]

        found: list[str] = self.use(scenario, machine)
        return found


def entry(what: str, **fields: Any) -> dict[str, Any]:
    return {"actor": "ada@there", "action": what, "subject": "x", "detail": {}, **fields}


def broken(_method: str, below: str) -> Response | None:
    """The project's database does not answer."""
    return JSONResponse({"message": "no connection"}, 503) if below.startswith("/database") else None


def sound(_method: str, _below: str) -> Response | None:
    return None


def wipe(api: ManagementApi, action: str | None = None) -> None:
    """The database is set back to an older state: all entries are gone, or those of an action."""
    assert api.database_url
    with psycopg.connect(api.database_url, autocommit=True) as connection:
        connection.execute("alter table agentops.project_entries disable trigger all")
        connection.execute(
            "delete from agentops.project_entries where %(action)s::text is null or entry ->> 'action' = %(action)s",
            {"action": action},
        )
        connection.execute("alter table agentops.project_entries enable trigger all")
