"""Who is whom: by user id first, then by phone; a conversation stays one lane, and nobody gets another's."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import TYPE_CHECKING

from agentops.settings import CHAT
from agentops.store import conversations, customers, inbox
from agentops.store.customers import Change
from tests.fakes.chat import until
from tests.fakes.stacks import open_stack

if TYPE_CHECKING:
    from agentops.stack import Stack

ONE, TWO = "+250788000001", "+250788000002"
_numbers = itertools.count()


async def arrives(stack: Stack, user_id: str | None, phone: str | None, phone_id: str = "P") -> str:
    """A message comes in; the lane it is put in."""
    message_id = f"wamid.{next(_numbers)}"
    batch = [inbox.Incoming(message_id, phone_id, user_id, phone, "text", answerable=True, payload={})]
    received = await inbox.receive(stack.database, "f", "corr", CHAT, batch)
    await customers.unite(stack.database, received.moved)
    rows = await stack.database.query(
        "select c.lane from agentops.inbox i join agentops.conversations c on c.id = i.conversation_id "
        "where i.message_id = %(id)s",
        {"id": message_id},
    )
    return str(rows[0]["lane"])


async def reached(stack: Stack) -> dict[str, str]:
    """Whom a reply in each lane with messages goes to."""
    rows = await stack.database.query(
        "select lane, customer from agentops.conversations c "
        "where exists (select from agentops.inbox i where i.conversation_id = c.id)"
    )
    return {row["lane"]: row["customer"] for row in rows}


def test_a_conversation_begun_by_phone_goes_on_by_user_id_in_the_same_lane(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            lanes = [
                await arrives(stack, None, ONE),
                await arrives(stack, "RW.1", ONE),
                await arrives(stack, "RW.1", None),
            ]
            assert lanes == [f"P:{ONE}"] * 3
            assert await reached(stack) == {f"P:{ONE}": ONE}

    asyncio.run(check())


def test_a_conversation_begun_by_user_id_keeps_its_lane_when_the_phone_becomes_known(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            lanes = [
                await arrives(stack, "RW.1", None),
                await arrives(stack, "RW.1", ONE),
                await arrives(stack, None, ONE),
            ]
            assert lanes == ["P:RW.1"] * 3
            assert await reached(stack) == {"P:RW.1": ONE}

    asyncio.run(check())


def test_what_waits_in_a_lane_whose_worker_died_is_claimed_after_lanes_became_one(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await arrives(stack, None, ONE)
            assert await inbox.claim(stack.database, str(uuid.uuid4()), 1, seconds=0.001)  # and never lets go
            await arrives(stack, "RW.1", None)
            await stack.database.query("update agentops.inbox set state = 'done', finished_at = now() where id = 2")
            await stack.database.query("update agentops.conversations set due_at = null where lane = 'P:RW.1'")
            moved = await customers.changed(stack.database, Change("RW.1", None, None, ONE))
            assert moved is not None
            await customers.unite(stack.database, [moved])
            [job] = await inbox.claim(stack.database, str(uuid.uuid4()), 9)
            assert [message.id for message in job.messages] == [1]

    asyncio.run(check())


def test_two_conversations_that_turn_out_to_be_one_customers_become_one_in_order(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await arrives(stack, None, ONE)
            await arrives(stack, None, ONE, "Q")
            await arrives(stack, "RW.1", None)
            assert await arrives(stack, "RW.1", ONE) == "P:RW.1"
            assert await reached(stack) == {"P:RW.1": ONE, "Q:RW.1": ONE}
            jobs = {job.lease.lane: job for job in await inbox.claim(stack.database, str(uuid.uuid4()), 9)}
            ids = [message.id for message in jobs["P:RW.1"].messages]
            assert (len(ids), ids) == (3, sorted(ids))
            assert await customers.identities(stack.database, ONE) == [ONE, "RW.1"]
            await stack.database.query("insert into agentops.customers (phone, key) values ('+250788999111', 'x')")
            assert await customers.identities(stack.database, "+250788999111") == ["+250788999111", "x"]

    asyncio.run(check())


def test_a_lane_that_a_worker_holds_is_united_when_it_is_let_go(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            await arrives(stack, None, ONE)
            lease = (await inbox.claim(stack.database, str(uuid.uuid4()), 1))[0].lease
            await arrives(stack, "RW.1", None)
            assert await arrives(stack, "RW.1", ONE) == "P:RW.1"
            assert set(await reached(stack)) == {f"P:{ONE}", "P:RW.1"}
            await conversations.release(stack.database, lease)
            await arrives(stack, "RW.1", ONE)
            assert set(await reached(stack)) == {"P:RW.1"}

    asyncio.run(check())


def test_a_number_that_somebody_else_has_now_brings_them_nothing_of_who_had_it(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            before = await arrives(stack, "RW.1", ONE)
            after = await arrives(stack, "RW.2", ONE)
            assert before != after
            assert await arrives(stack, "RW.1", None) == before
            assert await reached(stack) == {before: "RW.1", after: ONE}
            assert await arrives(stack, None, ONE) == after

    asyncio.run(check())


def test_a_new_number_and_a_new_user_id_leave_the_lane(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            lane = await arrives(stack, "RW.1", ONE)
            assert await customers.changed(stack.database, Change("RW.1", ONE, "RW.2", TWO)) is not None
            assert await arrives(stack, "RW.2", TWO) == lane
            assert await customers.changed(stack.database, Change("RW.9", None, "RW.8", None)) is None
            await arrives(stack, "RW.3", None)
            number = await customers.changed(stack.database, Change("RW.2", None, "RW.3", None))
            assert number is not None
            await customers.unite(stack.database, [number])
            assert await arrives(stack, "RW.3", TWO) == lane
            assert await reached(stack) == {lane: TWO}

    asyncio.run(check())


def test_many_servers_that_see_a_customer_at_the_same_time_make_one(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            ways = [(None, ONE), ("RW.1", ONE), ("RW.1", None)] * 6
            await asyncio.gather(*(arrives(stack, user_id, phone) for user_id, phone in ways))
            await arrives(stack, "RW.1", ONE)
            rows = await stack.database.query("select bsuid, phone from agentops.customers")
            assert rows == [{"bsuid": "RW.1", "phone": ONE}]
            assert len(await reached(stack)) == 1

    asyncio.run(check())


def test_who_becomes_known_elsewhere_in_the_midst_of_a_delivery_is_one_customer_all_the_same(database_url: str) -> None:
    async def blocked(stack: Stack) -> bool:
        waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        return bool(await stack.database.query(waits))

    async def check() -> None:
        async with open_stack(database_url) as stack:
            await arrives(stack, None, ONE)
            async with stack.database.transaction() as elsewhere:
                await elsewhere.query("select agentops.customer('RW.1', null)")
                delivery = asyncio.create_task(arrives(stack, "RW.1", ONE))
                await until(lambda: blocked(stack))
            await delivery
            rows = await stack.database.query("select bsuid, phone from agentops.customers where phone is not null")
            assert rows == [{"bsuid": "RW.1", "phone": ONE}]

    asyncio.run(check())


def test_conversations_of_before_keep_their_lanes(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            # As an older server writes it.
            await stack.database.query(
                "insert into agentops.conversations (lane, phone_id, customer) values (%(lane)s, 'P', %(one)s)",
                {"lane": f"P:{ONE}", "one": ONE},
            )
            assert await arrives(stack, "RW.1", ONE) == f"P:{ONE}"

    asyncio.run(check())


def test_retention_keeps_every_message_for_as_long_as_meta_may_deliver_it_again(database_url: str) -> None:
    async def check() -> None:
        async with open_stack(database_url) as stack:
            for age, state in ((5, "done"), (7.9, "skipped"), (31, "done"), (31, "dead"), (29, "done")):
                await arrives(stack, None, ONE)
                await stack.database.query(
                    "update agentops.inbox set state = %(state)s, finished_at = now(), "
                    "received_at = now() - make_interval(secs => %(age)s * 86400) "
                    "where id = (select max(id) from agentops.inbox)",
                    {"state": state, "age": age},
                )
            assert inbox.KEEP_DAYS >= 8
            assert await inbox.expire(stack.database) == 1
            assert await inbox.expire(stack.database) == 0
            kept = await stack.database.query("select state from agentops.inbox order by id")
            assert [row["state"] for row in kept] == ["done", "skipped", "dead", "done"]

    asyncio.run(check())
