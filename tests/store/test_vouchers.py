from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentops.errors import AgentOpsError
from agentops.settings import CHAT, VOICE, VOUCHERS
from agentops.store import vouchers
from agentops.store.vouchers import By, Hindrance, Voucher
from tests.fakes.stacks import open_stack, set_flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.platforms import Queries
    from agentops.store.database import Database

PHONE, OTHER = "+250788000001", "+250788000002"
BY = By("http", "tester", "c-1")
ROOT = Path(__file__).parents[2]


async def issue(database: Database, by: By = BY, customer: str = PHONE) -> Voucher | Hindrance:
    async with database.money() as money:
        return await vouchers.issue(money, by, customer=customer, amount_minor=1_000_000, currency="RWF")


async def issued(database: Database, customer: str = PHONE) -> str:
    found = await issue(database, customer=customer)
    assert isinstance(found, Voucher)
    return found.id


async def redeem(database: Database, voucher: str, by: By = BY, customer: str = PHONE) -> Voucher | Hindrance:
    async with database.money() as money:
        return await vouchers.redeem(money, by, voucher_id=voucher, customer=customer)


async def void(database: Database, voucher: str, customer: str | None = None) -> Voucher | Hindrance:
    async with database.money() as money:
        return await vouchers.void(money, BY, voucher_id=voucher, customer=customer, reason="lost")


def in_stack(url: str, act: Callable[[Database], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with open_stack(url) as stack:
            return await act(stack.database)

    return asyncio.run(run())


async def rows(queries: Queries, table: str) -> int:
    return int((await queries.query(f"select count(*) as n from {table}"))[0]["n"])  # noqa: S608 - names of ours


def test_a_voucher_is_issued_with_its_ledger_and_audit_row(database_url: str) -> None:
    async def act(database: Database) -> None:
        await database.query(
            "insert into profiles (whatsapp_e164, display_name) values (%(phone)s, 'Ada')", {"phone": PHONE}
        )
        found = await issue(database)
        assert isinstance(found, Voucher)
        assert (found.status, found.amount_minor, found.currency) == ("issued", 1_000_000, "RWF")
        row = (await database.query("select v.*, p.display_name from vouchers v join profiles p using (user_id)"))[0]
        assert row["display_name"] == "Ada"
        assert row["policy_number"].startswith("AI-")
        assert row["code_5"] in row["qr_payload"]
        ledger = (await database.query("select * from agentops.ledger"))[0]
        assert (str(ledger["voucher_id"]), ledger["kind"], ledger["actor"]) == (found.id, "issue", "tester")
        audit = (await database.query("select * from agentops.audit"))[0]
        assert (audit["action"], audit["subject"]) == ("voucher.issue", found.id)
        assert audit["detail"]["customer_masked"] == "+2507***001"
        assert PHONE not in json.dumps(audit["detail"])

    in_stack(database_url, act)


def test_a_number_without_a_profile_gets_a_voucher_too(database_url: str) -> None:
    async def act(database: Database) -> None:
        await issued(database)
        assert (await database.query("select user_id from vouchers"))[0]["user_id"] is None

    in_stack(database_url, act)


def test_redeeming_twice_tells_the_status(database_url: str) -> None:
    async def act(database: Database) -> None:
        voucher = await issued(database)
        first = await redeem(database, voucher)
        assert isinstance(first, Voucher)
        assert first.status == "redeemed"
        assert await redeem(database, voucher) == Hindrance("wrong_status", "redeemed")
        assert await void(database, voucher) == Hindrance("wrong_status", "redeemed")
        assert await rows(database, "agentops.ledger") == 2
        assert await rows(database, "agentops.audit") == 2

    in_stack(database_url, act)


def test_somebody_elses_voucher_looks_like_none(database_url: str) -> None:
    async def act(database: Database) -> None:
        voucher = await issued(database)
        assert await redeem(database, voucher, customer=OTHER) == Hindrance("not_found")
        assert await void(database, voucher, customer=OTHER) == Hindrance("not_found")
        assert await void(database, "00000000-0000-4000-8000-000000000000") == Hindrance("not_found")
        assert (await database.query("select status from vouchers"))[0]["status"] == "issued"

    in_stack(database_url, act)


def test_a_void_voucher_keeps_its_notes_and_frees_its_code(database_url: str) -> None:
    async def act(database: Database) -> None:
        voucher = await issued(database)
        await database.query("update vouchers set notes = 'by hand'")
        assert await vouchers.codes_in_use(database) == 1
        voided = await void(database, voucher, customer=PHONE)
        assert isinstance(voided, Voucher)
        assert voided.status == "void"
        assert (await database.query("select notes from vouchers"))[0]["notes"] == "by hand\nlost"
        assert await vouchers.codes_in_use(database) == 0

    in_stack(database_url, act)


def test_the_database_checks_the_flag_of_vouchers_and_of_the_channel(database_url: str) -> None:
    cases: list[tuple[Any, str, bool]] = [
        ("http", VOUCHERS, False),
        ("chat", VOUCHERS, False),
        ("chat", CHAT, False),
        ("voice", VOICE, False),
        ("http", CHAT, True),
        ("chat", VOICE, True),
        ("voice", CHAT, True),
    ]

    async def case(database: Database, channel: Any, off: str, *, enabled: bool) -> None:
        voucher = await issued(database)
        before = await rows(database, "agentops.ledger"), await rows(database, "agentops.audit")
        await set_flag(database, off, enabled=False)
        by = By(channel, "tester", "c-2")
        found = [await issue(database, by), await redeem(database, voucher, by)]
        await set_flag(database, off, enabled=True)
        if enabled:
            assert all(isinstance(each, Voucher) for each in found)
        else:
            assert found == [Hindrance("disabled"), Hindrance("disabled")]
            assert (await rows(database, "agentops.ledger"), await rows(database, "agentops.audit")) == before

    async def act(database: Database) -> None:
        for channel, off, enabled in cases:
            await case(database, channel, off, enabled=enabled)

    in_stack(database_url, act)


def test_an_unknown_channel_moves_no_money(database_url: str) -> None:
    async def act(database: Database) -> None:
        answer = await database.query("select agentops.vouchers_on('fax') as enabled")
        assert answer == [{"enabled": False}]

    in_stack(database_url, act)


def test_a_stack_whose_constraint_does_not_know_void_says_so(database_url: str) -> None:
    async def act(database: Database) -> None:
        await database.query("alter table vouchers drop constraint vouchers_status_check")
        await database.query(
            "alter table vouchers add constraint vouchers_status_check"
            " check (status in ('issued', 'redeemed', 'expired', 'cancelled'))"
        )
        voucher = await issued(database)
        assert await void(database, voucher) == Hindrance("unknown_status")
        assert (await database.query("select status from vouchers"))[0]["status"] == "issued"

    in_stack(database_url, act)


def test_the_last_free_codes_are_found_and_then_there_are_none(database_url: str) -> None:
    fill = """insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number, status)
              select lpad(n::text, 5, '0'), 100, '+250788000009', 'OLD',
                     case when n % 2 = 0 then 'issued' else 'redeemed' end
              from generate_series(0, 99999) n where n not in (4711, 31337)"""

    async def act(database: Database) -> None:
        await database.query(fill)
        assert await vouchers.codes_in_use(database) == vouchers.CODES - 2
        both = await asyncio.gather(issue(database), issue(database))
        assert all(isinstance(each, Voucher) for each in both)
        codes = await database.query("select code_5 from vouchers where policy_number <> 'OLD' order by code_5")
        assert [row["code_5"] for row in codes] == ["04711", "31337"]
        assert await issue(database) == Hindrance("no_code")

    in_stack(database_url, act)


NEVER = (
    "update agentops.ledger set kind = 'void' where kind = 'issue'",  # a redeemed voucher is not void as well
    "update agentops.ledger set kind = 'redeem'",
    "update agentops.ledger set kind = 'issue'",
    "update agentops.ledger set channel = 'fax'",
    "update agentops.ledger set kind = 'refund'",
    "update vouchers set amount_minor = 0",
    "update vouchers set code_5 = '1234'",
    "update vouchers set status = 'gone'",
    "insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number) select code_5, 1, '', '' from vouchers",
)


def test_the_schema_refuses_what_must_never_be(database_url: str) -> None:
    async def act(database: Database) -> None:
        await redeem(database, await issued(database))
        for statement in NEVER:
            with pytest.raises(AgentOpsError):
                await database.query(statement)

    in_stack(database_url, act)


def test_a_race_of_redeem_and_void_has_one_winner(database_url: str) -> None:
    async def act(database: Database) -> None:
        async def contest() -> None:
            voucher = await issued(database)
            ends = await asyncio.gather(*(act(database, voucher) for act in (redeem, void, redeem, void)))
            assert sum(isinstance(end, Voucher) for end in ends) == 1
            winner = next(end for end in ends if isinstance(end, Voucher))
            assert {end for end in ends if end is not winner} == {Hindrance("wrong_status", winner.status)}

        await asyncio.gather(*(contest() for _ in range(40)))
        ended = await database.query("select kind from agentops.ledger where kind <> 'issue'")
        assert len(ended) == 40

    in_stack(database_url, act)


def test_two_processes_of_callers_redeem_each_voucher_exactly_once(database_url: str, tmp_path: Path) -> None:
    """200 vouchers, 2,000 attempts in the hottest order: 2 processes of 25 callers each."""
    many = asyncio.run(_vouchers(database_url, 200))
    statuses: Counter[str] = Counter()
    racers = []
    for number in range(2):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(many))
        racers.append(_racer(database_url, 25, file))
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=60)
        statuses.update(json.loads(out)["statuses"])
    assert statuses == {"200": 200, "409": 1800}
    with psycopg.connect(database_url) as connection:
        redeemed = "select count(*), count(distinct voucher_id) from agentops.ledger where kind = 'redeem'"
        assert connection.execute(redeemed).fetchone() == (200, 200)
        agree = """select count(*) from vouchers v join agentops.ledger l on l.voucher_id = v.id and l.kind = 'redeem'
                   where v.status = 'redeemed' and v.redeemed_at is not null and l.amount_minor = v.amount_minor"""
        assert connection.execute(agree).fetchone() == (200,)
        audit = "select count(*) from agentops.audit where action = 'voucher.redeem'"
        assert connection.execute(audit).fetchone() == (200,)


async def naive_redeem(database: Database, voucher: str) -> Voucher | Hindrance:
    """The mutant: what this kind of product usually does. It reads the status, then writes it."""
    async with database.money() as money:
        status = (await money.query("select status from vouchers where id = %(id)s", {"id": voucher}))[0]["status"]
        if status != "issued":
            return Hindrance("wrong_status", status)
        row = await money.query(
            "update vouchers set status = 'redeemed', redeemed_at = now() where id = %(id)s returning redeemed_at",
            {"id": voucher},
        )
        return Voucher(voucher, "redeemed", 1, "RWF", row[0]["redeemed_at"])


@pytest.mark.parametrize(("how", "safe"), [(redeem, True), (naive_redeem, False)])
def test_the_race_tells_a_naive_redeem_from_ours(database_url: str, how: Any, *, safe: bool) -> None:
    async def act(database: Database) -> None:
        many = [await issued(database) for _ in range(20)]
        wins: Counter[str] = Counter()

        async def caller() -> None:
            for voucher in many:
                won = isinstance(await how(database, voucher), Voucher)
                wins[voucher] += won

        await asyncio.gather(*(caller() for _ in range(8)))
        assert (max(wins.values()) == 1) is safe

    in_stack(database_url, act)


async def _vouchers(url: str, count: int) -> list[str]:
    async with open_stack(url) as stack:
        rows = await stack.database.query(
            "insert into vouchers (code_5, amount_minor, whatsapp_e164, policy_number)"
            " select lpad(n::text, 5, '0'), 100, %(phone)s, 'AI-' || n from generate_series(1, %(count)s) n"
            " returning id::text as id",
            {"phone": PHONE, "count": count},
        )
        return [row["id"] for row in rows]


def _racer(url: str, callers: int, file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.racers", url, str(callers), str(file)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
