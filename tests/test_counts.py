"""One is one, and everything else is many."""

from __future__ import annotations

import pytest

from agentops.counts import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages"), (2000, "2,000 messages")]
)
def test_a_noun_fits_its_number(number: int, words: str) -> None:
    assert counted(number, "message") == words


def test_a_plural_that_is_no_added_s_is_given() -> None:
    assert [counted(number, "reply", "replies") for number in (1, 3)] == ["1 reply", "3 replies"]
