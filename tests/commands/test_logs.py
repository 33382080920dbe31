"""`agentops logs`: what is printed, and what is written to files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops import pseudonyms
from tests.commands.line import typed
from tests.fakes import hosted
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StackKeys


@pytest.fixture
def logged(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stack with three events of one function, the target of every command."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"""insert into agentops.logs (at, level, event, correlation_id, function, data)
            select now() - make_interval(mins => 4 - i), 'info', 'ai.e' || i, 'abc-' || i, 'ai-create-voucher',
                   jsonb_build_object('usage', i) from generate_series(1, 3) i"""
        )
    return database_url


def test_shown_in_a_pipe_they_are_raw_json_lines_in_time_order(logged: str) -> None:
    assert logged
    shown = typed("logs", "show", "--limit", "2")
    assert shown.code == 0
    assert [json.loads(line)["event"] for line in shown.out.splitlines()] == ["ai.e2", "ai.e3"]
    assert '"correlation_id": "abc-2"' in shown.out


def test_filters_combine(logged: str) -> None:
    assert logged
    shown = typed("logs", "show", "ai-create-voucher", "--since", "1h", "--grep", '"usage": 2', "--event", "ai.*")
    assert [json.loads(line)["event"] for line in shown.out.splitlines()] == ["ai.e2"]


def test_an_unknown_function_is_noted_and_shows_nothing(logged: str) -> None:
    assert logged
    shown = typed("logs", "show", "ai-create-vouchers")
    assert (shown.code, shown.out) == (0, "")
    assert "no function is named ai-create-vouchers" in shown.err
    assert shown.err.endswith("note: no stored line matches\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--level", "loud"], "no level is named 'loud'"), (["--since", "yesterday"], "'yesterday' is no time")],
)
def test_a_wrong_filter_is_refused(logged: str, words: list[str], message: str) -> None:
    assert logged
    shown = typed("logs", "show", *words)
    assert shown.code == 2
    assert message in shown.err


def test_a_download_is_private_and_complete(logged: str, tmp_path: Path) -> None:
    assert logged
    file = tmp_path / "logs.txt"
    done = typed("logs", "download", "ai-create-voucher", "-o", str(file), "--json")
    assert done.json == {"slug": "ai-create-voucher", "file": str(file), "lines": 3, "bytes": file.stat().st_size}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["usage"] for line in file.read_text(encoding="utf-8").splitlines()] == [1, 2, 3]
    assert list(tmp_path.glob(".logs*")) == []


def test_a_download_overwrites_only_by_force(logged: str, tmp_path: Path) -> None:
    assert logged
    file = tmp_path / "logs.txt"
    file.write_text("mine")
    refused = typed("logs", "download", "ai-create-voucher", "-o", str(file))
    assert (refused.code, file.read_text()) == (7, "mine")
    assert "--force" in refused.err
    assert typed("logs", "download", "ai-create-voucher", "-o", str(file), "--force").code == 0
    assert file.read_text() != "mine"


def test_a_download_to_nowhere_says_so_before_it_reads(tmp_path: Path) -> None:
    refused = typed("logs", "download", "ai-create-voucher", "-o", str(tmp_path / "none" / "logs.txt"))
    assert refused.code == 2
    assert "mkdir -p" in refused.err


def test_a_tail_prints_what_is_there_then_what_comes_until_ctrl_c(logged: str) -> None:
    environment = {**os.environ, "AGENTOPS_TARGET": logged, "PYTHONPATH": "src"}
    command = [sys.executable, "-m", "agentops", "logs", "tail", "--correlation", "abc-3"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["event"] == "ai.e3"
        with psycopg.connect(logged, autocommit=True) as connection:
            connection.execute(
                b"""insert into agentops.logs (at, level, event, correlation_id, function)
                values (now(), 'info', 'ai.new', 'abc-3', 'f'), (now(), 'info', 'ai.other', 'abc-4', 'f')"""
            )
        assert json.loads(tail.stdout.readline())["event"] == "ai.new"
        begun = time.monotonic()
        tail.send_signal(2)
        assert tail.wait(5) == 130
        assert time.monotonic() - begun < 2


NUMBER = "+250788000001"


def planted(url: str, *lines: dict[str, object]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            b"""insert into agentops.logs (at, level, event, correlation_id, function, data)
            select now(), 'info', 'ai.planted', 'abc-9', 'f', r from jsonb_array_elements(%s::jsonb) r""",
            [json.dumps(lines)],
        )
        connection.execute(
            b"insert into agentops.customers (bsuid, phone, key) values ('RW.1', %s, 'RW.1') on conflict do nothing",
            [NUMBER],
        )


def test_one_customers_events_are_found_by_their_number_however_it_is_typed(
    logged: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    key = pseudonyms.key(stack_keys.private)
    own, by_id = pseudonyms.customer(key, NUMBER), pseudonyms.customer(key, "RW.1")
    other = pseudonyms.customer(key, "+250788000002")
    planted(
        logged,
        {"customer": own, "n": 1},
        {"customer": other, "n": 2},
        {"customer": other, "about": own, "n": 3},
        {"customers": [other, own], "n": 4},
        {"customer": by_id, "n": 5},
        {"n": 6},
    )
    for typed_number in (NUMBER, "0788 000 001", "RW.1"):
        shown = typed("logs", "show", "--customer", typed_number)
        assert [json.loads(line)["n"] for line in shown.out.splitlines()] == [1, 3, 4, 5], typed_number
    assert typed("logs", "show", "--customer", "12").code == 2


def test_a_pseudonym_is_taken_as_it_stands_in_the_logs_and_needs_no_key(logged: str) -> None:
    own, other = "c1_abcdefghij234567", "c1_zzzzzzzzzzzzzzzz"
    planted(logged, {"customer": own, "n": 1}, {"customer": other, "about": own, "n": 2}, {"customer": other, "n": 3})
    shown = typed("logs", "show", "--customer", own)
    assert (shown.code, [json.loads(line)["n"] for line in shown.out.splitlines()]) == (0, [1, 2])


@pytest.mark.parametrize("word", ["foo", "c1_short", "m1_abcdefghij234567", "rw.1", ""])
@pytest.mark.parametrize("verb", [("show",), ("tail",), ("download", "ai-one", "-o", "logs.txt")])
def test_a_word_that_names_no_customer_is_refused_in_one_sentence(
    logged: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: tuple[str, ...], word: str
) -> None:
    assert logged
    monkeypatch.chdir(tmp_path)
    refused = typed("logs", *verb, f"--customer={word}")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        f"agentops: {word!r} is no customer: no number, no user id and no pseudonym\n"
        "  → --customer '+250788123456', --customer RW.1349… or, as events carry it, --customer c1_…\n"
    )


def test_a_hosted_projects_events_are_found_by_their_pseudonym_alone(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, other = "c1_abcdefghij234567", "c1_zzzzzzzzzzzzzzzz"
    slug = hosted.SLUGS[0]
    named: list[dict[str, object]] = [
        {"customer": own}, {"customer": other}, {"about": own}, {"customers": [other, own]},
    ]  # fmt: skip
    project = ManagementApi(database_url, functions={slug: hosted.deployed(slug)})
    with hosted.project(project, monkeypatch, tmp_path) as api:
        for number, fields in enumerate(named):
            event = {"event": "ai.planted", "level": "info", "correlation_id": "", "function": slug, **fields}
            api.log("function_logs", json.dumps({**event, "n": number}), function_id=f"id-{slug}", level="log")
        shown = typed("logs", "show", "--customer", own)
        assert (shown.code, [json.loads(line)["n"] for line in shown.out.splitlines()]) == (0, [0, 2, 3])
        refused = typed("logs", "show", "--customer", NUMBER)
        assert (refused.code, refused.out) == (2, "")
        assert "--customer c1_…" in refused.err
        assert typed("logs", "show", "--customer", "foo").code == 2


def test_without_the_stacks_key_nobody_is_found_and_the_error_says_what_is_missing(logged: str) -> None:
    assert logged
    for words in (("show", "--customer", NUMBER), ("scan",)):
        refused = typed("logs", *words)
        assert (refused.code, refused.out) == (2, "")
        assert "private key is not on this machine" in refused.err


def test_a_scan_finds_what_slipped_through_and_opens_an_incident(
    logged: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    planted(logged, {"error": "nothing here"})
    clean = typed("logs", "scan", "--json")
    assert (clean.code, clean.json) == (0, [])
    planted(logged, {"error": f"no answer for {NUMBER}"}, {"a": [int(NUMBER[1:])]})
    found = typed("logs", "scan", "--since", "1h", "--json")
    assert found.code == 3
    customer = pseudonyms.customer(pseudonyms.key(stack_keys.private), NUMBER)
    assert [(hit["field"], hit["rendering"], hit["customer"], hit["event"]) for hit in found.json] == [
        ("data.error", "e164", customer, "ai.planted"),
        ("data.a[0]", "json_int", customer, "ai.planted"),
    ]
    assert all(set(hit) == {"log_id", "timestamp", "event", "field", "customer", "rendering"} for hit in found.json)
    assert typed("logs", "scan").code == 3
    shown = typed("incident", "list", "--json").json
    assert [(each["kind"], each["status"]) for each in shown] == [("pii-leak", "open")]
    report = typed("incident", "show", str(shown[0]["id"]), "--json")
    assert "788000001" not in found.out + found.err + report.out
    assert report.json["timeline"][0]["detail"]["places"][0]["field"] == "data.error"


def test_what_a_closed_incident_names_is_passed_over_unless_everything_is_wanted(
    logged: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    planted(logged, {"error": f"no answer for {NUMBER}"})
    found = typed("logs", "scan", "--json")
    assert (found.code, len(found.json)) == (3, 1)
    assert typed("logs", "scan").code == 3, "it is still open"
    first = typed("incident", "list", "--json").json[0]["id"]
    assert typed("incident", "close", str(first)).code == 0

    known = typed("logs", "scan", "--json")
    assert (known.code, known.json) == (0, [])
    assert "no new line since" in known.err
    assert "holds a customer's number (1 customer known)" in known.err
    assert "1 line that a closed incident names passed over (--all shows them)" in known.err
    assert len(typed("incident", "list", "--json").json) == 1

    planted(logged, {"error": f"again {NUMBER}"})
    both = typed("logs", "scan", "--json")
    assert (both.code, [hit["log_id"] for hit in both.json]) == (3, [found.json[0]["log_id"] + 1])
    (second,) = (each["id"] for each in typed("incident", "list", "--json").json if each["status"] == "open")
    assert f"in 1 log line; incident {second}; 1 line that a closed incident names passed over" in both.err

    everything = typed("logs", "scan", "--all", "--json")
    assert (everything.code, len(everything.json)) == (3, 2)
    assert "passed over" not in everything.err
