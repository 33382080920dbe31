from __future__ import annotations

import asyncio

from agentops.store import audit, profiles
from tests.fakes.stacks import open_stack

PHONE = "+250788000001"


def test_a_customer_is_found_by_phone_and_always_the_same_one(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            assert await profiles.by_phone(stack.database, PHONE) is None
            for name in ("Ada", "Bea"):
                await stack.database.query(
                    "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, %(name)s)",
                    {"phone": PHONE, "name": name},
                )
            first = await profiles.by_phone(stack.database, PHONE)
            assert first is not None
            assert first.name in {"Ada", "Bea"}
            assert await profiles.by_phone(stack.database, PHONE) == first

    asyncio.run(run())


def test_an_audit_row_is_written_whole(database_url: str) -> None:
    async def run() -> None:
        async with open_stack(database_url) as stack:
            number = await audit.record(
                stack.database, actor="a", action="customer.lookup", subject="s", detail={"channel": "chat"}
            )
            row = (await stack.database.query("select * from agentops.audit where id = %(id)s", {"id": number}))[0]
            assert (row["actor"], row["action"], row["subject"]) == ("a", "customer.lookup", "s")
            assert row["detail"] == {"channel": "chat"}

    asyncio.run(run())
