"""What commands ask of a session: times, durations, confirmations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentops.errors import NotConfirmed, UsageError
from agentops.session import Session, moment, span
from agentops.settings import Process
from tests.commands.line import typed
from tests.fakes.hosted import TARGET

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


SERVED = [
    "chat --message hello",
    "conversations list",
    "inbox list",
    "limits show",
    "outbox list",
    "vouchers list --pending",
]
OTHERWISE = {
    "up": ("is always up", "agentops deploy all"),
    "status": ("no servers of ours run there", "agentops health"),
    "down": ("cannot bring down", "agentops incident kill-switch"),
}


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose target is a hosted project that nobody can reach."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", "sbp_" + "0" * 40)
    monkeypatch.setenv("SUPABASE_API_URL", "http://127.0.0.1:1")
    (tmp_path / "agentops.toml").write_text(f'target = "prod"\n[targets.prod]\nurl = "{TARGET}"\n')
    return tmp_path / "agentops.toml"


@pytest.mark.parametrize("line", SERVED)
def test_what_only_our_stack_can_do_is_refused_with_the_command_and_the_stack_that_can(hosted: Path, line: str) -> None:
    command = " ".join(word for word in line.split()[:2] if not word.startswith("-"))
    done = typed(*line.split())
    assert done.code == 2
    assert f"{command} needs a stack that agentops serves, and {TARGET} is a hosted project" in done.err
    assert (
        f"→ agentops --target postgresql://… {command}, on the stack behind its forwarders, if it has one" in done.err
    )
    hosted.write_text(hosted.read_text() + 'server = "postgresql://me:secret@db.example/stack"\n')
    done = typed("--target", "prod", *line.split())
    stack = "'postgresql://me:***@db.example/stack'"
    assert f"→ agentops --target {stack} {command}, on the stack behind its forwarders\n" in done.err


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize("line", OTHERWISE)
def test_what_a_hosted_project_has_no_need_of_names_what_to_use(line: str) -> None:
    done = typed(line)
    words, instead = OTHERWISE[line]
    first, second = done.err.splitlines()
    assert (done.code, words in first, TARGET in first, instead in second) == (2, True, True, True), done.err
