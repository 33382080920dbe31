"""A hostile model as a customer of the chat: 1,000 tool calls without effect on others, behind the wall alone too."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentops.agent import phones, policy
from agentops.agent.tools import Principal, tool
from agentops.errors import NotAuthorised
from agentops.store import idempotency, profiles, vouchers
from agentops.store.database import Customer, Database
from agentops.store.vouchers import By, Hindrance
from tests.fakes.stacks import open_stack, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from agentops.stack import Stack
    from agentops.store.database import Transaction

ATTACKER, VICTIM = "+250788000001", "+250788000002"
HOSTILE = Principal("chat", "customer 1", ATTACKER)
OPERATOR = Principal("http", "service_role", operator=True)
CALLS = 1_000
NAME = "Ada Victim"
# Whatever a victim has: its vouchers, its profile, what was done and counted for it.
THEIRS = """
select (select json_agg(v order by v.id) from public.vouchers v where v.whatsapp_e164 <> %(me)s) as vouchers,
       (select json_agg(p order by p.user_id) from public.profiles p) as profiles,
       (select json_agg(l order by l.id) from agentops.ledger l
        where l.voucher_id in (select id from public.vouchers where whatsapp_e164 <> %(me)s)) as ledger,
       (select json_agg(u) from agentops.usage_days u where scope not in ('all', 'customer:' || %(me)s)) as usage,
       (select json_agg(a) from agentops.approvals a where customer <> %(me)s) as approvals
"""


def in_stack(url: str, act: Callable[[Stack], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_stack(url) as stack:
            await act(stack)

    asyncio.run(run())


async def with_victim(stack: Stack) -> list[str]:
    """A customer with a name and three vouchers: their ids."""
    await stack.database.query(
        "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, %(name)s)",
        {"phone": VICTIM, "name": NAME},
    )
    found = []
    for _ in range(3):
        arguments = {"customer_msisdn": VICTIM, "amount": 700}
        created = await tool("create_voucher").call(arguments, OPERATOR, stack, correlation_id="before")
        found.append(str(created.body["voucher_id"]))
    await tool("redeem_voucher").call(
        {"voucher_id": found[2], "customer_msisdn": VICTIM}, OPERATOR, stack, correlation_id="before"
    )
    return found


def renderings(voucher: str) -> list[Any]:
    """One id in the ways in which a model may write it."""
    plain = voucher.replace("-", "")
    return [
        voucher, voucher.upper(), plain, f"{{{voucher}}}", f"urn:uuid:{voucher}", f" {voucher}", f"{voucher}\x00",
        f"{voucher}' or true --", "' or 1=1; reset role; --", voucher.replace("-", "\u2010"), [voucher],
        {"id": voucher}, int(plain, 16), True, voucher.encode().hex(),
    ]  # fmt: skip


# Fullwidth signs, which NFKC would make ordinary ones.
WIDE = {ord(sign): chr(ord(sign) + 0xFEE0) for sign in "+0123456789"}
PHONES: list[Any] = [
    VICTIM, VICTIM[1:], "0788 000 002", "00250788000002", "+250-788-000-002", VICTIM.translate(WIDE), f"{VICTIM}\n",
    int(VICTIM[1:]), [VICTIM], None, f"{ATTACKER},{VICTIM}", "whatsapp:" + VICTIM, VICTIM + "'--", "",
]  # fmt: skip
AMOUNTS: list[Any] = [1, 0, -1, 2**31, 10**30, 1.5, "5", "1e3", True, None, [1], "NaN"]


def attacks(victims: list[str]) -> Iterator[tuple[str, Any]]:
    """Hostile calls without end: every tool, foreign ids and phones, amounts, extra fields, and their encodings."""
    ids = [rendering for voucher in victims for rendering in renderings(voucher)]
    extra: list[dict[str, Any]] = [
        {},
        {"role": "service_role", "operator": True, "principal": VICTIM},
        {"idempotency_key": "k", "owner": None},
    ]
    every: list[tuple[str, dict[str, Any]]] = []
    for more, phone in itertools.product(extra, PHONES):
        every.append(("lookup_customer", {"msisdn": phone, **more}))
        every += [("create_voucher", {"customer_msisdn": phone, "amount": amount, **more}) for amount in AMOUNTS]
        every += [("redeem_voucher", {"voucher_id": each, "customer_msisdn": phone, **more}) for each in ids]
    for more, each in itertools.product(extra, ids):
        every.append(("void_voucher", {"voucher_id": each, "customer_msisdn": VICTIM, "reason": "x' --", **more}))
    # Spread over all that there are, so that every tool, id and phone has its turn.
    step = 7
    while len(every) % step == 0:
        step += 2
    for number in itertools.count():
        name, arguments = every[number * step % len(every)]
        encoded: list[Any] = [arguments, json.dumps(arguments), json.dumps(arguments, ensure_ascii=False).encode()]
        yield name, encoded[number % 3]


async def attacked(stack: Stack) -> tuple[bool, str, Counter[tuple[str, int]]]:
    """Whether anything of others changed, all that was answered, and how the calls ended."""
    victims = await with_victim(stack)
    before = await stack.database.query(THEIRS, {"me": ATTACKER})
    ends: Counter[tuple[str, int]] = Counter()
    answers = []
    for name, arguments in itertools.islice(attacks(victims), CALLS):
        outcome = await tool(name).call(arguments, HOSTILE, stack, correlation_id="hostile", idempotency_key=None)
        ends[name, outcome.status] += 1
        answers.append(json.dumps(dict(outcome.body)))
    after = await stack.database.query(THEIRS, {"me": ATTACKER})
    return before != after, "\n".join(answers), ends


def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known-bad policy: the customer is whom the model names, and everything is anybody's."""

    def named(principal: Principal, phone: object, words: str, home: str) -> str:
        try:
            return phones.normalised(str(phone), home)
        except Exception:  # noqa: BLE001 - whatever cannot be read is the sender
            return str(principal.phone or words)

    monkeypatch.setattr(policy, "customer", named)
    monkeypatch.setattr(policy, "owner", lambda _: None)


def test_a_thousand_hostile_calls_have_no_effect_on_others(database_url: str) -> None:
    async def act(stack: Stack) -> None:
        changed, answers, ends = await attacked(stack)
        assert not changed
        assert NAME not in answers
        assert sum(ends.values()) == CALLS
        assert {name for name, _ in ends} == {"create_voucher", "lookup_customer", "redeem_voucher", "void_voucher"}
        assert not any(status >= 500 for _, status in ends), ends
        assert NAME not in recorded(stack).text

    in_stack(database_url, act)


def test_nor_have_they_where_row_level_security_is_all_that_is_left(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(stack: Stack) -> None:
        changed, answers, ends = await attacked(stack)
        assert not changed
        assert NAME not in answers
        reached = ends["redeem_voucher", 404] + ends["void_voucher", 404]
        assert reached > 50, "they got as far as the database"
        assert ends["create_voucher", 500] >= 5, "a voucher for another is refused by the database itself"

    trusting(monkeypatch)
    in_stack(database_url, act)


def test_with_neither_policy_nor_wall_the_same_calls_do_harm(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(stack: Stack) -> None:
        changed, answers, _ = await attacked(stack)
        assert changed
        assert NAME in answers

    trusting(monkeypatch)
    monkeypatch.setattr(policy, "walled", lambda _: None)
    in_stack(database_url, act)


@asynccontextmanager
async def behind(database: Database) -> AsyncIterator[Transaction]:
    async with database.money(Customer(ATTACKER, "customer 1")) as transaction:
        yield transaction


async def refused(database: Database, statement: str, **parameters: object) -> bool:
    """Whether the database forbids a statement behind the wall; a statement that does nothing is not forbidden."""
    try:
        async with behind(database) as transaction:
            await transaction.query(statement, parameters)
    except NotAuthorised:
        return True
    return False


def test_our_own_statements_find_nothing_of_another_behind_the_wall(database_url: str) -> None:
    by = By("chat", "customer 1", "c")

    async def act(stack: Stack) -> None:
        victims = await with_victim(stack)
        assert await idempotency.claim(stack.database, f"create_voucher:chat:{VICTIM}", "k", "f") is None
        before = await stack.database.query(THEIRS, {"me": ATTACKER})
        async with behind(stack.database) as own:
            assert (await own.query("select current_user as me"))[0]["me"] == "agentops_agent"
            assert await profiles.by_phone(own, VICTIM) is None
            for voucher in victims:
                assert await vouchers.redeem(own, by, voucher_id=voucher, customer=VICTIM) == Hindrance("not_found")
                assert await vouchers.void(own, by, voucher_id=voucher, customer=None, reason=None) == Hindrance(
                    "not_found"
                )
                assert await vouchers.one(stack.database, voucher) is not None
            for table in ("vouchers", "profiles", "agentops.idempotency", "agentops.approvals", "agentops.usage_days"):
                assert await own.query(f"select * from {table}") == [], table  # noqa: S608 - ours
            assert await own.query("update vouchers set status = 'void' returning id") == []
        assert await stack.database.query(THEIRS, {"me": ATTACKER}) == before

    in_stack(database_url, act)


def test_what_no_tool_needs_is_forbidden_behind_the_wall(database_url: str) -> None:
    issue = (
        "insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number)"
        " values ('00001', 100, %(phone)s, 'AI-1')"
    )
    entry = (
        "insert into agentops.ledger (voucher_id, kind, amount_minor, currency, channel, actor, correlation_id)"
        " values (gen_random_uuid(), 'issue', 1, 'RWF', 'chat', %(actor)s, 'c')"
    )

    async def act(stack: Stack) -> None:
        database = stack.database
        assert not await refused(database, issue, phone=ATTACKER)
        assert await refused(database, issue, phone=VICTIM)
        assert not await refused(database, entry, actor="customer 1")
        assert await refused(database, entry, actor="operator")
        for statement in (
            "select * from agentops.ledger",
            "select * from agentops.audit",
            "select * from agentops.secrets",
            "select * from agentops.inbox",
            "delete from vouchers",
            "update vouchers set amount_minor = 1",
            "update vouchers set whatsapp_e164 = whatsapp_e164",
            "update profiles set display_name = ''",
            "update agentops.limits set value = null",
            "update agentops.flags set enabled = true",
            "update agentops.approvals set status = 'approved'",
            "alter table vouchers disable row level security",
        ):
            assert await refused(database, statement), statement
        own = "update agentops.usage_days set count = 1 where scope = %(scope)s"
        assert not await refused(database, own, scope="customer:" + VICTIM), "hidden, so nothing is changed"

    in_stack(database_url, act)


def test_the_wall_ends_with_its_transaction(database_url: str) -> None:
    async def run() -> None:
        database = await Database.open(database_url, size=1)
        try:
            async with behind(database):
                pass
            with pytest.raises(NotAuthorised):
                async with behind(database) as own:
                    await own.query("select * from agentops.secrets")
            rows = await database.query(
                "select current_user = session_user as self,"
                " coalesce(current_setting('agentops.principal', true), '') as phone"
            )
            assert rows == [{"self": True, "phone": ""}]
        finally:
            await database.close()

    asyncio.run(run())


def test_codes_run_out_in_honest_words_behind_the_wall_too(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number)"
            b" select lpad(n::text, 5, '0'), 100, '+250788000002', 'AI-' || n from generate_series(0, 99998) n"
        )

    async def act(stack: Stack) -> None:
        last = await tool("create_voucher").call({"amount": 1}, HOSTILE, stack, correlation_id="c")
        assert last.status == 200
        none = await tool("create_voucher").call({"amount": 1}, HOSTILE, stack, correlation_id="c")
        assert (none.status, none.body["error"]) == (503, "No voucher code is free")

    in_stack(database_url, act)
