"""What a process knows of customers is at most five minutes old, and nothing where it might not hear of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.store import lookups as module
from agentops.store.lookups import Asked, Lookups
from agentops.store.profiles import Profile

if TYPE_CHECKING:
    import pytest

ADA = Profile("1", "Ada")
MINE = Asked("+250788000001", walled=True, deployed="1 today")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock | None = None) -> Lookups:
    lookups = Lookups(clock or Clock())
    lookups.open()
    return lookups


def keep(lookups: Lookups, asked: Asked = MINE, profile: Profile | None = ADA) -> None:
    lookups.keep(asked, lookups.ticket(), profile)


def test_an_answer_is_kept_for_five_minutes_from_when_it_was_read() -> None:
    clock = Clock()
    lookups = opened(clock)
    ticket = lookups.ticket()
    clock.now += 100
    lookups.keep(MINE, ticket, ADA)
    clock.now += 199.9
    found = lookups.find(MINE)
    assert found is not None
    assert found.profile == ADA
    clock.now += 0.1
    assert lookups.find(MINE) is None


def test_that_there_is_no_such_customer_is_an_answer_too() -> None:
    lookups = opened()
    keep(lookups, profile=None)
    found = lookups.find(MINE)
    assert found is not None
    assert found.profile is None


def test_whoever_asks_otherwise_gets_another_answer() -> None:
    lookups = opened()
    keep(lookups)
    for other in (
        Asked("+250788000002", walled=True, deployed="1 today"),
        Asked("+250788000001", walled=False, deployed="1 today"),
        Asked("+250788000001", walled=True, deployed="1 tomorrow"),
    ):
        assert lookups.find(other) is None
    unwalled = Asked(MINE.phone, walled=False, deployed=MINE.deployed)
    keep(lookups, unwalled, None)
    assert lookups.find(MINE) != lookups.find(unwalled)
    keep(lookups, Asked(MINE.phone, walled=False, deployed="1 tomorrow"))
    assert lookups.find(MINE) is None, "what an older load of the function kept is gone"


def test_one_that_is_not_open_keeps_nothing_and_closing_forgets_all() -> None:
    lookups = Lookups()
    keep(lookups)
    assert (lookups.find(MINE), len(lookups)) == (None, 0)
    lookups.open()
    keep(lookups)
    under_way = lookups.ticket()
    lookups.close()
    assert (lookups.find(MINE), len(lookups)) == (None, 0)
    lookups.open()
    lookups.keep(MINE, under_way, ADA)
    assert lookups.find(MINE) is None, "it was read before the line broke: changes since were not heard"


def test_a_change_forgets_its_customer_and_whatever_was_being_read_meanwhile() -> None:
    lookups = opened()
    other = Asked("+250788000002", walled=True, deployed="")
    keep(lookups)
    keep(lookups, other)
    under_way = lookups.ticket()
    lookups.forget(MINE.phone)
    lookups.keep(MINE, under_way, ADA)
    assert lookups.find(MINE) is None
    assert lookups.find(other) is not None


def test_those_asked_for_last_stay_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 3)
    lookups = opened()
    asked = [Asked(f"+25078800000{number}", walled=True, deployed="") for number in range(4)]
    for each in asked[:3]:
        keep(lookups, each)
    assert lookups.find(asked[0]) is not None
    keep(lookups, asked[3])
    assert [lookups.find(each) is not None for each in asked] == [True, False, True, True]
    assert len(lookups) == 3
