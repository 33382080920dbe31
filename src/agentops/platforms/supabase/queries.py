"""SQL on the project's own database, through the API.

    read(statement)                  read only, whatever the statement is
    Writing(api).query(statement)    one request is one transaction: several statements together or not at all

No session survives a request, so neither do its locks and settings. PostgreSQL's refusals come back as they do from a
database that is reached directly.

Source: https://supabase.com/docs/reference/api/v1-run-a-query, …/v1-read-only-query
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, Conflict, NotAuthorised, TimedOut, Unavailable, UsageError
from agentops.platforms.supabase.management import READ_ONLY, SqlRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Row
    from agentops.platforms.supabase.management import Management

_WRITE = "/database/query"
# A migration waits for another one that runs.
_WRITE_SECONDS = 60.0
_PARAMETER = re.compile(r"%(?:\((?P<name>\w+)\)s|%)")
# SQLSTATEs: no such table, function, column, schema · not allowed · locked, cancelled · somebody else was there.
_MISSING = {"42P01", "42883", "42703", "3F000"}
_FORBIDDEN = {"42501"}
_BUSY = {"55P03", "57014", "25P03", "25P04"}
_CLASH = {"23505", "40001", "40P01", "23P01"}


class Missing(UsageError):
    """The database lacks a schema, table, column or function that the statement names."""


class Writing:
    """The project's database for statements that change it. Each must be one that may be sent twice."""

    def __init__(self, api: Management) -> None:
        self._api = api

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement with `%(name)s` parameters, or a script without any; the last rows it gives.

        Raises:
            Missing, NotAuthorised, TimedOut, Conflict, AgentOpsError: PostgreSQL refuses.
            and as `Management.send`.
        """
        return await _run(self._api, _WRITE, statement, parameters, seconds=_WRITE_SECONDS)


async def read(
    api: Management, statement: str, parameters: Mapping[str, Any] | None = None, *, attempts: int | None = None
) -> list[Row]:
    """Run one statement with `%(name)s` parameters; its rows as dictionaries, values as JSON has them.

    Raises:
        as `Writing.query`.
    """
    return await _run(api, READ_ONLY, statement, parameters, attempts=attempts)


async def add(api: Management, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
    """Run one statement that adds rows, tried once; what it gives.

    Raises:
        as `Writing.query`.
    """
    return await _run(api, _WRITE, statement, parameters, attempts=1)


async def _run(
    api: Management,
    path: str,
    statement: str,
    parameters: Mapping[str, Any] | None,
    *,
    attempts: int | None = None,
    seconds: float | None = None,
) -> list[Row]:
    body: dict[str, Any] = {"query": statement}
    if parameters is not None:
        numbers: dict[str, int] = {}
        body["query"] = _PARAMETER.sub(lambda match: _numbered(match["name"], numbers), statement)
        body["parameters"] = [parameters[name] for name in numbers]
    try:
        answer = await api.send("POST", path, json=body, repeatable=True, attempts=attempts, seconds=seconds)
    except SqlRefused as refused:
        raise _translated(refused) from refused
    if not isinstance(answer, list):
        raise Unavailable("Supabase's answer to the query cannot be read", "try again; https://status.supabase.com")
    return answer


def _numbered(name: str | None, numbers: dict[str, int]) -> str:
    """`%(days)s` → `$1`, each name one number; `%%` → `%`."""
    return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"


def _translated(refused: SqlRefused) -> AgentOpsError:
    words = refused.words
    if refused.state in _MISSING:
        return Missing(f"the database lacks something agentops needs: {words}", "agentops db migrate")
    if refused.state in _FORBIDDEN:
        return NotAuthorised(f"PostgreSQL forbids it: {words}", "the database user lacks a grant on that object")
    if refused.state in _BUSY:
        return TimedOut(f"PostgreSQL took too long: {words}", "try again; agentops health database shows what is busy")
    if refused.state in _CLASH:
        return Conflict(f"someone else changed it at the same time: {words}", "look again, then repeat the command")
    return refused
