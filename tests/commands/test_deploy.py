"""`agentops deploy …` as it is typed, in a project folder of its own."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.commands.line import typed
from tests.platforms.local.serving import GOOD


@pytest.fixture(autouse=True)
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two functions, on a target of its own."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    folder = tmp_path / "project"
    (folder / "functions" / "hello").mkdir(parents=True)
    (folder / "functions" / "hello" / "main.py").write_text(GOOD)
    (folder / "functions" / "greet.py").write_text(GOOD)
    monkeypatch.chdir(folder)
    return folder


def write(text: str, name: str = "hello/main.py") -> None:
    Path("functions", name).write_text(text)


def test_the_second_deploy_changes_nothing_and_says_how_to_reload() -> None:
    first = typed("deploy", "hello", "greet", "--json")
    assert first.code == 0, first.err
    assert [(item["slug"], item["version"], item["changed"], item["status"]) for item in first.json] == [
        ("hello", 1, True, "stored"),
        ("greet", 1, True, "stored"),
    ]
    assert first.err.startswith("note: no server runs on target postgresql:")
    second = typed("deploy", "hello", "greet", "--json")
    assert (second.code, [item["status"] for item in second.json]) == (0, ["unchanged", "unchanged"])
    assert "--force" in second.err
    forced = typed("deploy", "hello", "--force", "--json")
    assert [(item["version"], item["changed"]) for item in forced.json] == [(1, True)]


def test_all_deploys_the_projects_and_the_packages_functions() -> None:
    done = typed("deploy", "all", "--json")
    assert done.code == 0, done.err
    slugs = [item["slug"] for item in done.json]
    assert {"hello", "greet", "ai-create-voucher", "ai-lookup-customer"} <= set(slugs)
    assert slugs == sorted(slugs)
    assert [item["slug"] for item in typed("deploy", "list", "--json").json] == slugs
    assert {item["changed"] for item in typed("deploy", "all", "--json").json} == {False}


def test_a_deploy_that_somebody_overtakes_is_a_conflict_that_names_the_history(database_url: str) -> None:
    assert typed("deploy", "hello").code == 0
    write(GOOD + "# mine")
    with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as watch:
        other.execute(
            "insert into agentops.versions (slug, version, sha256, entrypoint, files, origin, created_by)"
            " select slug, version + 1, 'theirs', entrypoint, files, origin, 'them' from agentops.versions"
        )

        def commit_when_it_waits() -> None:
            until = time.monotonic() + 20
            here = "select pid from pg_stat_activity where datname = current_database()"
            waits = f"select 1 from pg_locks where not granted and pid in ({here})"  # noqa: S608 (constants)
            while not watch.execute(waits).fetchone():
                assert time.monotonic() < until, "the deploy never met the other one"
                time.sleep(0.01)
            other.commit()

        with ThreadPoolExecutor(1) as thread:
            other_deploy = thread.submit(commit_when_it_waits)
            result = typed("deploy", "hello", "--json")
            other_deploy.result()
    assert (result.code, result.json[0]["status"], result.json[0]["version"]) == (7, "replaced", 1)
    assert "agentops deploy history hello" in result.err


def test_check_exits_3_where_something_would_change_and_writes_nothing() -> None:
    plan = typed("deploy", "hello", "--check", "--json")
    assert (plan.code, plan.json[0]["status"], plan.json[0]["changed"]) == (3, "would_change", True)
    assert typed("deploy", "list", "--json").json == []
    typed("deploy", "hello")
    assert typed("deploy", "hello", "--check").code == 0


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("x = (\n", "functions/hello/main.py:1: SyntaxError: '(' was never closed"),
        ("import os\nfrom . import helper\n", "functions/hello/main.py:2: ImportError: cannot import name 'helper'"),
        ("handle = None\n", "functions/hello/main.py:1: has no handle"),
        ("\nraise SystemExit\n", "functions/hello/main.py:2: SystemExit"),
        ("\nimport os\nprint('bye', flush=True)\nos._exit(9)\n", "ended the process that tried it (code 9): bye"),
        ("async def handle(r, s):\n    return 1 / 0\n", "functions/hello/main.py:2: ZeroDivisionError"),
    ],
)
def test_a_broken_bundle_is_refused_with_its_line_before_anything_is_switched(source: str, finding: str) -> None:
    typed("deploy", "hello")
    write(source)
    refused = typed("deploy", "hello", "--json")
    assert refused.code == 2
    (item,) = refused.json
    assert (item["status"], item["version"], item["changed"]) == ("failed", 1, False)
    assert finding in item["finding"]
    assert "Traceback" not in refused.err
    assert "agentops deploy hello" in refused.err
    assert [entry["version"] for entry in typed("deploy", "history", "hello", "--json").json] == [1]


def test_one_broken_bundle_stops_no_other_and_the_table_says_what_is_live() -> None:
    write("boom\n")
    mixed = typed("deploy", "hello", "greet", "--json")
    assert (mixed.code, [item["status"] for item in mixed.json]) == (10, ["failed", "stored"])
    assert "NameError: name 'boom' is not defined" in mixed.json[0]["finding"]


def test_a_bundle_that_is_no_text_is_refused_like_a_broken_one() -> None:
    Path("functions/hello/logo.bin").write_bytes(b"\xff\x00")
    mixed = typed("deploy", "hello", "greet", "--json")
    assert (mixed.code, mixed.json[0]["status"]) == (10, "failed")
    assert "logo.bin" in mixed.json[0]["finding"]


def test_a_get_that_needs_the_database_is_left_to_the_servers() -> None:
    write(
        "from agentops.web import json_response\n"
        "async def handle(request, stack):\n"
        "    return json_response(200, await stack.database.query('select 1 as one'))\n"
    )
    assert typed("deploy", "hello", "--json").json[0]["status"] == "stored"


@pytest.mark.parametrize("slug", ["nope", "../../etc", "Hello"])
def test_an_unknown_slug_lists_the_known_ones_and_deploys_nothing(slug: str) -> None:
    lost = typed("deploy", "hello", slug, "--json")
    assert (lost.code, lost.out) == (5, "")
    assert "greet, hello" in lost.err
    assert typed("deploy", "list", "--json").json == []


def test_history_and_rollback_go_through_versions() -> None:
    for extra in ("", "# two\n", "# three\n"):
        write(GOOD + extra)
        typed("deploy", "hello")
    history = typed("deploy", "history", "hello", "--json").json
    assert [(entry["version"], entry["status"]) for entry in history] == [(3, "active"), (2, "stored"), (1, "stored")]
    assert typed("deploy", "rollback", "hello", "--check").code == 3
    back = typed("deploy", "rollback", "hello", "--to", "1", "--json")
    assert (back.code, back.json[0]["version"], back.json[0]["changed"]) == (0, 1, True)
    assert typed("deploy", "rollback", "hello", "--to", "9").code == 5
    assert "the functions are: " in typed("deploy", "history", "nope").err


def test_going_back_further_than_the_oldest_version_names_those_that_there_are() -> None:
    typed("deploy", "hello")
    only = typed("deploy", "rollback", "hello")
    assert only.code == 5
    assert only.err.endswith("  → it is the only one; change the source, then: agentops deploy hello\n")
    write(GOOD + "# two\n")
    typed("deploy", "hello")
    assert typed("deploy", "rollback", "hello").code == 0
    again = typed("deploy", "rollback", "hello")
    assert again.code == 5
    assert again.err.endswith(
        "agentops: hello has no version before 1 to go back to\n  → agentops deploy rollback hello --to 2\n"
    )
    write(GOOD + "# three\n")
    typed("deploy", "hello")
    typed("deploy", "rollback", "hello", "--to", "1")
    assert "rollback hello --to 3   (there are 3, 2)\n" in typed("deploy", "rollback", "hello").err


@pytest.mark.parametrize("words", [("hello",), ("hello", "--force"), ("all", "--force")])
def test_the_line_to_type_after_a_failure_keeps_the_force(words: tuple[str, ...]) -> None:
    write("boom\n")
    failed = typed("deploy", *words)
    assert failed.code in {2, 10}
    assert f"mend, then: agentops deploy hello{' --force' if '--force' in words else ''}\n" in failed.err


def test_deleting_asks_and_is_done_once() -> None:
    typed("deploy", "hello")
    unasked = typed("deploy", "delete", "hello")
    assert (unasked.code, unasked.out) == (6, "")
    assert typed("deploy", "delete", "hello", "--check").code == 3
    gone = typed("deploy", "delete", "hello", "--yes", "--json")
    assert (gone.code, gone.json[0]["status"], gone.json[0]["changed"]) == (0, "deleted", True)
    again = typed("deploy", "delete", "hello", "--json")
    assert (again.code, again.json[0]["status"]) == (0, "absent")


def test_diff_shows_what_a_deploy_would_change() -> None:
    typed("deploy", "hello")
    same = typed("deploy", "diff", "hello", "--json")
    assert (same.code, same.json) == (0, {"slug": "hello", "changed": False, "diff": ""})
    write(GOOD.replace("True", "False"))
    changed = typed("deploy", "diff", "hello")
    assert changed.code == 3
    assert "--- active/main.py\n+++ here/main.py\n" in changed.out
    assert '+    return json_response(200, {"success": False})' in changed.out
    assert changed.out.endswith("\n")
    assert not changed.out.endswith("\n\n"), "no line of its own"
    new = typed("deploy", "diff", "greet", "--json").json
    assert (new["changed"], new["diff"].startswith("--- /dev/null\n+++ here/greet.py\n")) == (True, True)


def test_what_a_bundle_prints_while_it_is_tried_never_reaches_stdout() -> None:
    write("print('noise')\nimport os; os.write(1, b'noise')\n" + GOOD)
    done = typed("deploy", "hello", "--json")
    assert done.json[0]["status"] == "stored"
    assert "noise" not in done.out + done.err


def test_the_working_folder_is_no_part_of_what_a_bundle_can_import() -> None:
    Path("helper.py").write_text("X = 1\n")
    assert os.access("helper.py", os.R_OK)
    write("import helper\n" + GOOD)
    assert "No module named 'helper'" in typed("deploy", "hello", "--json").json[0]["finding"]
