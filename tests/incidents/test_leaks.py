"""What slipped through is found in any form, and nothing else is."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agentops import pseudonyms
from agentops.incidents import leaks
from agentops.store import customers, incidents
from tests.fakes.renderings import RENDERINGS
from tests.fakes.servers import operator

if TYPE_CHECKING:
    from agentops.platforms.local import LocalPlatform

KEY = pseudonyms.key("a-private-key")
DAY_AGO = datetime.now(UTC) - timedelta(days=1)
WRAPPERS = ("{}", "to {} failed", "x={}&y=1", '{{"from": "{}"}}', "[{}]", "id {}, 200 OK", "{}.", "tel:{}")


def phone(number: int) -> str:
    return f"+25078{number:07d}"


def row(data: dict[str, Any], number: int = 1, event: str = "ai.e") -> dict[str, Any]:
    fixed = {"id": number, "at": DAY_AGO, "event": event, "correlation_id": str(uuid.uuid4()), "function": "f"}
    return {**fixed, "data": json.dumps(data, ensure_ascii=False)}


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_each_rendering_is_found_and_named(rendering: str) -> None:
    written = RENDERINGS[rendering](phone(123)[1:])
    numbers = leaks.Numbers([phone(123), phone(124)])
    (found,) = leaks.of_row(row({"a": {"b": ["x", written]}}), numbers, KEY)
    assert (found.field, found.customer, found.rendering) == (
        "data.a.b[1]",
        pseudonyms.customer(KEY, phone(123)),
        rendering,
    )


def test_a_number_in_a_key_is_found_and_the_key_not_named() -> None:
    numbers = leaks.Numbers([phone(123)])
    (found,) = leaks.of_row(row({"x": 1, phone(123)[1:]: "y"}), numbers, KEY)
    assert found.field == "data.[1](key)"
    (found,) = leaks.of_row(row({}, event=f"ai.{phone(123)[1:]}"), numbers, KEY)
    assert (found.field, "788" in found.event or "123" in found.event[6:-3]) == ("event", False)


def test_only_whole_numbers_of_known_customers_count() -> None:
    numbers = leaks.Numbers([phone(123)])
    other = [phone(124), f"9{phone(123)[1:]}", f"{phone(123)[1:]}0", phone(123)[1:-1], f"{phone(123)[1:]}{'7' * 9}"]
    assert [leaks.of_row(row({"a": each}), numbers, KEY) for each in other] == [[]] * len(other)


def test_two_numbers_beside_each_other_are_both_found() -> None:
    numbers = leaks.Numbers([phone(1), phone(2)])
    found = leaks.of_row(row({"a": f"{phone(1)[1:]} {phone(2)[1:]}", "b": f"200 {phone(1)}"}), numbers, KEY)
    assert [(leak.field, leak.customer) for leak in found] == [
        ("data.a", pseudonyms.customer(KEY, phone(1))),
        ("data.a", pseudonyms.customer(KEY, phone(2))),
        ("data.b", pseudonyms.customer(KEY, phone(1))),
    ]


def clean(chance: random.Random) -> dict[str, Any]:
    """A line as the servers write them, full of digits that are nobody's number."""
    at = datetime.fromtimestamp(1_790_000_000 + chance.random() * 1e7, UTC)
    return {
        "voucher_id": str(uuid.UUID(int=chance.getrandbits(128))),
        "latency_ms": chance.randrange(100_000),
        "usage": {"input_tokens": chance.randrange(10**6), "total_tokens": chance.randrange(10**9)},
        "at": at.isoformat(),
        "epoch": chance.choice([int(at.timestamp()), int(at.timestamp() * 1000), at.timestamp()]),
        "customer": pseudonyms.customer(KEY, phone(chance.randrange(10**7))),
        "message": pseudonyms.message(KEY, str(chance.random())),
        "to_masked": "+2507***456",
        "address": f"10.0.{chance.randrange(256)}.{chance.randrange(256)}:{chance.randrange(65536)}",
        "digest": f"{chance.getrandbits(256):064x}",
        "blob": base64.b64encode(chance.randbytes(48)).decode(),
        "error": f"order {chance.randrange(10**12):012d} of {chance.randrange(10**6)} RWF",
        "trace": chance.randrange(10**15),
    }


async def plant(platform: LocalPlatform, rows: list[dict[str, Any]]) -> None:
    await platform.query(
        "insert into agentops.logs (at, level, event, correlation_id, function, data) "
        "select now(), 'info', 'ai.e', gen_random_uuid()::text, 'f', r from jsonb_array_elements(%(rows)s::jsonb) r",
        {"rows": json.dumps(rows)},
    )


def test_a_hundred_leaks_among_ten_thousand_lines_are_found_and_no_more(database_url: str) -> None:
    async def check() -> None:
        chance = random.Random(7)  # noqa: S311 - the same lines every time
        known = [phone(number) for number in chance.sample(range(10**7), 2000)]
        rows: list[dict[str, Any]] = [clean(chance) for _ in range(10_000)]
        places = sorted(chance.sample(range(10_100), 100))
        for number, place in enumerate(places):
            name = list(RENDERINGS)[number % 15]
            written = RENDERINGS[name](known[number][1:])
            wrapped = written if name == "json_int" else chance.choice(WRAPPERS).format(written)
            rows.insert(place, {**clean(chance), "error": wrapped})
        async with operator(database_url) as platform:
            await platform.query(
                "insert into public.profiles (whatsapp_e164) select jsonb_array_elements_text(%(known)s::jsonb)",
                {"known": json.dumps(known)},
            )
            await plant(platform, rows)
            numbers = leaks.Numbers(await customers.known_phones(platform))
            assert len(numbers) == 2000
            found = [leak async for batch in leaks.scan(platform, numbers, KEY, since=DAY_AGO) for leak in batch]
            first = (await platform.query("select min(id) as id from agentops.logs"))[0]["id"]
            assert [leak.log_id - first for leak in found] == places
            assert [leak.customer for leak in found] == [pseudonyms.customer(KEY, each) for each in known[:100]]
            assert {leak.field for leak in found} == {"data.error"}

    asyncio.run(check())


def test_leaks_open_one_incident_that_grows_and_never_holds_a_number(database_url: str) -> None:
    async def check() -> None:
        async with operator(database_url) as platform:
            numbers = leaks.Numbers([phone(1), phone(2)])
            one = leaks.of_row(row({"a": phone(1)}, 7), numbers, KEY)
            two = leaks.of_row(row({"a": phone(2)}, 8), numbers, KEY)
            ids = [await leaks.report(platform, found, "tester@here") for found in (one, one, one + two)]
            assert len(set(ids)) == 1
            (incident,) = await incidents.listed(platform)
            assert (incident.kind, incident.status) == ("pii-leak", "open")
            detail = (await platform.query("select detail::text as d from agentops.incidents"))[0]["d"]
            assert [place["log_id"] for place in json.loads(detail)["places"]] == [7, 8]
            told = await incidents.timeline(platform, incident.id)
            assert [(entry.action, entry.detail["hits"]) for entry in told] == [
                ("incident.pii-leak", 1),
                ("incident.pii-leak", 2),
            ]
            assert "78000000" not in detail + str(told)

    asyncio.run(check())


def test_a_place_is_seen_by_row_field_and_customer_once_its_incident_is_closed(database_url: str) -> None:
    async def check() -> None:
        async with operator(database_url) as platform:
            numbers = leaks.Numbers([phone(1), phone(2)])
            both = leaks.of_row(row({"a": phone(1), "b": phone(2)}, 7), numbers, KEY)
            number = await leaks.report(platform, both[:1], "tester@here")
            assert await leaks.unseen(platform, both) == both, "it is open"
            assert await incidents.close(platform, number, actor="tester@here", reason=None)
            assert await leaks.unseen(platform, both) == both[1:]
            others = leaks.of_row(row({"a": phone(1)}, 8), numbers, KEY) + leaks.of_row(
                row({"a": phone(2)}, 7), numbers, KEY
            )
            assert await leaks.unseen(platform, others) == others, "another row; another customer"
            assert await leaks.unseen(platform, []) == []

    asyncio.run(check())


def test_the_digits_of_a_uuid_are_nobodys_number() -> None:
    numbers = leaks.Numbers([phone(123)])
    assert leaks.of_row(row({"a": "ab000000-0780-0001-23ab-0123456789ab"}), numbers, KEY) == []
    beside = {"a": "ab000000-0780-0001-23ab-0123456789ab of 0780-000-123"}
    assert [leak.rendering for leak in leaks.of_row(row(beside), numbers, KEY)] == ["dashed"]
