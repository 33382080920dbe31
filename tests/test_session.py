"""What commands ask of a session: times, durations, confirmations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentops.errors import NotConfirmed, UsageError
from agentops.session import Session, moment, span
from agentops.settings import Process

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1h30m", 5400)])
def test_a_duration_is_written_short(text: str, seconds: int) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "15", "m", "15 m", "15w", "-5m", "1h30"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration"):
        span(text)


def test_a_time_is_so_long_ago_or_iso() -> None:
    assert abs(moment("15m") - (datetime.now(UTC) - timedelta(minutes=15))) < timedelta(seconds=5)
    assert moment("2026-11-23T14:00+02:00") == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert moment("2026-11-23T14:00").tzinfo is not None
    with pytest.raises(UsageError, match="is no time"):
        moment("yesterday")


def session() -> Session:
    async def dispatch(_: Sequence[str]) -> int:
        raise AssertionError

    here = Path("unused")
    return Session(Process("local", "default", here, "tester@here", here), print, dispatch, interactive=False)


def test_without_a_terminal_only_yes_confirms() -> None:
    session().confirm("delete it?", yes=True)
    with pytest.raises(NotConfirmed) as refused:
        session().confirm("delete it?", yes=False)
    assert "--yes" in (refused.value.hint or "")
