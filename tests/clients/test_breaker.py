from __future__ import annotations

import pytest

from agentops.clients.breaker import LONGEST_PAUSE, PAUSE_SECONDS, REQUESTS, Breaker, Open


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("OpenAI", clock)


def fail(breaker: Breaker, times: int) -> list[str | None]:
    return [breaker.report(well=False) for _ in range(times)]


def test_five_failures_in_a_row_open_it_and_then_nothing_is_asked(breaker: Breaker) -> None:
    assert fail(breaker, 4) == [None] * 4
    breaker.admit()
    assert fail(breaker, 1) == ["open"]
    with pytest.raises(Open, match="left alone"):
        breaker.admit()


def test_half_of_ten_requests_in_a_minute_open_it_and_less_does_not(breaker: Breaker, clock: Clock) -> None:
    for _ in range(REQUESTS // 2 - 1):
        breaker.report(well=True)
        assert breaker.report(well=False) is None
    breaker.report(well=True)
    assert breaker.report(well=False) == "open"
    other = Breaker("OpenAI", clock)
    for _ in range(20):
        assert [other.report(well=good) for good in (True, True, False)] == [None] * 3


def test_what_is_older_than_a_minute_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 4)
    breaker.report(well=True)
    fail(breaker, 4)
    clock.now += 61
    assert fail(breaker, 1) == ["open"], "five in a row count, however long they took"
    other = Breaker("OpenAI", clock)
    for _ in range(4):
        fail(other, 1)
        other.report(well=True)
    clock.now += 61
    assert fail(other, 4) == [None] * 4


def test_after_a_pause_one_probe_decides_and_the_pause_doubles_up_to_a_minute(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    pause = PAUSE_SECONDS
    for _ in range(5):
        clock.now += pause - 0.1
        with pytest.raises(Open):
            breaker.admit()
        clock.now += 0.2
        assert breaker.state == "half-open"
        breaker.admit()
        with pytest.raises(Open):
            breaker.admit()
        assert breaker.report(well=False) == "open"
        pause = min(pause * 2, LONGEST_PAUSE)
    clock.now += LONGEST_PAUSE + 0.1
    breaker.admit()
    assert breaker.report(well=True) == "closed"
    assert (breaker.state, fail(breaker, 4)) == ("closed", [None] * 4)


def test_a_probe_that_was_broken_off_makes_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += PAUSE_SECONDS + 0.1
    breaker.admit()
    breaker.abandon()
    breaker.admit()
