"""`agentops runbook`: the page, executable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.commands.line import typed
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.fakes.management_api import ManagementApi


def test_they_are_listed_and_shown_without_a_database() -> None:
    listed = typed("runbook", "list", "--json").json
    assert {"name", "title", "steps", "inputs"} == set(listed[0])
    shown = typed("runbook", "show", "critical-issue")
    assert "$ agentops incident kill-switch --reason {reason}" in shown.out
    assert "\n--set 'reason=PII in logs'   What happened" in shown.out
    assert "\n 2. Notify the team (by hand)\n    Post in #incidents on Slack" in shown.out
    assert typed("runbook", "show", "critical-issues").code == 5


def test_a_check_shows_the_steps_and_exits_3() -> None:
    plan = typed("runbook", "run", "deploy-function", "--set", "slug=ai-void-voucher", "--check", "--json")
    assert plan.code == 3
    assert plan.json[1]["what"] == "agentops deploy ai-void-voucher"
    assert {step["status"] for step in plan.json} == {"would_run"}


def test_a_run_prints_rows_on_stdout_and_what_the_steps_print_on_stderr(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    done = typed("runbook", "run", "database-maintenance", "--json")
    assert done.code == 0
    assert [step["status"] for step in done.json] == ["done"] * 4
    assert "$ agentops stats vouchers --days 7" in done.err
    assert '"voucher-codes"' in done.err


def test_a_difference_is_no_failure(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.chdir(tmp_path)
    done = typed("runbook", "run", "deploy-function", "--set", "slug=ai-void-voucher", "--json")
    # Nothing serves here, so what is deployed cannot be verified.
    assert [step["status"] for step in done.json] == ["differs", "failed", "not_run"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"alter table public.vouchers drop constraint vouchers_status_check")
        connection.execute(b"alter table public.vouchers add constraint mine check (status in ('issued'))")
    ended = typed("runbook", "run", "database-maintenance", "--json")
    assert ended.code == 3
    assert [step["status"] for step in ended.json] == ["done", "done", "differs", "differs"]


def test_a_failing_step_ends_the_run_with_its_exit_code(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    done = typed("runbook", "run", "quick-health", "--json")
    assert (done.code, done.json[-1]["status"], done.json[-1]["exit_code"]) == (1, "failed", 1)
    assert "stopped at step 2" in done.err


def test_on_a_project_that_only_forwards_the_critical_issue_goes_on_to_its_end(
    project_api: ManagementApi, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project_api.database_url = database_url
    with psycopg.connect(database_url) as connection:
        connection.execute("drop table public.vouchers cascade")
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{REF}")
    monkeypatch.chdir(tmp_path)
    done = typed("runbook", "run", "critical-issue", "--json")
    assert done.code == 2
    assert [step["status"] for step in done.json] == [
        "done",
        "by_hand",
        "done",
        "done",
        "failed",
        "by_hand",
        "done",
        "by_hand",
    ]
    assert (
        "runbook critical-issue failed in step 5: agentops stats vouchers --days 1 ended with exit code 2" in done.err
    )


def test_a_missing_or_wrong_input_is_a_usage_error() -> None:
    assert typed("runbook", "run", "deploy-function").code == 2
    assert typed("runbook", "run", "deploy-function", "--set", "slug").code == 2
    assert typed("runbook", "run", "deploy-function", "--set", "slgu=x").code == 2
