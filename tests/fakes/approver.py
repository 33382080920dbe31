"""Approves a request in a process of its own, to be killed.

    python -m tests.fakes.approver DATABASE_URL NUMBER [apart]

With `apart` it is the known-bad variant: the decision is committed first, the customer told in a second transaction.
"""

from __future__ import annotations

import asyncio
import sys

from agentops.agent import granting, notices
from agentops.store.database import Database


async def main() -> None:
    url, number, *apart = sys.argv[1:]
    database = await Database.open(url, size=2)
    tell = notices.tell
    if apart:

        async def later(*_: object) -> str:
            return "queued"

        notices.tell = later  # type: ignore[assignment]
    decided, changed = await granting.approve(database, int(number), actor="op")
    if apart and changed:
        async with database.bounded() as transaction:
            await tell(transaction, decided, decided.voucher_id)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
