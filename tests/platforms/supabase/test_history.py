"""What runs there is not always what was deployed here: drift, what is kept of it, and the way back."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import project
from tests.commands.line import typed
from tests.fakes import cli
from tests.platforms.supabase.deploying import answering, deployed, elsewhere, statuses

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path
    from typing import Self

    from tests.fakes.edge import Folder
    from tests.fakes.machines import Machines
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty")


def test_what_was_deployed_elsewhere_with_equal_files_is_unchanged(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one", "same")
    elsewhere(project_api, "ai-one", "same")
    assert typed("deploy", "list", "--json").json[0]["status"] == "unknown"
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert project_api.writes == []
    # From now on it is known: nothing is fetched again.
    assert typed("deploy", "list", "--json").json[0]["status"] == "active"
    project_api.requests.clear()
    deployed("ai-one")
    assert {path for _, path, _ in project_api.requests} == {"/functions"}


def test_a_binary_file_and_odd_line_ends_arrive_byte_for_byte_and_come_back(
    project_api: ManagementApi, folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = bytes(range(256)) + b"\r\n--x\r\n\r\n"
    text = "// ümläut \u2028\r\nDeno.serve(() => new Response());\r"
    folder.write("functions/ai-one/index.ts", text)
    folder.write("functions/ai-one/logo.png", picture)
    deployed("ai-one")
    files = project_api.functions["ai-one"].files
    assert files == {
        "supabase/functions/ai-one/index.ts": text.encode(),
        "supabase/functions/ai-one/logo.png": picture,
    }
    # A machine that knows nothing of it gets the very same bytes.
    monkeypatch.setenv("AGENTOPS_HOME", str(tmp_path / "another"))
    project_api.requests.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert project_api.writes == []


def test_drift_is_marked_until_somebody_deploys_again(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["active"]
    elsewhere(project_api, "ai-one", "theirs")
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["drifted"]
    # Looking at it closely does not make it ours.
    assert typed("deploy", "all", "--check").code == 3
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["drifted"]
    deployed("ai-one")
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["active"]


def test_drift_under_the_same_number_is_seen_by_the_hash_of_the_bundle(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    project_api.functions["ai-one"].row["ezbr_sha256"] = "another"
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["drifted"]


def test_going_back_further_than_what_is_kept_names_the_versions_that_are(
    project_api: ManagementApi, folder: Folder
) -> None:
    assert project_api.writes == []
    folder.function("ai-one", "one")
    deployed("ai-one")
    only = typed("deploy", "rollback", "ai-one")
    assert only.code == 5
    assert "it is the only one" in only.err
    folder.function("ai-one", "two")
    deployed("ai-one")
    assert typed("deploy", "rollback", "ai-one").code == 0
    again = typed("deploy", "rollback", "ai-one")
    assert again.code == 5
    assert again.err.endswith(
        "agentops: this machine keeps no version before the one that runs of ai-one\n"
        "  → agentops deploy rollback ai-one --to 2\n"
    )


def test_a_function_made_anew_is_not_taken_for_the_one_that_was_deleted(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    del project_api.functions["ai-one"]
    elsewhere(project_api, "ai-one", "theirs", ezbr_sha256=None, id="another-id")
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["drifted"]
    assert typed("deploy", "ai-one", "--check").code == 3


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_the_source_of_somebody_else_is_kept_before_it_goes_and_comes_back(
    project_api: ManagementApi, folder: Folder, words: tuple[str, ...]
) -> None:
    theirs = elsewhere(project_api, "ai-one", "theirs", version=7).files
    folder.function("ai-one", "mine")
    deployed("ai-one", *words)
    order = [(method, path) for method, path, _ in project_api.requests]
    assert order.index(("GET", "/functions/ai-one/body")) < order.index(("POST", "/functions/deploy"))
    history = typed("deploy", "history", "ai-one", "--json").json
    assert [(each["version"], each["status"], each["origin"]) for each in history] == [
        (8, "active", str(folder.path / "supabase/functions/ai-one")),
        (7, "stored", "downloaded"),
    ]
    back = typed("deploy", "rollback", "ai-one", "--json")
    assert back.code == 0, back.err
    assert project_api.functions["ai-one"].files == theirs
    assert [each["status"] for each in typed("deploy", "list", "--json").json] == ["active"]
    # Going back twice does not come back.
    assert typed("deploy", "rollback", "ai-one").code == 5


def test_rollback_goes_to_the_version_that_is_named(project_api: ManagementApi, folder: Folder) -> None:
    for text in ("one", "two", "three"):
        folder.function("ai-one", text)
        deployed("ai-one")
    project_api.requests.clear()
    assert typed("deploy", "rollback", "ai-one", "--to", "1", "--check").code == 3
    assert project_api.writes == []
    back = typed("deploy", "rollback", "ai-one", "--to", "1", "--json")
    assert (back.code, back.json[0]["version"]) == (0, 4)
    assert b"one" in next(iter(project_api.functions["ai-one"].files.values()))
    again = typed("deploy", "rollback", "ai-one", "--to", "1", "--json")
    assert (again.code, again.json[0]["changed"]) == (0, False)
    missing = typed("deploy", "rollback", "ai-one", "--to", "9")
    assert (missing.code, "keeps no version 9" in missing.err) == (5, True)


def test_what_was_deleted_can_be_gone_back_to(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    assert typed("deploy", "delete", "ai-one", "--yes").code == 0
    assert project_api.functions == {}
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert b"one" in next(iter(project_api.functions["ai-one"].files.values()))


def test_a_source_that_cannot_be_fetched_is_said_and_stops_no_deploy(
    project_api: ManagementApi, folder: Folder
) -> None:
    elsewhere(project_api, "ai-one", "theirs")
    folder.function("ai-one", "mine")
    project_api.refuse = answering("GET", ".*/body", lambda: JSONResponse({"message": "no source"}, 400))
    done = typed("deploy", "ai-one", "--json")
    assert done.code == 0
    assert "the source of ai-one version 1 cannot be had: no way back to it" in done.err


def test_half_of_a_source_is_not_kept(project_api: ManagementApi, folder: Folder) -> None:
    elsewhere(project_api, "ai-one", "same")
    folder.function("ai-one", "same")
    half = (
        b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'
        b'{"deno2_entrypoint_path":"source/supabase/functions/ai-one/index.ts"}\r\n--b\r\n'
        b'Content-Disposition: form-data; name="file"; filename="source/supabase/functions/ai-one/index.ts"\r\n\r\nDeno'
    )
    project_api.refuse = answering(
        "GET", ".*/body", lambda: Response(half, media_type="multipart/form-data; boundary=b")
    )
    done = typed("deploy", "ai-one", "--json")
    assert (done.code, done.json[0]["status"]) == (0, "active")
    assert "cannot be had" in done.err


def test_a_difference_in_a_binary_file_is_said_and_not_printed(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/logo.png", b"\x89PNG\xff\n")
    deployed("ai-one")
    folder.write("functions/ai-one/logo.png", b"\x89PNG\xfe\n")
    assert project_api.functions
    code, out, err = cli.run("deploy", "diff", "ai-one")
    file = "supabase/functions/ai-one/logo.png"
    assert (code, out.strip()) == (3, f"Binary files active/{file} and here/{file} differ"), err
    shown = cli.run("deploy", "diff", "ai-one", "--json")
    assert (shown[0], json.loads(shown[1])["changed"]) == (3, True)


@pytest.mark.parametrize("minutes", [(0, 0, -10), (-60, 0, -10), (0, -20, -40)])
def test_the_version_before_is_told_by_its_number_and_not_by_anybodys_clock(
    shared_project: ManagementApi,
    folder: Folder,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    minutes: tuple[int, ...],
) -> None:
    for text, who, behind in zip(("one", "two", "three"), ("ada", "ada", "eve"), minutes, strict=True):
        machines.at(who)
        folder.function("ai-one", text)
        with monkeypatch.context() as clock:
            clock.setattr(project, "datetime", running(behind))
            deployed("ai-one")
    machines.at("ada")
    history = typed("deploy", "history", "ai-one", "--json").json
    assert [(each["version"], each["status"]) for each in history] == [(3, "active"), (2, "stored"), (1, "stored")]
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert b"two" in next(iter(shared_project.functions["ai-one"].files.values()))
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert b"one" in next(iter(shared_project.functions["ai-one"].files.values()))


def running(minutes: int) -> type[datetime]:
    """A clock that is so much ahead, or behind."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time() + minutes * 60, tz)

    return Clock


def test_a_function_made_anew_goes_back_to_its_own_versions_first(project_api: ManagementApi, folder: Folder) -> None:
    for text in ("one", "two"):
        folder.function("ai-one", text)
        deployed("ai-one")
    assert typed("deploy", "delete", "ai-one", "--yes").code == 0
    folder.function("ai-one", "three")
    deployed("ai-one")
    assert project_api.functions["ai-one"].row["version"] == 1
    assert typed("deploy", "rollback", "ai-one").code == 0
    assert b"two" in next(iter(project_api.functions["ai-one"].files.values()))


@pytest.mark.parametrize(
    "there", [{}, {"import_map_path": None}, {"import_map": None}, {"import_map": None, "import_map_path": None}]
)
def test_another_import_map_is_another_source(
    project_api: ManagementApi, folder: Folder, machines: Machines, there: dict[str, object]
) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/deno.json", '{"imports": {"a": "npm:a@1"}}')
    folder.write("functions/ai-one/other.json", '{"imports": {"a": "npm:a@2"}}')
    machines.at("ada")
    deployed("ai-one")
    project_api.functions["ai-one"].row.update(there)
    machines.at("eve")
    folder.config('[functions.ai-one]\nimport_map = "./functions/ai-one/other.json"\n')
    assert statuses(deployed("ai-one")) == {"ai-one": "active"}
    assert b"/other.json" in project_api.bodies[-1]
    assert str(project_api.functions["ai-one"].row["import_map_path"]).endswith("/ai-one/other.json")


@pytest.mark.parametrize(("there", "status"), [({}, "unchanged"), ({"import_map_path": None}, "active")])
def test_the_same_import_map_is_the_same_source_where_it_is_told(
    project_api: ManagementApi, folder: Folder, machines: Machines, there: dict[str, object], status: str
) -> None:
    folder.function("ai-one")
    folder.write("functions/ai-one/deno.json", '{"imports": {"a": "npm:a@1"}}')
    machines.at("ada")
    deployed("ai-one")
    project_api.functions["ai-one"].row.update(there)
    machines.at("eve")
    assert statuses(deployed("ai-one")) == {"ai-one": status}
