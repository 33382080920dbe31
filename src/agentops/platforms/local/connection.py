"""The one border to psycopg: opens connections and turns its errors into ours."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from agentops.errors import AgentOpsError, Conflict, NotAuthorised, TimedOut, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agentops.platforms import Row

# What psycopg logs of a connection that was given up, our own error says; whoever sets up logging hears it still.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

CONNECT_SECONDS = 5
_PORT = re.compile(r"[0-9]{0,5}")
_MISSING = (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn, errors.InvalidSchemaName)
_BUSY = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.TransactionTimeout,
    errors.IdleInTransactionSessionTimeout,
)
_CLASH = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected, errors.ExclusionViolation)


async def connect(url: str) -> psycopg.AsyncConnection[Row]:
    """Open one autocommit connection whose rows are dictionaries.

    Raises:
        UsageError: the address is not one.
        NotAuthorised: PostgreSQL refuses the user.
        Unavailable: nobody answers there.
    """
    _check(url)
    with translated():
        return await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=CONNECT_SECONDS,
            application_name="agentops",
        )


def _check(url: str) -> None:
    """Refuse what would fail with the whole address in the words, or with the piece of a password that looks like more.

    An @ or / that stands in a password as it is makes what follows it a host or a port.
    """
    try:
        told = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeError):
        raise _not_valid() from None  # the cause would say it all again under --debug
    hosts, ports = (str(told.get(name) or "") for name in ("host", "port"))
    if "@" in hosts.partition("/")[0] or not all(_PORT.fullmatch(port) for port in ports.split(",")):
        raise _not_valid()


def _not_valid() -> UsageError:
    hint = "postgresql://user:password@host:5432/database, with @ : / ? % of a password as %40 %3A %2F %3F %25"
    return UsageError("the database address is not valid", hint)


async def run(
    connection: psycopg.AsyncConnection[Row], statement: str, parameters: Mapping[str, Any] | None = None
) -> list[Row]:
    """Run one statement (or, without parameters, a script); the rows of the last one."""
    with translated():
        # Statements come from our .sql files; values always travel as parameters, never in the text.
        cursor = await connection.execute(statement.encode(), parameters)
        while cursor.nextset():
            pass
        return await cursor.fetchall() if cursor.description else []


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into ours, with no address or value of the statement in the words."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> AgentOpsError:
    """The error of ours that says what this one means to an operator."""
    # libpq tells attempts line by line, the last one counts; lines that begin with a tab go on with the one before.
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    words = error.diag.message_primary or (lines[-1] if lines else type(error).__name__)
    if isinstance(error, _MISSING):
        return UsageError(f"the database lacks something agentops needs: {words}", "agentops db migrate")
    if isinstance(error, (errors.InvalidPassword, errors.InvalidAuthorizationSpecification)):
        return NotAuthorised(f"PostgreSQL refuses the user: {words}", "look at the user and password of the target")
    if isinstance(error, errors.InsufficientPrivilege):
        return NotAuthorised(f"PostgreSQL forbids it: {words}", "the database user lacks a grant on that object")
    if isinstance(error, _BUSY):
        return TimedOut(f"PostgreSQL took too long: {words}", "try again; agentops health database shows what is busy")
    if isinstance(error, _CLASH):
        return Conflict(f"someone else changed it at the same time: {words}", "look again, then repeat the command")
    if error.sqlstate is None and isinstance(error, psycopg.ProgrammingError):
        return _not_valid()
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        if "authentication failed" in words or "no password supplied" in words:
            return NotAuthorised(f"PostgreSQL refuses the user: {words}", "look at the user and password of the target")
        return Unavailable(f"PostgreSQL does not answer: {words}", "agentops health database")
    return AgentOpsError(f"PostgreSQL refused: {words}")
