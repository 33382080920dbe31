"""A number's block that has ended lets exactly one reply through, however many lanes ask at the same moment."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from agentops.settings import CHAT
from agentops.store import inbox, outbox
from tests.fakes.chat import chat_stack, until
from tests.fakes.whatsapp import deliver, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.stack import Stack
    from agentops.store.conversations import Lease

LANES = 5
NUMBER = "106540352242922"
# The known-bad variant: whether the block has ended is read, and noted after that.
READ_THEN_NOTED = (
    ("and (p.until <= now() or (p.reason <> 'rate' and p.generation < (select n from agentops.generation)))", ""),
    ("and (not exists (select from block) or exists (select from probing))", ""),
)


async def asked_at_once(stack: Stack, lanes: Sequence[tuple[Lease, str]]) -> list[outbox.Taken]:
    """Every lane asks while the number's row is held, so that all have read it before the first may write."""
    waiting = "select count(*) as n from pg_stat_activity where wait_event_type = 'Lock'"
    waiting += " and datname = current_database()"

    async def all_wait() -> bool:
        return bool((await stack.database.query(waiting))[0]["n"] == LANES)

    async with stack.database.transaction() as holder:
        await holder.query("select from agentops.pacing for update")
        asking = [asyncio.create_task(outbox.sending(stack.database, lease, reply, CHAT)) for lease, reply in lanes]
        await until(all_wait, 20)
    return await asyncio.gather(*asking)


async def waiting_lanes(stack: Stack) -> list[tuple[Lease, str]]:
    """A reply that waits, in each of the lanes."""
    for n in range(LANES):
        await deliver(stack, text("hello", f"+25078800001{n}"))
    jobs = await inbox.claim(stack.database, str(uuid.uuid4()), LANES)
    return [(job.lease, await outbox.put(stack.database, job.lease, job.messages[0], "hi")) for job in jobs]


async def block(stack: Stack, reason: str, seconds: float, generation: int) -> None:
    await stack.database.query(
        "insert into agentops.pacing (phone_id, reason, until, generation)"
        " values (%(number)s, %(reason)s, now() + make_interval(secs => %(seconds)s), %(generation)s)",
        {"number": NUMBER, "reason": reason, "seconds": seconds, "generation": generation},
    )


# A block ends with its time; one that time does not cure, with newer settings.
ENDED = pytest.mark.parametrize(
    ("reason", "seconds", "generation"), [("rate", -1, 10**6), ("policy", -1, 10**6), ("token", 900, -1)]
)


@ENDED
def test_exactly_one_of_many_lanes_probes_and_the_next_only_when_its_outcome_is_known(
    database_url: str, reason: str, seconds: float, generation: int
) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await block(stack, reason, seconds, generation)
            lanes = await waiting_lanes(stack)
            found = await asked_at_once(stack, lanes)
            assert sorted(each.taken for each in found) == [False] * (LANES - 1) + [True]
            assert {each.seconds for each in found if not each.taken} == {outbox.OVERTAKEN_SECONDS}
            attempts = await stack.database.query("select max(attempts) as n from agentops.inbox")
            assert attempts[0]["n"] <= 1, "who waits has not failed"
            (late, *_) = [lane for lane, each in zip(lanes, found, strict=True) if not each.taken]
            again = await outbox.sending(stack.database, *late, CHAT)
            assert not again.taken
            assert 15.0 < again.seconds <= outbox.PROBE_SECONDS

    asyncio.run(check())


@ENDED
def test_a_block_that_is_read_and_then_noted_lets_them_all_through(
    database_url: str, monkeypatch: pytest.MonkeyPatch, reason: str, seconds: float, generation: int
) -> None:
    statement = outbox._SQL["sending"]
    for part, instead in READ_THEN_NOTED:
        assert part in statement
        statement = statement.replace(part, instead)
    monkeypatch.setattr(outbox, "_SQL", {**outbox._SQL, "sending": statement})

    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await block(stack, reason, seconds, generation)
            lanes = await waiting_lanes(stack)
            assert [each.taken for each in await asked_at_once(stack, lanes)] == [True] * LANES

    asyncio.run(check())
