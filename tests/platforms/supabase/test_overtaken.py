"""Two who deploy different sources at the same time: one wins, and the other one hears that it lost, and to whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from tests.commands.line import typed
from tests.fakes.edge import Folder
from tests.platforms.supabase.deploying import answering, deployed, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.management_api import ManagementApi

SECONDS = 40


@dataclass
class Meeting:
    """Two processes meet: neither switches before both want to, and neither looks before both have switched."""

    method: str
    path: str
    wanted: int = 0
    switched: int = 0
    both_want: threading.Event = field(default_factory=threading.Event)
    both_did: threading.Event = field(default_factory=threading.Event)

    def held(self, method: str, path: str) -> threading.Event | None:
        if (method, path) == (self.method, self.path):
            self.wanted += 1
            if self.wanted == 2:
                self.both_want.set()
            return self.both_want
        return self.both_did if self.switched and (method, path) == ("GET", "/functions") else None

    def after(self, _api: ManagementApi) -> None:
        self.switched += 1
        if self.switched == 2:
            self.both_did.set()


def machine(place: Path, *slugs: str) -> Path:
    """Another checkout, whose functions answer its name."""
    for slug in slugs:
        Folder(place).function(slug, place.name)
    return place


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    """A deploy on a machine of its own: its folder, and its state."""
    argv, pipe = [sys.executable, "-m", "agentops", "deploy", *words, "--json"], subprocess.PIPE
    env = {**os.environ, "AGENTOPS_HOME": f"{place}-home"}
    return subprocess.Popen(argv, cwd=place, env=env, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize(
    ("slugs", "switch"),
    [(("ai-one",), ("POST", "/functions/deploy")), (("ai-one", "ai-two"), ("PUT", "/functions"))],
)
@pytest.mark.usefixtures("folder")
def test_of_two_that_meet_one_wins_and_the_other_one_is_told_of_a_conflict(
    project_api: ManagementApi,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    slugs: tuple[str, ...],
    switch: tuple[str, str],
) -> None:
    meeting = Meeting(*switch)
    project_api.held, project_api.after = meeting.held, meeting.after
    places = {name: machine(tmp_path / name, *slugs) for name in ("mine", "theirs")}
    processes = {name: start(place, *slugs) for name, place in places.items()}
    try:
        done = {name: process.communicate(timeout=SECONDS) for name, process in processes.items()}
    finally:
        meeting.both_want.set()
        meeting.both_did.set()
    running = {each.files[f"supabase/functions/{slug}/index.ts"] for slug, each in project_api.functions.items()}
    winner, loser = sorted(processes, key=lambda name: name.encode() not in next(iter(running)))
    assert len(running) == 1
    assert processes[winner].returncode == 0, done[winner][1]
    assert {each["status"] for each in json.loads(done[winner][0])} == {"active"}

    assert processes[loser].returncode == 7, done[loser]
    results: list[dict[str, Any]] = json.loads(done[loser][0])
    assert {each["slug"]: (each["status"], each["changed"]) for each in results} == dict.fromkeys(
        slugs, ("replaced", False)
    )
    error = json.loads(done[loser][1].splitlines()[-1])
    assert (error["error"], error["hint"]) == ("conflict", f"agentops deploy history {slugs[0]}")
    assert "somebody else deployed it meanwhile" in error["message"]

    # That line tells who is who, and there is a way back to what lost.
    monkeypatch.chdir(places[loser])
    monkeypatch.setenv("AGENTOPS_HOME", f"{places[loser]}-home")
    history = typed("deploy", "history", slugs[0], "--json").json
    assert [(each["status"], each["deployed_by"]) for each in history] == [
        ("active", "unknown"),
        ("stored", "tester@here"),
    ]
    assert typed("deploy", "rollback", slugs[0]).code == 0
    entrypoint = f"supabase/functions/{slugs[0]}/index.ts"
    assert loser.encode() in project_api.functions[slugs[0]].files[entrypoint]


def then(text: str, hash_: str | None) -> Callable[[ManagementApi], None]:
    """Somebody else deploys right after this one."""

    def after(api: ManagementApi) -> None:
        elsewhere(api, "ai-one", text, ezbr_sha256=hash_)

    return after


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("hash_", ["hash-theirs", None])
def test_a_newer_version_with_another_source_is_somebody_elses(
    project_api: ManagementApi, folder: Folder, hash_: str | None
) -> None:
    folder.function("ai-one")
    project_api.after = then("theirs", hash_)
    (result,) = deployed("ai-one", code=7)
    assert (result["status"], result["finding"]) == ("replaced", "somebody else deployed it meanwhile: version 2 runs")


@pytest.mark.usefixtures("hasty")
def test_a_newer_version_with_the_same_source_is_as_good(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one", "same")
    project_api.after = then("same", None)
    (result,) = deployed("ai-one")
    assert (result["status"], result["version"]) == ("active", 2)


@pytest.mark.usefixtures("hasty")
def test_another_hash_whose_files_may_not_be_read_is_unverified(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.after = lambda api: api.functions["ai-one"].row.update(ezbr_sha256="another")
    project_api.refuse = answering("GET", ".*/body", lambda: JSONResponse({"message": "no"}, 403))
    (result,) = deployed("ai-one", code=8)
    assert result["finding"] == "another bundle runs there, as version 1"


@pytest.mark.usefixtures("hasty")
def test_the_old_source_under_the_new_number_is_nobodys_deploy(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one", "one")
    deployed("ai-one")
    old = project_api.functions["ai-one"]
    folder.function("ai-one", "two")

    def keep_old(api: ManagementApi) -> None:
        api.functions["ai-one"] = type(old)({**old.row, "version": 2}, old.files, old.entrypoint)

    project_api.after = keep_old
    (result,) = deployed("ai-one", code=8)
    assert (result["status"], result["finding"]) == ("unverified", "another bundle runs there, as version 2")


@pytest.mark.usefixtures("hasty")
def test_a_switch_that_is_refused_because_another_came_first_is_a_conflict(
    project_api: ManagementApi, folder: Folder
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)

    def overtaken(method: str, path: str) -> Response | None:
        if (method, path) != ("PUT", "/functions"):
            return None
        elsewhere(project_api, "ai-two", "theirs")
        return JSONResponse({"message": "version conflict"}, 400)

    project_api.refuse = overtaken
    done = typed("deploy", "all", "--json")
    assert done.code == 7
    assert "nothing was switched: somebody else deployed ai-two meanwhile" in done.err
    assert "agentops deploy history ai-two" in done.err


@pytest.mark.usefixtures("hasty")
def test_another_source_under_the_same_number_is_somebody_elses_where_the_api_names_no_hash(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one", "mine")

    def theirs(api: ManagementApi) -> None:
        there = api.functions["ai-one"]
        there.row.pop("ezbr_sha256", None)
        there.files = dict.fromkeys(there.files, b"Deno.serve(() => new Response('theirs'));\n")

    project_api.after = theirs
    (result,) = deployed("ai-one", code=7)
    assert (result["status"], result["finding"]) == ("replaced", "somebody else deployed it meanwhile: version 1 runs")
    project_api.after = lambda api: api.functions["ai-one"].row.pop("ezbr_sha256", None) and None
    # Mine does not run because it had that number: it is listed, kept, and sent again.
    history = typed("deploy", "history", "ai-one", "--json").json
    assert [(each["status"], each["deployed_by"]) for each in history] == [
        ("active", "unknown"),
        ("stored", "tester@here"),
    ]
    assert typed("deploy", "ai-one", "--check").code == 3
    assert deployed("ai-one")[0]["version"] == 2
    assert b"mine" in next(iter(project_api.functions["ai-one"].files.values()))


@pytest.mark.usefixtures("hasty")
def test_without_a_hash_a_source_that_cannot_be_read_is_no_proof(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.after = lambda api: api.functions["ai-one"].row.pop("ezbr_sha256", None) and None
    project_api.refuse = answering("GET", ".*/body", lambda: JSONResponse({"message": "no"}, 403))
    assert deployed("ai-one")[0]["status"] == "active"
