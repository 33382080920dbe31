"""Secrets of a hosted project: digests decide what is sent, and no value is ever shown."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import secrets
from agentops.platforms.supabase.management import Management
from agentops.secret_values import digest
from tests.commands.line import typed
from tests.platforms.supabase.deploying import answering

if TYPE_CHECKING:
    from agentops.platforms import SecretChange
    from tests.conftest import StackKeys
    from tests.fakes.edge import Folder
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty", "folder")


def bodies(api: ManagementApi) -> list[tuple[str, object]]:
    """What was written: method and body."""
    return [(method, json.loads(body)) for method, path, body in api.written if path == "/secrets"]


def test_several_are_set_in_one_post_and_an_equal_value_sends_nothing(project_api: ManagementApi) -> None:
    first = typed("secrets", "set", "A=1", "B=two = 2", "--json")
    assert [each["status"] for each in first.json] == ["set", "set"]
    assert bodies(project_api) == [("POST", [{"name": "A", "value": "1"}, {"name": "B", "value": "two = 2"}])]
    second = typed("secrets", "set", "A=1", "B=three", "--json")
    assert [each["status"] for each in second.json] == ["unchanged", "set"]
    assert bodies(project_api)[1:] == [("POST", [{"name": "B", "value": "three"}])]
    project_api.requests.clear()
    assert typed("secrets", "set", "A=1", "B=three").code == 0
    assert project_api.writes == []


def test_the_list_shows_digests_and_not_those_that_supabase_sets(project_api: ManagementApi) -> None:
    project_api.secrets = {"B": "bee", "A": "value-of-a"}
    done = typed("secrets", "list", "--json")
    assert {each["name"]: each["digest"] for each in done.json} == {
        "A": digest("value-of-a")[:12],
        "B": digest("bee")[:12],
    }
    assert "value-of-a" not in done.out + done.err


def test_unset_is_a_delete_with_a_body_and_absent_is_nothing_to_do(project_api: ManagementApi) -> None:
    project_api.secrets = {"A": "1", "B": "2"}
    done = typed("secrets", "unset", "A", "GONE", "--yes", "--json")
    assert [(each["name"], each["status"]) for each in done.json] == [("A", "unset"), ("GONE", "absent")]
    assert bodies(project_api) == [("DELETE", ["A"])]
    assert typed("secrets", "unset", "A", "--yes").code == 0
    assert (len(bodies(project_api)), project_api.secrets) == (1, {"B": "2"})


def moved(api: ManagementApi) -> list[SecretChange]:
    """One is set, another one is unset, in one go."""

    async def both() -> list[SecretChange]:
        management = Management("abcdefghijklmnopqrst", api.token, base_url=api.url)
        try:
            return await secrets.changed(management, {"OLD": None, "NEW": "1", "SAME": "s"}, check=False)
        finally:
            await management.aclose()

    api.secrets = {"OLD": "1", "SAME": "s"}
    return asyncio.run(both())


def test_what_is_set_goes_before_what_is_unset(project_api: ManagementApi) -> None:
    moved(project_api)
    assert [method for method, _ in bodies(project_api)] == ["POST", "DELETE"]
    assert project_api.secrets == {"NEW": "1", "SAME": "s"}


def test_what_was_set_stays_told_where_the_rest_could_not_be_unset(project_api: ManagementApi) -> None:
    project_api.refuse = answering("DELETE", "/secrets", lambda: JSONResponse({"message": "words"}, 403))
    changes = {change.name: (change.status, change.changed, change.finding) for change in moved(project_api)}
    why = "not unset: the access token may not do this on project abcdefghijklmnopqrst: words"
    assert changes == {"OLD": ("failed", False, why), "NEW": ("set", True, None), "SAME": ("unchanged", False, None)}
    assert project_api.secrets == {"OLD": "1", "NEW": "1", "SAME": "s"}


def test_an_answer_to_unset_that_was_lost_is_told_as_unknown(project_api: ManagementApi) -> None:
    project_api.refuse = answering("DELETE", "/secrets", lambda: Response(b"<html>"))
    (old,) = (change for change in moved(project_api) if change.name == "OLD")
    assert old.finding is not None
    assert (old.status, old.finding.startswith("whether it is unset is not known: ")) == ("failed", True)


def test_where_nothing_was_set_a_refused_unset_is_an_error_as_ever(project_api: ManagementApi) -> None:
    project_api.refuse = answering("DELETE", "/secrets", lambda: JSONResponse({"message": "words"}, 403))
    project_api.secrets = {"A": "1"}
    assert typed("secrets", "unset", "A", "--yes").code == 4


@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_X"])
def test_names_of_supabase_are_refused_by_name_before_anything_is_sent(project_api: ManagementApi, name: str) -> None:
    done = typed("secrets", "set", "A=1", f"{name}=secret-value")
    assert done.code == 2
    assert name in done.err
    assert "nothing was sent" in done.err
    assert "secret-value" not in done.err.replace("the value of", "")
    assert project_api.requests == []


def test_the_limits_are_checked_before_anything_is_sent(project_api: ManagementApi) -> None:
    assert typed("secrets", "set", f"{'N' * 256}=1").code == 0
    assert typed("secrets", "set", f"{'N' * 257}=1").code == 2
    assert typed("secrets", "set", f"A={'x' * 24_576}").code == 0
    too_long = typed("secrets", "set", f"A={'y' * 24_577}")
    assert (too_long.code, "24,577 bytes, the limit is 24,576" in too_long.err, "yyy" in too_long.err) == (
        2,
        True,
        False,
    )
    project_api.secrets = {f"S{number}": "1" for number in range(99)}
    assert typed("secrets", "set", "S1=2", "LAST=1").code == 0
    project_api.requests.clear()
    full = typed("secrets", "set", "ONE_MORE=1")
    assert (full.code, "that would be 101 secrets, a project has at most 100" in full.err) == (2, True)
    assert project_api.writes == []


def test_a_project_over_the_limit_can_still_change_and_unset(project_api: ManagementApi) -> None:
    project_api.secrets = {f"S{number}": "1" for number in range(105)}
    assert typed("secrets", "set", "S1=2").code == 0
    assert typed("secrets", "unset", "S2", "--yes").code == 0
    assert len(project_api.secrets) == 104


def test_an_env_file_is_compared_by_digests_without_any_value(project_api: ManagementApi, folder: Folder) -> None:
    file = folder.path / "new.env"
    file.write_text("SAME=1\nDIFFERS=new-value\nexport ONLY_HERE='x y'\nFEATURE_AGENT_CHAT=YES\n")
    project_api.secrets = {"SAME": "1", "DIFFERS": "old-value", "ONLY_THERE": "z", "FEATURE_AGENT_CHAT": "true"}
    done = typed("secrets", "diff", "--env-file", str(file), "--json")
    assert done.code == 3
    assert {each["name"]: each["status"] for each in done.json} == {
        "DIFFERS": "differs",
        "FEATURE_AGENT_CHAT": "same",
        "ONLY_HERE": "only_file",
        "ONLY_THERE": "only_target",
        "SAME": "same",
    }
    assert project_api.writes == []
    assert not any(word in done.out + done.err for word in ("new-value", "old-value", "x y"))
    assert typed("secrets", "set", "--env-file", str(file)).code == 0
    assert typed("secrets", "diff", "--env-file", str(file)).code == 0


def test_the_key_of_a_stack_on_this_machine_is_none_of_the_projects(
    project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch, stack_keys: StackKeys
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    done = typed("secrets", "set", "OPENAI_RESPONSES_MODEL=gpt-6-luna", "OPENAI_API_KEY=sk-one")
    assert (done.code, "OPENAI_RESPONSES_MODEL" in project_api.secrets) == (0, True), done.err


def test_check_foretells_and_sends_nothing(project_api: ManagementApi) -> None:
    project_api.secrets = {"A": "1"}
    assert typed("secrets", "set", "A=1", "--check").code == 0
    assert typed("secrets", "set", "A=2", "--check").code == 3
    assert typed("secrets", "unset", "A", "--check").code == 3
    assert project_api.writes == []
