"""`secrets set --redeploy`: what runs is deployed anew as it is, so that it reads the new values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse

from tests.commands.line import typed
from tests.fakes.hosted import deployed, project
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project with one function that somebody else deployed."""
    fresh = ManagementApi(functions={"ai-one": deployed("ai-one", verify_jwt=True)})
    with project(fresh, monkeypatch, tmp_path):
        yield fresh


def test_what_runs_is_deployed_anew_as_it_is(api: ManagementApi) -> None:
    assert typed("init", "--edge").code == 0
    assert typed("deploy", "ai-void-voucher").code == 0
    before = {slug: (each.row["version"], dict(each.files)) for slug, each in api.functions.items()}
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy", "--json")
    assert done.code == 0, done.err
    assert [(change["name"], change["status"]) for change in done.json] == [("WA_TOKEN", "set")]
    after = {slug: (each.row["version"], dict(each.files)) for slug, each in api.functions.items()}
    assert after == {slug: (version + 1, files) for slug, (version, files) in before.items()}
    assert {slug: each.row["verify_jwt"] for slug, each in api.functions.items()} == {
        "ai-one": True,
        "ai-void-voucher": False,
    }
    assert "deployed anew: ai-one version 4, ai-void-voucher version 2" in done.err
    paths = [(method, path) for method, path, _ in api.writes if not path.startswith("/functions/v1")]
    assert paths.index(("POST", "/secrets")) < paths.index(("PUT", "/functions"))
    # What runs is still what this machine deployed, and going back leads to what was before.
    assert typed("deploy", "ai-void-voucher", "--json").json[0]["status"] == "unchanged"


def test_it_is_forced_also_where_the_value_is_set_already(api: ManagementApi) -> None:
    api.secrets["WA_TOKEN"] = "new"
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy", "--json")
    assert (done.code, done.json[0]["status"], api.functions["ai-one"].row["version"]) == (0, "unchanged", 4)


def test_check_says_so_and_writes_nothing(api: ManagementApi) -> None:
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy", "--check")
    assert (done.code, api.writes) == (3, [])
    assert "would deploy anew" in done.err


def test_without_it_the_minutes_of_an_old_value_are_told(api: ManagementApi) -> None:
    done = typed("secrets", "set", "WA_TOKEN=new")
    assert (done.code, api.functions["ai-one"].row["version"]) == (0, 3)
    assert "may keep the old values for minutes" in done.err
    assert "--redeploy" in done.err
    assert "minutes" not in typed("secrets", "set", "WA_TOKEN=new").err


def test_a_function_whose_source_cannot_be_had_is_left_and_named(api: ManagementApi) -> None:
    api.functions["ai-two"] = deployed("ai-two", import_map=True)
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy")
    assert (done.code, api.secrets["WA_TOKEN"]) == (10, "new")
    assert (api.functions["ai-one"].row["version"], api.functions["ai-two"].row["version"]) == (4, 3)
    assert "ai-two: its source is not kept here" in done.err


def test_a_deploy_that_fails_says_that_the_secrets_are_set(api: ManagementApi) -> None:
    answer = JSONResponse({"message": "Forbidden action"}, 403)
    api.refuse = lambda _method, path: answer if path == "/functions" else None
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy", "--json")
    assert (done.code, api.secrets["WA_TOKEN"], done.json[0]["changed"]) == (4, "new", True)
    assert "the secrets are set, but nothing was deployed anew" in done.err


def test_on_a_stack_of_ones_own_it_is_not_needed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    done = typed("secrets", "set", "WA_TOKEN=new", "--redeploy", "--json")
    assert (done.code, done.json[0]["status"]) == (0, "set")
    assert "--redeploy is not needed here" in done.err
