"""What a stack's database, or a hosted project's, says of itself: whether it answers, fits, and has room.

Each answers status (ok, degraded), what was found, and what to type next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.errors import UsageError
from agentops.incidents.symptoms import Verdict, ok
from agentops.store import health as figures
from agentops.store import migrations, schema
from agentops.store.database import MONEY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.platforms import Queries

_FULL = 0.8
_MIGRATE = "agentops db migrate"


async def answers(queries: Queries, kind: str, where: str) -> Verdict:
    """Whether it answers; `kind` and `where` are words for eyes."""
    return ok(f"{kind} {await schema.server_version(queries)} answers {where}")


async def version(queries: Queries) -> Verdict:
    """Whether our schema is there and new enough, and voiding is allowed."""
    found, needed = await schema.version(queries), migrations.needed()
    if found is None or found < needed:
        return "degraded", f"schema version {found or 'none'}, this agentops needs {needed}", _MIGRATE
    refusing = await schema.refuses_void(queries)
    if refusing:
        return "degraded", f"constraint {refusing} refuses status void: voiding fails", _MIGRATE
    return ok(f"schema version {found}")


async def wall(queries: Queries) -> Verdict:
    """Whether row-level security stands around customers' tools."""
    missing = await schema.wall_missing(queries)
    if missing:
        words = f"customers' tools run without row-level security: {missing}"
        return "degraded", words, f"{_MIGRATE}, as a database user who may create roles and owns the tables"
    return ok("row-level security holds customers' tools to their own rows")


async def tables(queries: Queries, forwards: Callable[[], Awaitable[bool]]) -> Verdict:
    """Whether a hosted project has the tables that functions use; one that only forwards needs none.

    `forwards`: whether an agentops server does the work; asked only where there are no tables.
    """
    found = await schema.tables(queries)
    if not any(table.present for table in found) and await forwards():
        names = " and ".join(table.name for table in found)
        return ok(f"there are no {names} here: the agentops server behind the forwarders has them")
    wrong = [f"{table.name} is missing" for table in found if not table.present]
    wrong += [f"{table.name} lacks {', '.join(table.missing)}" for table in found if table.present and table.missing]
    if wrong:
        return "degraded", "; ".join(wrong), 'agentops --target "$DATABASE_URL" db migrate'
    return ok(f"there are {' and '.join(table.name for table in found)}")


async def connections(queries: Queries) -> Verdict:
    """Whether there is room for more connections."""
    found = await figures.connections(queries)
    words = f"{found.used} of {found.allowed} connections in use"
    if found.used >= _FULL * found.allowed:
        return "degraded", words, "run fewer servers (agentops serve --processes N) or raise max_connections"
    return ok(words)


async def codes(queries: Queries) -> Verdict:
    """Whether there are voucher codes left; where there is no such table, there is nothing to run out of."""
    try:
        live = await figures.live_codes(queries)
    except UsageError:
        if any(table.name == "vouchers" and not table.present for table in await schema.tables(queries)):
            return ok("there is no table public.vouchers, so no code is in use")
        raise
    words = f"{live:,} of {figures.CODES:,} voucher codes in use"
    if live >= _FULL * figures.CODES:
        return "degraded", words, "void or expire old vouchers: agentops stats vouchers --days 365"
    return ok(words)


async def money(queries: Queries) -> Verdict:
    """Whether money transactions end as fast as they should."""
    long = await figures.long_money_transactions(queries, MONEY_SECONDS)
    if not long:
        return ok("no money transaction runs long")
    who = ", ".join(f"session {entry.pid} ({entry.seconds:.0f} s)" for entry in long)
    return "degraded", f"money transactions run long: {who}", "agentops db psql -- -c 'select * from pg_stat_activity'"
