"""`agentops stats`: the page's two queries."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from starlette.responses import JSONResponse

from tests.commands.line import typed
from tests.fakes import hosted
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from pathlib import Path

_INSERT = b"""insert into public.vouchers
(code_5, amount_minor, currency, status, whatsapp_e164, policy_number, issued_at, created_at)
values (%s, %s, %s, %s, '+250788000000', %s, %s, %s)"""


@pytest.fixture
def vouchers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    now = datetime.now(UTC)
    rows = [
        (1_000_000, "RWF", "issued", "AI-1", 0),
        (550_050, "RWF", "issued", "AI-2", 0),
        (200, "USD", "issued", "MANUAL", 1),
        (100, "RWF", "redeemed", "AI-3", 3),
        (100, "RWF", "issued", "AI-4", 40),
    ]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number, (amount, currency, status, policy, days) in enumerate(rows):
            at = now - timedelta(days=days)
            connection.execute(_INSERT, (f"{number:05}", amount, currency, status, policy + str(uuid.uuid4()), at, at))


@pytest.mark.usefixtures("vouchers")
def test_vouchers_are_counted_and_summed_by_status_in_major_units() -> None:
    assert typed("stats", "vouchers", "--json").json == [
        {"status": "issued", "count": 2, "sum": 15500.5, "currency": "RWF"},
        {"status": "issued", "count": 1, "sum": 2, "currency": "USD"},
        {"status": "redeemed", "count": 1, "sum": 1, "currency": "RWF"},
    ]
    assert typed("stats", "vouchers", "--days", "1", "--json").json[0]["count"] == 2


@pytest.mark.usefixtures("vouchers")
def test_ai_vouchers_are_counted_for_the_last_dates_that_have_any() -> None:
    found = typed("stats", "ai-vouchers", "--json").json
    assert [entry["count"] for entry in found] == [2, 1, 1]
    assert found == sorted(found, key=lambda entry: str(entry["date"]), reverse=True)
    assert len(typed("stats", "ai-vouchers", "--days", "2", "--json").json) == 2


def test_no_vouchers_is_an_empty_list(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    assert typed("stats", "vouchers", "--json").json == []
    assert typed("stats", "ai-vouchers").out == ""
    assert typed("stats", "vouchers", "--days", "0").code == 2


@pytest.mark.usefixtures("vouchers")
@pytest.mark.parametrize("way", ["api", "DATABASE_URL"])
def test_a_hosted_project_counts_alike(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    lines = (("vouchers",), ("vouchers", "--days", "1"), ("ai-vouchers",), ("ai-vouchers", "--days", "2"))
    own = [typed("stats", *line, "--json").json for line in lines]
    api = ManagementApi(database_url)
    with hosted.project(api, monkeypatch, tmp_path):
        if way == "DATABASE_URL":
            monkeypatch.setenv("DATABASE_URL", database_url)
        assert [typed("stats", *line, "--json").json for line in lines] == own
    assert [path for _, path, _ in api.requests] == (["/database/query/read-only"] * 4 if way == "api" else [])


def test_a_hosted_projects_numbers_may_arrive_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = {"status": "issued", "currency": "RWF", "count": "2", "sum": "15500.5000", "date": "2026-11-01"}
    api = ManagementApi(refuse=lambda _method, _path: JSONResponse([row], 201))
    with hosted.project(api, monkeypatch, tmp_path):
        assert typed("stats", "vouchers", "--json").json == [
            {"status": "issued", "count": 2, "sum": 15500.5, "currency": "RWF"}
        ]
        assert typed("stats", "ai-vouchers", "--json").json == [{"date": "2026-11-01", "count": 2}]


@pytest.mark.parametrize("way", ["api", "DATABASE_URL"])
@pytest.mark.parametrize("verb", ["vouchers", "ai-vouchers"])
def test_a_hosted_project_that_only_forwards_says_in_one_sentence_that_the_vouchers_are_elsewhere(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, verb: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"drop table public.vouchers cascade")
    with hosted.project(ManagementApi(database_url), monkeypatch, tmp_path):
        if way == "DATABASE_URL":
            monkeypatch.setenv("DATABASE_URL", database_url)
        refused = typed("stats", verb)
    where = f"project {hosted.TARGET}" if way == "api" else "the database of DATABASE_URL"
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        f"agentops: {where} has no table public.vouchers\n"
        "  → ask the stack behind its forwarders: --target 'postgresql://…', or its address as DATABASE_URL\n"
    )


def test_where_a_server_is_named_the_way_to_its_vouchers_is_the_line_to_type(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"drop table public.vouchers cascade")
    with hosted.project(ManagementApi(database_url), monkeypatch, tmp_path, server="postgresql://a:secret@db/stack"):
        refused = typed("stats", "vouchers")
    assert refused.code == 2
    assert "agentops --target 'postgresql://a:***@db/stack' stats vouchers" in refused.err
    assert "secret" not in refused.err


def test_another_refusal_of_a_hosted_projects_database_stays_what_it_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"alter table public.vouchers rename column amount_minor to amount")
    with hosted.project(ManagementApi(database_url), monkeypatch, tmp_path):
        refused = typed("stats", "vouchers")
    assert refused.code == 2
    assert "amount_minor" in refused.err
