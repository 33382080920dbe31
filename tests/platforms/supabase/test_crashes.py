"""Processes that are killed, interrupted, or meet each other on one project: nothing is lost, what is live is said."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.management_api import REF, TOKEN, ManagementApi
from tests.platforms.supabase.deploying import deployed, elsewhere, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.edge import Folder

SECONDS = 40


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def gate(project_api: ManagementApi) -> Iterator[Callable[[str, str], threading.Event]]:
    """Holds requests of one kind back; they are let go at the end in any case."""
    events: list[threading.Event] = []

    def close(method: str, path: str) -> threading.Event:
        event = threading.Event()
        events.append(event)
        project_api.held = lambda asked, below: event if (asked, below) == (method, path) else None
        return event

    yield close
    for event in events:
        event.set()


def asked(api: ManagementApi, method: str, path: str) -> Callable[[], bool]:
    """Whether a write has come in whole."""
    return lambda: (method, path) in [each[:2] for each in api.written]


def test_killed_between_keeping_and_deploying_the_old_source_is_still_there(
    project_api: ManagementApi, folder: Folder, gate: Callable[[str, str], threading.Event]
) -> None:
    theirs = elsewhere(project_api, "ai-one", "theirs").files
    folder.function("ai-one", "mine")
    deploy = gate("POST", "/functions/deploy")
    process = cli.start("deploy", "ai-one")
    until(asked(project_api, "POST", "/functions/deploy"))
    process.kill()
    process.communicate(timeout=SECONDS)
    # The request had left: Supabase carries it out, and nobody is there to hear of it.
    deploy.set()
    until(lambda: project_api.functions["ai-one"].row["version"] == 2)
    project_api.requests.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert project_api.writes == []
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert project_api.functions["ai-one"].files == theirs


def test_a_line_that_a_crash_cut_off_loses_no_other(project_api: ManagementApi, folder: Folder, tmp_path: Path) -> None:
    for text in ("one", "two"):
        folder.function("ai-one", text)
        deployed("ai-one")
    file = tmp_path / "home" / "supabase" / REF / "deployments.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[-1][:40])
    folder.function("ai-one", "three")
    deployed("ai-one")
    assert [each["version"] for each in typed("deploy", "history", "ai-one", "--json").json] == [3, 2, 1]
    assert typed("deploy", "rollback", "ai-one", "--to", "1").code == 0
    assert b"one" in next(iter(project_api.functions["ai-one"].files.values()))


def test_a_kept_source_that_was_spoilt_is_not_deployed(
    project_api: ManagementApi, folder: Folder, tmp_path: Path
) -> None:
    for text in ("one", "two"):
        folder.function("ai-one", text)
        deployed("ai-one")
    for source in (tmp_path / "home" / "supabase" / REF / "sources").iterdir():
        source.write_text(source.read_text()[:50])
    project_api.requests.clear()
    done = typed("deploy", "rollback", "ai-one")
    assert (done.code, project_api.writes) == (5, [])


def test_a_state_folder_that_cannot_be_written_stops_before_anything_is_sent(
    project_api: ManagementApi, folder: Folder, tmp_path: Path
) -> None:
    folder.function("ai-one")
    (tmp_path / "home").write_text("a file where the folder should be")
    done = typed("deploy", "ai-one")
    assert (done.code, "could not be written" in done.err) == (1, True)
    assert project_api.writes == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_bundling_says_that_all_runs_as_before(
    project_api: ManagementApi, folder: Folder, gate: Callable[[str, str], threading.Event], number: signal.Signals
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    elsewhere(project_api, "ai-one", "theirs", version=4)
    gate("POST", "/functions/deploy")
    process = cli.start("deploy", "all")
    until(asked(project_api, "POST", "/functions/deploy"))
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert "interrupted; live now: ai-one version 4 (as before), ai-two not deployed" in err
    assert (out, "Traceback" in err, TOKEN in err) == ("", False, False)


def test_interrupted_after_the_switch_says_what_is_new(
    project_api: ManagementApi, folder: Folder, gate: Callable[[str, str], threading.Event]
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    gate("GET", "/nowhere")
    slow = threading.Event()
    switched: list[bool] = []

    def after(_api: ManagementApi) -> None:
        switched.append(True)

    project_api.after = after
    listed: list[bool] = []

    def held(method: str, below: str) -> threading.Event | None:
        # The first look after the switch hangs, the one that follows the interruption does not.
        if switched and (method, below) == ("GET", "/functions") and not listed:
            listed.append(True)
            return slow
        return None

    project_api.held = held
    process = cli.start("deploy", "all")
    until(lambda: listed)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    slow.set()
    assert process.returncode == 130
    assert "interrupted; live now: ai-one version 1 (new), ai-two version 1 (new)" in err


# Commands, and the request in which they are caught.
SENDS = {
    "deploy ai-one": ("POST", "/functions/deploy"),
    "deploy all": ("PUT", "/functions"),
    "secrets set FEATURE_AGENT_CHAT=on": ("POST", "/secrets"),
    "incident kill-switch": ("POST", "/secrets"),
}


def lineage(pid: int) -> list[Path]:
    """The folders in /proc of a process and everything that it started."""
    found = [Path(f"/proc/{pid}")]
    for task in (found[0] / "task").iterdir():
        for child in (task / "children").read_text().split():
            found += lineage(int(child))
    return found


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("line", SENDS)
def test_the_token_stands_in_no_list_of_processes(
    project_api: ManagementApi,
    folder: Folder,
    gate: Callable[[str, str], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    *,
    kept: bool,
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    if kept:  # by `login`, not in the environment
        keep_token(monkeypatch)
    held = gate(*SENDS[line])
    process = cli.start(*line.split())
    until(asked(project_api, *SENDS[line]))
    for place in lineage(process.pid):
        assert TOKEN.encode() not in (place / "cmdline").read_bytes()
        assert not kept or TOKEN.encode() not in (place / "environ").read_bytes()
    held.set()
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, TOKEN in out + err) == (0, False), err


def keep_token(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["AGENTOPS_HOME"])
    home.mkdir(mode=0o700)
    (home / "supabase-token").write_text(TOKEN)
    monkeypatch.delenv("SUPABASE_ACCESS_TOKEN")


def test_two_at_once_leave_one_history_and_a_project_that_is_one_of_theirs(
    project_api: ManagementApi, folder: Folder, tmp_path: Path
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    project_api.deploy_seconds = 0.3
    processes = [cli.start("deploy", "all", "--json") for _ in range(2)]
    results = [process.communicate(timeout=SECONDS) for process in processes]
    for process, (out, err) in zip(processes, results, strict=True):
        assert process.returncode == 0, err
        assert {each["status"] for each in json.loads(out)} <= {"active", "unchanged"}
    lines = (tmp_path / "home" / "supabase" / REF / "deployments.jsonl").read_text().splitlines()
    assert all({"slug", "version", "sha256"} <= json.loads(line).keys() for line in lines)
    project_api.requests.clear()
    assert set(statuses(deployed()).values()) == {"unchanged"}
    assert project_api.writes == []


def test_of_two_that_deploy_different_sources_the_one_that_lost_says_so(
    project_api: ManagementApi, folder: Folder, gate: Callable[[str, str], threading.Event]
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    switch = gate("PUT", "/functions")
    process = cli.start("deploy", "all", "--json")
    until(asked(project_api, "PUT", "/functions"))

    # While the switch is on its way, somebody else's comes after it.
    def overtake(api: ManagementApi) -> None:
        elsewhere(api, "ai-two", "theirs")

    project_api.after = overtake
    switch.set()
    out, err = process.communicate(timeout=SECONDS)
    found = {each["slug"]: (each["status"], each["finding"]) for each in json.loads(out)}
    assert process.returncode == 10, err
    overtaken = ("replaced", "somebody else deployed it meanwhile: version 2 runs")
    assert found == {"ai-one": ("active", None), "ai-two": overtaken}
