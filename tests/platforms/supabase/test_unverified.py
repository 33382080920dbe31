"""A function that did not answer after its deploy stays unverified, and is called again, until it answers."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.commands.line import typed
from tests.fakes import cli
from tests.platforms.supabase.deploying import deployed, statuses

if TYPE_CHECKING:
    from tests.fakes.edge import Folder
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


def test_a_check_calls_it_too_for_a_call_changes_nothing(silent: ManagementApi) -> None:
    done = typed("deploy", "ai-one", "--check", "--json")
    assert (done.code, done.json[0]["status"], silent.writes) == (8, "unverified", [])


def test_going_back_to_what_runs_calls_it_again(silent: ManagementApi) -> None:
    done = typed("deploy", "rollback", "ai-one", "--to", "1", "--json")
    assert (done.code, done.json[0]["status"], silent.writes) == (8, "unverified", [])


def test_it_is_history_with_one_line_and_a_new_source_is_a_new_deploy(silent: ManagementApi, folder: Folder) -> None:
    assert [each["version"] for each in typed("deploy", "history", "ai-one", "--json").json] == [1]
    folder.function("ai-one", "mended")
    del silent.statuses["ai-one"]
    assert statuses(deployed()) == {"ai-one": "active", "ai-two": "unchanged"}


def test_a_deploy_that_was_interrupted_while_it_called_calls_again(project_api: ManagementApi, folder: Folder) -> None:
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
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    answer.set()
    project_api.requests.clear()
    assert deployed("ai-one", code=8)[0]["status"] == "unverified"
    assert project_api.writes == []
