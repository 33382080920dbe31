"""`agentops limits`: what holds, and what was set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentops.store import costs, limits
from agentops.store.database import Database
from tests.commands.line import typed

DOCUMENT = Path(__file__).parents[2] / "docs" / "limits.md"


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


def test_defaults_are_shown_with_todays_use() -> None:
    shown = {entry["name"]: entry for entry in typed("limits", "show", "--json").json}
    assert list(shown) == list(limits.KNOWN)
    assert list(shown["day-sum"]) == [
        "name", "value", "unit", "used", "default", "what", "updated_by", "updated_at",
    ]  # fmt: skip
    assert (shown["day-sum"]["value"], shown["day-sum"]["used"], shown["day-sum"]["updated_by"]) == (
        10_000_000,
        0,
        None,
    )
    assert shown["voucher-approval-above"]["value"] is None


def test_a_limit_is_set_taken_away_and_given_back_and_a_second_time_changes_nothing() -> None:
    assert typed("limits", "set", "voucher-max=20000", "--check").code == 3
    assert typed("limits", "set", "voucher-max=20000", "day-sum=none", "--json").json == [
        {"name": "voucher-max", "value": 20000, "previous": 50000, "changed": True},
        {"name": "day-sum", "value": None, "previous": 10000000, "changed": True},
    ]
    again = typed("limits", "set", "voucher-max=20000", "day-sum=none", "--json").json
    assert [entry["changed"] for entry in again] == [False, False]
    assert typed("limits", "set", "voucher-max=20000", "--check").code == 0
    shown = {entry["name"]: entry for entry in typed("limits", "show", "--json").json}
    assert (shown["voucher-max"]["value"], shown["voucher-max"]["updated_by"]) == (20000, "tester@here")
    assert typed("limits", "set", "voucher-max=default", "--json").json == [
        {"name": "voucher-max", "value": 50000, "previous": 20000, "changed": True}
    ]
    assert typed("limits", "set", "voucher-max=default", "--check").code == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("voucher-maxx=1", "voucher-max, customer-day-count"),
        ("voucher-max", "limits set voucher-max=VALUE"),
        ("voucher-max=-1", "a whole number, none, or default"),
        ("voucher-max=1e3", "a whole number, none, or default"),
        ("voucher-max=²", "a whole number, none, or default"),
        ("day-offset-minutes=900", "minutes from -840 to 840"),
        ("voucher-max=1.5", "a whole number, none, or default"),
        (f"voucher-max={'9' * 5000}", "a whole number, none, or default"),
        ("day-cost=0.0000001", "US dollars such as 2 or 0.25"),
        ("day-cost=1000001", "US dollars such as 2 or 0.25"),
        ("day-cost=-1", "US dollars such as 2 or 0.25"),
    ],
)
def test_a_slip_is_one_sentence_and_sets_nothing(setting: str, said: str) -> None:
    refused = typed("limits", "set", "day-count=5", setting)
    assert refused.code == 2
    assert said in refused.err
    assert {entry["updated_by"] for entry in typed("limits", "show", "--json").json} == {None}


def test_costs_are_set_and_shown_in_dollars_with_what_is_used_today(database_url: str) -> None:
    async def spend() -> None:
        database = await Database.open(database_url)
        try:
            found = await costs.reserve(database, "+250788000001", 1_500_000)
            assert isinstance(found, costs.Reservation)
            await costs.settle(database, found, 250_000)
            assert isinstance(await costs.reserve(database, "+250788000001", 500_000), costs.Reservation)
        finally:
            await database.close()

    assert typed("limits", "set", "customer-day-cost=2.25", "day-cost=none", "--json").json == [
        {"name": "customer-day-cost", "value": 2.25, "previous": 1, "changed": True},
        {"name": "day-cost", "value": None, "previous": 50, "changed": True},
    ]
    asyncio.run(spend())
    shown = {entry["name"]: entry for entry in typed("limits", "show", "--json").json}
    own, everyone = shown["customer-day-cost"], shown["day-cost"]
    assert (own["value"], own["used"], own["unit"], own["default"]) == (2.25, None, "USD", 1)
    assert (everyone["value"], everyone["used"], everyone["default"]) == (None, 0.75, 50)
    assert typed("limits", "set", "customer-day-cost=2.250", "--check").code == 0
    assert typed("limits", "set", "customer-day-cost=default", "day-cost=default", "--json").json[0]["value"] == 1


def test_the_document_tells_the_defaults_as_they_are() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, known in limits.KNOWN.items():
        default = "none" if known.default is None else f"{known.shown(known.default):,}"
        assert f"| `{name}` | {default} |" in text
