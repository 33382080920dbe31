"""A function that did not answer after its deploy stays unverified, and is called again, until it answers."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.machines import lines
from tests.platforms.supabase.deploying import deployed, elsewhere, statuses

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.edge import Folder
    from tests.fakes.machines import Machines
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def silent(project_api: ManagementApi, folder: Folder) -> ManagementApi:
    """Of two functions that were deployed, one does not answer."""
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    project_api.statuses["ai-one"] = 500
    assert statuses(deployed(code=10)) == {"ai-one": "unverified", "ai-two": "active"}
    project_api.requests.clear()
    return project_api


def calls(api: ManagementApi) -> set[str]:
    return {path.rpartition("/")[2] for _, path, _ in api.requests if path.startswith("/functions/v1/")}


def test_it_is_called_again_and_nothing_is_sent_again(silent: ManagementApi) -> None:
    results = deployed(code=10)
    assert statuses(results) == {"ai-one": "unverified", "ai-two": "unchanged"}
    assert (results[0]["finding"], results[0]["changed"]) == ("it answers 500", False)
    assert (silent.writes, calls(silent)) == ([], {"ai-one"})
    assert deployed("ai-one", code=8)[0]["status"] == "unverified"


def test_once_it_answers_it_is_unchanged_and_not_called_any_more(silent: ManagementApi) -> None:
    del silent.statuses["ai-one"]
    assert set(statuses(deployed()).values()) == {"unchanged"}
    assert (silent.writes, calls(silent)) == ([], {"ai-one"})
    silent.requests.clear()
    silent.statuses["ai-one"] = 500  # what breaks later is for `health` to say
    assert set(statuses(deployed()).values()) == {"unchanged"}
    assert calls(silent) == set()


@pytest.mark.parametrize("words", [("ai-one",), ("rollback", "ai-one", "--to", "1")])
def test_a_check_says_so_and_neither_calls_it_nor_writes_anything_down(
    silent: ManagementApi, words: tuple[str, ...]
) -> None:
    del silent.statuses["ai-one"]
    before = lines("deployments.jsonl")
    done = typed("deploy", *words, "--check", "--json")
    (found,) = done.json
    assert (done.code, found["status"], found["changed"]) == (8, "unverified", False)
    assert found["finding"] == "it has not been seen to answer since its deploy"
    assert (silent.writes, calls(silent), lines("deployments.jsonl")) == ([], set(), before)


def test_a_check_of_what_was_deployed_elsewhere_writes_nothing_down(
    project_api: ManagementApi, folder: Folder, tmp_path: Path
) -> None:
    elsewhere(project_api, "ai-one", "same")
    elsewhere(project_api, "ai-two", "theirs")
    folder.function("ai-one", "same")
    folder.function("ai-two", "mine")
    done = typed("deploy", "all", "--check", "--json")
    assert (done.code, statuses(done.json)) == (3, {"ai-one": "unchanged", "ai-two": "would_change"})
    assert (calls(project_api), list(tmp_path.glob("home/supabase/**/*.json*"))) == (set(), [])


def test_what_was_deployed_elsewhere_is_called_before_it_is_called_unchanged(
    project_api: ManagementApi, folder: Folder
) -> None:
    elsewhere(project_api, "ai-one", "same")
    folder.function("ai-one", "same")
    project_api.statuses["ai-one"] = 503
    assert statuses(deployed("ai-one", code=8)) == {"ai-one": "unverified"}
    assert statuses(deployed("ai-one", code=8)) == {"ai-one": "unverified"}
    del project_api.statuses["ai-one"]
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    project_api.requests.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert {path for _, path, _ in project_api.requests} == {"/functions"}


def test_what_was_only_found_there_nobody_has_seen_answer_whatever_its_line_says(
    project_api: ManagementApi, folder: Folder, tmp_path: Path
) -> None:
    elsewhere(project_api, "ai-one", "same")
    folder.function("ai-one", "syntax error")
    deployed("ai-one", code=1)
    (file,) = tmp_path.glob("home/supabase/*/deployments.jsonl")
    # As an older agentops wrote it.
    file.write_text(file.read_text().replace('"answered": false', '"answered": true'))
    folder.function("ai-one", "same")
    project_api.statuses["ai-one"] = 503
    assert statuses(deployed("ai-one", code=8)) == {"ai-one": "unverified"}


def test_what_could_not_be_read_back_is_called_by_the_next_deploy(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.statuses["ai-one"] = 503
    project_api.refuse = lambda method, below: (
        Response(status_code=500) if project_api.functions and (method, below) == ("GET", "/functions") else None
    )
    assert deployed("ai-one", code=8)[0]["finding"].startswith("deployed, but it could not be read back: ")
    project_api.refuse = lambda _method, _below: None
    (listed,) = typed("deploy", "list", "--json").json
    assert (listed["status"], listed["deployed_by"]) == ("active", "tester@here")
    project_api.requests.clear()
    (result,) = deployed("ai-one", code=8)
    assert (result["status"], result["finding"]) == ("unverified", "it answers 503")
    assert {path for _, path, _ in project_api.requests} == {"/functions", "/functions/v1/ai-one"}


def test_what_was_listed_late_is_called_by_the_next_deploy(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.statuses["ai-one"] = 503
    hidden = iter([JSONResponse([])] * 9)
    project_api.refuse = lambda method, below: (
        next(hidden, None) if project_api.functions and (method, below) == ("GET", "/functions") else None
    )
    assert deployed("ai-one", code=8)[0]["finding"] == "the API does not list it"
    project_api.refuse = lambda _method, _below: None
    assert deployed("ai-one", code=8)[0]["finding"] == "it answers 503"


def test_what_leads_elsewhere_is_not_taken_for_deployed(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.after = lambda api: api.functions["ai-one"].row.update(entrypoint_path="file:///x/other.ts")
    assert deployed("ai-one", code=8)[0]["finding"] == "its entrypoint is file:///x/other.ts"
    project_api.functions["ai-one"].entrypoint = "other.ts"
    project_api.functions["ai-one"].files["other.ts"] = b""
    assert typed("deploy", "ai-one", "--check").code == 3


def test_going_back_to_what_runs_calls_it_again(silent: ManagementApi) -> None:
    done = typed("deploy", "rollback", "ai-one", "--to", "1", "--json")
    assert (done.code, done.json[0]["status"], silent.writes) == (8, "unverified", [])


def test_it_is_history_with_one_line_and_a_new_source_is_a_new_deploy(silent: ManagementApi, folder: Folder) -> None:
    assert [each["version"] for each in typed("deploy", "history", "ai-one", "--json").json] == [1]
    folder.function("ai-one", "mended")
    del silent.statuses["ai-one"]
    assert statuses(deployed()) == {"ai-one": "active", "ai-two": "unchanged"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_deploy_that_ended_while_it_called_calls_again(
    project_api: ManagementApi, folder: Folder, number: signal.Signals
) -> None:
    folder.function("ai-one")
    project_api.statuses["ai-one"] = 500
    called, answer = threading.Event(), threading.Event()

    def held(_method: str, path: str) -> threading.Event | None:
        if path != "/functions/v1/ai-one":
            return None
        called.set()
        return answer

    project_api.held = held
    process = cli.start("deploy", "ai-one")
    assert called.wait(40)
    process.send_signal(number)
    process.communicate(timeout=40)
    answer.set()
    project_api.requests.clear()
    assert deployed("ai-one", code=8)[0]["status"] == "unverified"
    assert project_api.writes == []


def test_a_deploy_that_was_interrupted_before_it_looked_is_called_by_the_next(
    project_api: ManagementApi, folder: Folder
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
        project_api.statuses[slug] = 503
    looked, go = threading.Event(), threading.Event()

    def held(method: str, path: str) -> threading.Event | None:
        if (method, path) != ("GET", "/functions") or not project_api.functions:
            return None
        looked.set()
        return go

    project_api.held = held
    process = cli.start("deploy", "all")
    assert looked.wait(40)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=40)
    go.set()
    project_api.requests.clear()
    assert statuses(deployed(code=8)) == {"ai-one": "unverified", "ai-two": "unverified"}
    assert (project_api.writes, calls(project_api)) == ([], {"ai-one", "ai-two"})


def test_what_one_machine_saw_answer_no_other_calls_and_what_it_did_not_every_one_does(
    shared_project: ManagementApi, folder: Folder, machines: Machines
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    shared_project.statuses["ai-one"] = 500
    machines.at("ada")
    deployed(code=10)
    machines.at("eve")
    shared_project.requests.clear()
    assert statuses(deployed(code=10)) == {"ai-one": "unverified", "ai-two": "unchanged"}
    assert (shared_project.writes, calls(shared_project)) == ([], {"ai-one"})
    del shared_project.statuses["ai-one"]
    deployed()
    machines.at("ada")
    shared_project.requests.clear()
    assert set(statuses(deployed()).values()) == {"unchanged"}
    assert calls(shared_project) == set()
