"""Deploys to a hosted project: what is sent, what is not, and what is looked at afterwards."""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import switching
from tests.commands.line import Result, typed
from tests.fakes.management_api import ManagementApi, _parts
from tests.platforms.supabase.deploying import answering, deployed, elsewhere, statuses

if TYPE_CHECKING:
    from tests.fakes.edge import Folder

pytestmark = pytest.mark.usefixtures("hasty")


def metadata(body: bytes) -> dict[str, Any]:
    """The metadata part of an upload."""
    boundary = body.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    found: dict[str, Any] = json.loads(
        next(part.content for part in _parts(f"boundary={boundary}", body) if part.name == "metadata")
    )
    return found


def test_a_single_function_is_one_post_then_read_back_and_called(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    results = deployed("ai-one")
    assert [(each["status"], each["version"], each["changed"]) for each in results] == [("active", 1, True)]
    assert project_api.writes == [("POST", "/functions/deploy", "slug=ai-one")]
    after = project_api.requests[project_api.requests.index(project_api.writes[0]) + 1 :]
    assert after == [("GET", "/functions", ""), ("GET", "/functions/v1/ai-one", "")]


def test_an_unchanged_deploy_only_reads(project_api: ManagementApi, folder: Folder) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    deployed()
    project_api.requests.clear()
    assert statuses(deployed()) == {"ai-one": "unchanged", "ai-two": "unchanged"}
    assert project_api.writes == []
    assert {path for _, path, _ in project_api.requests} == {"/functions"}


def together(api: ManagementApi, count: int) -> None:
    """Uploads are let go when `count` of them have come in."""
    event, waiting = threading.Event(), itertools.count(1)

    def held(method: str, path: str) -> threading.Event | None:
        if (method, path) != ("POST", "/functions/deploy"):
            return None
        if next(waiting) == count:
            event.set()
        return event

    api.held = held


def test_several_are_bundled_side_by_side_and_switched_in_one_put(
    project_api: ManagementApi, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in "abcdef":
        folder.function(f"ai-{number}")
    monkeypatch.setattr(switching, "DEPLOY_SECONDS", 20.0)
    together(project_api, 6)
    results = deployed()
    assert set(statuses(results).values()) == {"active"}
    assert [(method, path) for method, path, _ in project_api.writes] == [("POST", "/functions/deploy")] * 6 + [
        ("PUT", "/functions")
    ]
    assert all("bundleOnly=true" in query for method, _, query in project_api.writes if method == "POST")


def test_jobs_says_how_many_bundles_are_built_at_a_time(
    project_api: ManagementApi, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in "abcdef":
        folder.function(f"ai-{number}")
    monkeypatch.setattr(switching, "DEPLOY_SECONDS", 20.0)
    together(project_api, 2)
    project_api.deploy_seconds = 0.05
    assert typed("deploy", "all", "--jobs", "2").code == 0
    assert project_api.peak <= 2


def test_check_names_what_would_change_and_sends_nothing(project_api: ManagementApi, folder: Folder) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    deployed()
    folder.function("ai-two", "two")
    project_api.requests.clear()
    done = typed("deploy", "all", "--check", "--json")
    assert (done.code, statuses(done.json)) == (3, {"ai-one": "unchanged", "ai-two": "would_change"})
    assert project_api.writes == []


def test_only_the_edited_one_is_deployed_again(project_api: ManagementApi, folder: Folder) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    deployed()
    folder.function("ai-two", "two")
    project_api.requests.clear()
    assert statuses(deployed()) == {"ai-one": "unchanged", "ai-two": "active"}
    assert project_api.writes == [("POST", "/functions/deploy", "slug=ai-two")]


def test_one_that_does_not_bundle_switches_none_and_each_finding_says_why(
    project_api: ManagementApi, folder: Folder
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    deployed()
    before = {slug: each.row["version"] for slug, each in project_api.functions.items()}
    folder.function("ai-one", "new")
    folder.function("ai-two", "syntax error")
    results = deployed(code=1)
    findings = {each["slug"]: each["finding"] for each in results}
    assert set(statuses(results).values()) == {"failed"}
    assert "Failed to bundle" in findings["ai-two"]
    assert findings["ai-one"] == "not switched, because of ai-two: all or none"
    assert {slug: each.row["version"] for slug, each in project_api.functions.items()} == before
    assert ("PUT", "/functions") not in [(method, path) for method, path, _ in project_api.writes[3:]]
    for line in ("all", "all --force", "ai-two ai-one --force"):
        again = typed("deploy", *line.split()).err.splitlines()[-1]
        assert again == f"  → mend, then: agentops deploy {line}", "the line that was typed"


def test_a_single_function_that_does_not_bundle_fails_with_the_words_of_the_api(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one", "syntax error")
    (result,) = deployed("ai-one", code=1)
    assert (result["status"], result["changed"]) == ("failed", False)
    assert "Failed to bundle" in result["finding"]
    assert project_api.functions == {}


@pytest.mark.parametrize("there", [True, False])
def test_verify_jwt_stays_as_it_is_there_where_nothing_is_said(
    project_api: ManagementApi, folder: Folder, *, there: bool
) -> None:
    elsewhere(project_api, "ai-one", "old", verify_jwt=there)
    folder.function("ai-one", "new")
    deployed("ai-one")
    assert metadata(project_api.bodies[0])["verify_jwt"] is there
    assert project_api.functions["ai-one"].row["verify_jwt"] is there


def test_a_new_function_verifies_tokens_unless_its_settings_say_otherwise(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one")
    folder.function("ai-two")
    folder.config("[functions.ai-two]\nverify_jwt = false\n")
    deployed()
    sent = {found["name"]: found["verify_jwt"] for found in map(metadata, project_api.bodies)}
    assert sent == {"ai-one": True, "ai-two": False}


def test_only_its_settings_flip_verify_jwt(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    folder.config("[functions.ai-one]\nverify_jwt = false\n")
    assert statuses(deployed("ai-one")) == {"ai-one": "active"}
    assert project_api.functions["ai-one"].row["verify_jwt"] is False
    folder.config("")
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert project_api.functions["ai-one"].row["verify_jwt"] is False


def test_writing_down_the_setting_that_is_in_force_changes_nothing(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    folder.config("[functions.ai-one]\nverify_jwt = true\n")
    project_api.requests.clear()
    assert statuses(deployed("ai-one")) == {"ai-one": "unchanged"}
    assert project_api.writes == []


def test_what_was_switched_behind_its_back_is_put_right(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    folder.config("[functions.ai-one]\nverify_jwt = false\n")
    deployed("ai-one")
    project_api.functions["ai-one"].row["verify_jwt"] = True
    assert [each["changed"] for each in deployed("ai-one")] == [True]
    assert project_api.functions["ai-one"].row["verify_jwt"] is False


SPOILT: dict[str, tuple[dict[str, Any], str]] = {
    "version": ({"version": 0}, "version 0 still runs, not 1"),
    "status": ({"status": "THROTTLED"}, "its status is THROTTLED"),
    "entrypoint": ({"entrypoint_path": "file:///x/other.ts"}, "its entrypoint is file:///x/other.ts"),
    "verify_jwt": ({"verify_jwt": False}, "verify_jwt is false there"),
    "bundle": ({"ezbr_sha256": "another"}, "another bundle runs there, as version 1"),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("slugs", [("ai-one",), ("ai-one", "ai-two")])
def test_what_is_read_back_otherwise_than_sent_is_unverified(
    project_api: ManagementApi, folder: Folder, kind: str, slugs: tuple[str, ...]
) -> None:
    for slug in slugs:
        folder.function(slug)
    fields, finding = SPOILT[kind]
    project_api.after = lambda api: api.functions["ai-one"].row.update(fields)
    results = deployed(*slugs, code=8 if len(slugs) == 1 else 10)
    assert (results[0]["status"], results[0]["finding"], results[0]["changed"]) == ("unverified", finding, True)
    assert [each["status"] for each in results[1:]] == ["active"] * len(slugs[1:])


def test_a_function_that_is_not_listed_afterwards_is_unverified(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.after = lambda api: api.functions.clear()
    (result,) = deployed("ai-one", code=8)
    assert (result["status"], result["finding"]) == ("unverified", "the API does not list it")


@pytest.mark.parametrize(("status", "code"), [(404, 8), (500, 8), (503, 8), (200, 0), (401, 0), (405, 0), (429, 0)])
def test_a_call_that_answers_404_or_5xx_is_unverified_and_any_other_says_that_it_runs(
    project_api: ManagementApi, folder: Folder, status: int, code: int
) -> None:
    folder.function("ai-one")
    project_api.statuses["ai-one"] = status
    (result,) = deployed("ai-one", code=code)
    assert result["finding"] == (f"it answers {status}" if code else None)


def test_a_forwarder_runs_also_while_its_server_does_not(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.forwarders["ai-one"] = "FEATURE_AGENT_CHAT"
    project_api.statuses["ai-one"] = 503
    assert statuses(deployed("ai-one")) == {"ai-one": "active"}


def test_a_function_that_answers_a_moment_later_is_verified(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    answers = iter([404, 200])

    class Late(dict[str, int]):
        def get(self, _slug: str, _default: int | None = None) -> int:  # type: ignore[override]
            return next(answers)

    project_api.statuses = Late()
    assert statuses(deployed("ai-one")) == {"ai-one": "active"}
    assert [path for _, path, _ in project_api.requests].count("/functions/v1/ai-one") == 2


def test_a_list_that_lags_behind_is_looked_at_again(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    deployed("ai-one")
    old = dict(project_api.functions["ai-one"].row)
    folder.function("ai-one", "two")
    stale = iter([old])

    def lag(method: str, below: str) -> Response | None:
        written = any(each[:2] == ("POST", "/functions/deploy") for each in project_api.requests[mark:])
        row = next(stale, None) if written and (method, below) == ("GET", "/functions") else None
        return JSONResponse([row]) if row else None

    mark = len(project_api.requests)
    project_api.refuse = lag
    assert statuses(deployed("ai-one")) == {"ai-one": "active"}


def test_a_list_that_cannot_be_read_back_is_unverified_not_failed(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")

    def broken(method: str, below: str) -> Response | None:
        return Response(status_code=500) if project_api.functions and (method, below) == ("GET", "/functions") else None

    project_api.refuse = broken
    (result,) = deployed("ai-one", code=8)
    assert (result["status"], result["changed"], result["version"]) == ("unverified", True, 1)
    assert result["finding"].startswith("deployed, but it could not be read back: ")


def test_sixty_functions_of_another_machine_stay_within_the_limit_of_a_minute(
    project_api: ManagementApi, folder: Folder
) -> None:
    for number in range(60):
        folder.function(f"ai-{number}", "new")
        elsewhere(project_api, f"ai-{number}", "old")
    project_api.window = 3600  # all of it counts as one minute
    results = deployed()
    assert set(statuses(results).values()) == {"active"}
    counts: dict[tuple[str, bool], int] = {}
    for method, path, _ in project_api.requests:
        if not path.startswith("/functions/v1/"):
            kind = (method, path.endswith("/body"))
            counts[kind] = counts.get(kind, 0) + 1
    assert counts == {("GET", False): 2, ("GET", True): 60, ("POST", False): 60, ("PUT", False): 1}


@pytest.mark.parametrize("says_when", ["retry-after", "x-ratelimit-reset"])
def test_sixty_functions_get_through_a_limit_that_is_enforced(
    project_api: ManagementApi, folder: Folder, says_when: str
) -> None:
    for number in range(60):
        folder.function(f"ai-{number}")
    # A minute's limit of 120 at another scale: the uploads take three windows.
    project_api.limit, project_api.window, project_api.says_when = 25, 2, (says_when,)
    assert set(statuses(deployed()).values()) == {"active"}
    assert project_api.throttled > 0
    assert len(project_api.functions) == 60


@pytest.mark.parametrize("header", ["retry-after", "x-ratelimit-reset"])
def test_a_429_is_waited_out_as_the_api_asks(project_api: ManagementApi, folder: Folder, header: str) -> None:
    for number in range(3):
        folder.function(f"ai-{number}")
    refused = iter([JSONResponse({"message": "ThrottlerException: Too Many Requests"}, 429, {header: "1"})] * 4)
    moments: list[float] = []

    def limit(method: str, below: str) -> Response | None:
        import time

        if (method, below) == ("POST", "/functions/deploy"):
            moments.append(time.monotonic())
            return next(refused, None)
        return None

    project_api.refuse = limit
    assert set(statuses(deployed()).values()) == {"active"}
    assert len(moments) == 7
    assert moments[3] - moments[0] >= 1.0


def test_a_limit_that_stays_ends_the_command_with_the_next_step(project_api: ManagementApi, folder: Folder) -> None:
    for number in range(2):
        folder.function(f"ai-{number}")
    project_api.refuse = answering(
        "POST", "/functions/deploy", lambda: JSONResponse({"message": "x"}, 429, {"retry-after": "0"})
    )
    done: Result = typed("deploy", "all")
    assert (done.code, project_api.functions) == (69, {})
    assert "too many requests; it was about ai-0; nothing was switched" in done.err
    assert "wait a minute, then repeat" in done.err
