"""Migrate the stack's database, look at its state, open psql on it.

A hosted project's database is reached through Supabase's API, or through DATABASE_URL where that is set. Once it is
migrated, what agentops notes about the project (deployments, incidents, audit) is kept there, for the whole team.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from agentops.commands import Check
from agentops.errors import Kind, Unavailable, UsageError
from agentops.session import Answer, Session, database_url
from agentops.store.schema import Applied, Table


@dataclass(frozen=True, slots=True)
class Status:
    """A database as this program sees it. `refuses_void` names the constraint under which voiding fails."""

    target: str
    server_version: str
    version: int | None
    needed: int
    tables: Sequence[Table]
    refuses_void: str | None
    finding: str
    hint: str | None

    def text(self) -> str:
        """The state for eyes."""
        lines = [
            f"target    {self.target} (PostgreSQL {self.server_version})",
            f"schema    version {self.version or 'none'}, this agentops needs {self.needed}",
        ]
        for table in self.tables:
            state = "used as it is" if table.present else "missing"
            lacks = f"; lacks {', '.join(table.missing)}" if table.present and table.missing else ""
            lines.append(f"table     public.{table.name}: {state}{lacks}")
        lines.append(f"finding   {self.finding}")
        return "\n".join(lines + ([f"  → {self.hint}"] if self.hint else []))


async def migrate(session: Session, check: Check = False) -> Answer:
    """Create or update the schema `agentops`, and what the public tables lack; forward only, again is no harm."""
    from agentops.store import migrations, schema

    read = await session.queries(any_schema=True)
    refusing = await schema.refuses_void(read)
    if check:
        have = await schema.version(read) or 0
        plan = [Applied(item.version, item.name, changed=item.version > have) for item in migrations.migrations()]
        if refusing:
            plan.append(Applied(migrations.needed(), f"allow void in {refusing}", changed=True))
        return Answer(plan, Kind.DIFFERS if any(item.changed for item in plan) else Kind.DONE)
    database = await session.database()
    applied = await schema.migrate(database)
    await schema.allow_void(database)
    if refusing:
        applied.append(Applied(migrations.needed(), f"allow void in {refusing}", changed=True))
    missing = await schema.build_wall(database)
    return Answer(
        applied, note=f"note: customers' tools run without row-level security: {missing}" if missing else None
    )


async def status(session: Session) -> Answer:
    """Show the schema's version, the public tables as they are, and what a migration would do. Exit 3 if anything."""
    from agentops.store import migrations, schema

    read = await session.queries(any_schema=True)
    version, needed = await schema.version(read), migrations.needed()
    tables = await schema.tables(read)
    refusing = await schema.refuses_void(read)
    finding, hint = _finding(version, needed, tables, refusing)
    # Supabase's API reads as a user of its own.
    wall = schema.owners_wall_missing if session.process.hosted else schema.wall_missing
    missing = await wall(read) if version is not None and version >= needed else None
    if missing:
        finding = f"{finding}; customers' tools run without row-level security: {missing}"
    server, label = await schema.server_version(read), session.process.label
    result = Status(label, server, version, needed, tables, refusing, finding, hint)
    return Answer(result, Kind.DIFFERS if hint else Kind.DONE)


def _finding(version: int | None, needed: int, tables: Sequence[Table], refusing: str | None) -> tuple[str, str | None]:
    wishes = []
    if version is None or version < needed:
        wishes.append(f"create the schema agentops (version {needed})" if version is None else f"update to {needed}")
        wishes += [f"create the table public.{table.name}" for table in tables if not table.present]
    if refusing:
        wishes.append(f"widen {refusing}, which refuses status void (until then voiding fails), by void")
    if wishes:
        return f"a migration would {'; '.join(wishes)}", "agentops db migrate"
    lacking = [f"public.{table.name} lacks {', '.join(table.missing)}" for table in tables if table.missing]
    if lacking:
        return f"{'; '.join(lacking)}: add them by hand, existing tables are left as they are", None
    if version is not None and version > needed:
        return f"the schema is newer than this agentops (it needs {needed})", "pipx upgrade agentops-runbook"
    return "up to date", None


async def psql(
    session: Session,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARG…]", help="Handed to psql as given.")] = None,
) -> Answer:
    """Open psql on the target's database; after -- its own arguments: agentops db psql -- -c 'select 1'."""
    import asyncio
    import signal

    # Opened once for the sake of clear errors, and so that an embedded database has its schema.
    if session.process.hosted and not os.environ.get("DATABASE_URL"):
        hint = "set DATABASE_URL to the project's database: the dashboard's Connect shows it"
        raise UsageError("psql needs the address of the project's database, its API has none to give", hint)
    session.confirm_production()  # whatever is typed there
    await session.database()
    await session.close()
    address = os.environ["DATABASE_URL"] if session.process.hosted else await database_url(session.process)
    url, password = _without_password(address)
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    program = _program()
    # A child, not exec: this process counts as a user of the embedded PostgreSQL for as long as psql runs.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    try:
        child = await asyncio.create_subprocess_exec(program, url, *(arguments or ()), env=environment)
    except OSError as error:
        raise Unavailable(f"{program} does not start: {error.strerror}", "install PostgreSQL's client") from error
    return Answer(None, Kind.FAILED if await child.wait() else Kind.DONE)


def _program() -> str:
    import shutil

    from agentops import embedded

    try:
        return str(embedded.binaries() / "psql")
    except Unavailable:
        found = shutil.which("psql")
        if found is None:
            raise Unavailable("there is no psql here", "install PostgreSQL's client (postgresql-client)") from None
        return found


def _without_password(url: str) -> tuple[str, str | None]:
    """The address without its password, for a command line that every user of the machine can read."""
    from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    user, colon, secret = account.partition(":")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([(key, value) for key, value in pairs if key != "password"])
    password = next((value for key, value in pairs if key == "password"), unquote(secret) if colon else None)
    return f"{parts.scheme}://{user}{at}{host}{parts.path}{'?' if query else ''}{query}", password
