"""A server's pool of connections to its stack's database.

Database.open(url) → query(statement)               one statement, committed by itself
                   → transaction()                  several statements, one commit
                   → money()                        a transaction behind the kill switch's barrier
                   → together(statement)            as query, in one commit with what is asked at the same moment
                   → bounded()                      a short transaction; of a customer: behind row-level security
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from agentops.errors import Unavailable
from agentops.platforms.local.connection import run, translated
from agentops.sql import statements
from agentops.store.together import Together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from psycopg import AsyncConnection

    from agentops.platforms import Row

_SQL = statements(__file__)
# Every money transaction holds this advisory lock shared; the kill switch takes it alone, and thereby waits for them.
MONEY_LOCK = 0x6D6F6E6579
MONEY_SECONDS = 3
_MILLISECONDS = str(MONEY_SECONDS * 1000)
# Three statements on one way to the server and back: the constants are ours, so they stand in the text.
_MONEY = "; ".join(("begin", _SQL["bounds"], _SQL["barrier"])) % {
    "milliseconds": f"'{_MILLISECONDS}'",
    "key": MONEY_LOCK,
}


@dataclass(frozen=True, slots=True)
class Customer:
    """Whose rows a transaction may touch: a verified phone (E.164), and the actor that its rows remember."""

    phone: str
    actor: str


class Transaction:
    """An open transaction: queries in it commit or roll back together."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self._connection = connection

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement; its rows as dictionaries."""
        return await run(self._connection, statement, parameters)


class Database:
    """A bounded pool. Raises only `AgentOpsError`; `Unavailable` when no connection is to be had in time."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Row]], url: str) -> None:
        self._pool = pool
        self._together: dict[tuple[str, str], Together] = {}
        self.url = url

    @classmethod
    async def open(cls, url: str, *, size: int = 8, wait_seconds: float = 5) -> Database:
        """Open a pool of at most `size` connections.

        Raises:
            Unavailable: PostgreSQL does not answer within `wait_seconds`.
        """
        database = await cls.opening(url, size=size, wait_seconds=wait_seconds)
        try:
            await database.wait(wait_seconds)
        except Unavailable:
            await database.close()
            raise
        return database

    @classmethod
    async def opening(cls, url: str, *, size: int = 8, wait_seconds: float = 5) -> Database:
        """Open a pool without waiting for its first connection: a server starts also while PostgreSQL is away."""
        pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=size,
            timeout=wait_seconds,
            open=False,
            check=None,
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "agentops-server"},
        )
        await pool.open(wait=False)
        return cls(pool, url)

    async def wait(self, seconds: float) -> None:
        """Wait for the pool's first connection.

        Raises:
            Unavailable: PostgreSQL does not answer within `seconds`.
        """
        try:
            with translated():
                await self._pool.wait(seconds)
        except PoolTimeout:
            raise Unavailable("PostgreSQL does not answer", "agentops health database") from None

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def renew(self) -> None:
        """Replace the idle connections that broke, so that no request after an outage gets one."""
        with translated():
            await self._pool.check()

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement in a transaction of its own; its rows as dictionaries."""
        async with self._connection() as connection:
            return await run(connection, statement, parameters)

    async def together(self, statement: str, item: Mapping[str, Any], flag: str = "") -> list[Row]:
        """Run a statement that answers for many items at once, for this one and all that are asked at the same moment.

        Args:
            statement: it takes `%(items)s`, a JSON array of objects with a `place`, and its rows name the `place` they
                answer; `%(flag)s` too, if it asks for one.
            item: what it is asked for, as JSON could say it.
            flag: the flag that it asks for.

        Returns:
            The rows of this item.
        """
        if (statement, flag) not in self._together:
            self._together[statement, flag] = Together(partial(self._answered, statement, flag))
        return await self._together[statement, flag].ask(item)

    async def _answered(self, statement: str, flag: str, items: str) -> list[Row]:
        return await self.query(statement, {"items": items, "flag": flag})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Several statements, committed together when the block ends well."""
        async with self._connection() as connection:
            with translated():
                async with connection.transaction():
                    yield Transaction(connection)

    @asynccontextmanager
    async def bounded(self, customer: Customer | None = None) -> AsyncIterator[Transaction]:
        """A transaction of at most 3 s a statement. With a customer it sees and changes rows of theirs only."""
        async with self.transaction() as transaction:
            if customer is None:
                await transaction.query(_SQL["bounds"], {"milliseconds": _MILLISECONDS})
            else:
                await transaction.query(_SQL["behind_the_wall"], _wall(customer))
            yield transaction

    @asynccontextmanager
    async def money(self, customer: Customer | None = None) -> AsyncIterator[Transaction]:
        """A transaction that moves money: bounded in time, behind the barrier, and with a customer behind the wall.

        The shared lock is taken by a statement of its own, so that the next one sees every flag that was committed
        before a kill switch got the lock alone.
        """
        async with self._connection() as connection:
            with translated():
                await run(connection, _MONEY)
                if customer is not None:
                    await run(connection, _SQL["behind_the_wall"], _wall(customer))
                yield Transaction(connection)
                await connection.commit()  # what fails before is rolled back by the pool

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Row]]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, PoolClosed):  # closed: a request that outlived the server's shutdown
            raise Unavailable("PostgreSQL does not answer, or all connections are busy", "agentops health") from None


def _wall(customer: Customer) -> Mapping[str, str]:
    return {"milliseconds": _MILLISECONDS, "phone": customer.phone, "actor": customer.actor}
