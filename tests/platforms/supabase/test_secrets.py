"""Secrets of a hosted project: digests decide what is sent, and no value is ever shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agentops.secret_values import digest
from tests.commands.line import typed

if TYPE_CHECKING:
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


def test_what_is_set_goes_before_what_is_unset(project_api: ManagementApi) -> None:
    import asyncio

    from agentops.platforms.supabase import secrets
    from agentops.platforms.supabase.management import Management

    project_api.secrets = {"OLD": "1"}

    async def both() -> None:
        api = Management("abcdefghijklmnopqrst", project_api.token, base_url=project_api.url)
        try:
            await secrets.changed(api, {"OLD": None, "NEW": "1"}, check=False)
        finally:
            await api.aclose()

    asyncio.run(both())
    assert [method for method, _ in bodies(project_api)] == ["POST", "DELETE"]
    assert project_api.secrets == {"NEW": "1"}


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


def test_check_foretells_and_sends_nothing(project_api: ManagementApi) -> None:
    project_api.secrets = {"A": "1"}
    assert typed("secrets", "set", "A=1", "--check").code == 0
    assert typed("secrets", "set", "A=2", "--check").code == 3
    assert typed("secrets", "unset", "A", "--check").code == 3
    assert project_api.writes == []
