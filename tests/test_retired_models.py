"""Which models are gone, and what takes their place."""

from __future__ import annotations

from datetime import date

import pytest

from agentops.retired_models import retirement
from agentops.settings import DEFAULT_MODEL


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-4-0613", "o3-mini-2025-01-31"])
def test_a_model_and_its_snapshots_end_together(model: str) -> None:
    ends = retirement(model)
    assert ends is not None
    assert (ends.model, ends.day, ends.replacement) == (model, date(2026, 10, 23), "gpt-6-luna")
    assert ends.past(date(2026, 10, 23))
    assert not ends.past(date(2026, 10, 22))


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "gpt-realtime-2.1", "gpt-4-custom", "", "my-own-model"])
def test_a_model_of_which_nothing_is_known_is_taken_as_it_is(model: str) -> None:
    assert retirement(model) is None


def test_no_replacement_is_itself_retiring() -> None:
    for model in ("gpt-5", "gpt-5-mini", "gpt-4o", "gpt-realtime", "gpt-realtime-mini", "gpt-5.1"):
        ends = retirement(model)
        assert ends is not None
        assert ends.replacement is not None
        assert retirement(ends.replacement) is None
