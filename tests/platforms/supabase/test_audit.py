"""Every command that changes a hosted project leaves a word of who did what: names, never values."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse

from agentops.errors import AgentOpsError
from agentops.platforms.supabase import SupabasePlatform, audit
from agentops.platforms.supabase.management import Management
from tests.commands.line import typed
from tests.fakes import cli
from tests.fakes.machines import audited, lines, stored
from tests.fakes.management_api import REF, TOKEN
from tests.platforms.supabase.deploying import answering, deployed, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.edge import Folder
    from tests.fakes.machines import Machines
    from tests.fakes.management_api import ManagementApi

pytestmark = pytest.mark.usefixtures("hasty")

CHAT, VOICE = "FEATURE_AGENT_CHAT", "FEATURE_AGENT_VOICE"


@pytest.fixture(autouse=True)
def _at_ada(machines: Machines) -> None:
    machines.at("ada")


def words(api: ManagementApi) -> list[tuple[object, object]]:
    """Action and subject of each entry."""
    return [(action, subject) for _, action, subject in audited(api)]


def outcomes(api: ManagementApi) -> list[object]:
    found: list[Any] = stored(api, "audit")
    return [each["detail"].get("outcome") for each in found]


def ok(*argv: str) -> None:
    done = typed(*argv)
    assert done.code == 0, done.err


def test_each_change_is_there_in_the_words_of_a_stack_of_ones_own(
    shared_project: ManagementApi, folder: Folder
) -> None:
    for text in ("one", "two"):
        folder.function("ai-one", text)
        deployed("ai-one")
    ok("deploy", "rollback", "ai-one")
    ok("secrets", "set", "WA_TOKEN=hidden-value", f"{CHAT}=true", f"{VOICE}=no")
    ok("secrets", "unset", "WA_TOKEN", VOICE, "--yes")
    ok("flags", "disable", "chat")
    ok("flags", "enable", "chat")
    ok("secrets", "set", "WA_TOKEN=other-value", "--redeploy")
    ok("deploy", "delete", "ai-one", "--yes")
    assert words(shared_project) == [
        ("function.deploy", "ai-one"),
        ("function.deploy", "ai-one"),
        ("function.rollback", "ai-one"),
        ("secret.set", "WA_TOKEN"),
        ("flag.enable", CHAT),
        ("flag.disable", VOICE),
        ("secret.unset", "WA_TOKEN"),
        ("flag.unset", VOICE),
        ("flag.disable", CHAT),
        ("flag.enable", CHAT),
        ("secret.set", "WA_TOKEN"),
        ("function.reload", "ai-one"),
        ("function.delete", "ai-one"),
    ]
    assert {actor for actor, _, _ in audited(shared_project)} == {"ada@there"}
    everything = json.dumps(stored(shared_project, "audit")) + "".join(lines("audit.jsonl"))
    assert "-value" not in everything
    versions: list[Any] = [each["detail"] for each in stored(shared_project, "audit")]
    assert [detail.get("version") for detail in versions[:3]] == [1, 2, 3]


def test_what_changes_nothing_leaves_no_word(shared_project: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    shared_project.secrets = {"A": "x", CHAT: "true"}
    for line in (
        ("deploy", "ai-one", "--check"),
        ("secrets", "set", "A=x"),
        ("secrets", "set", "A=y", "--check"),
        ("secrets", "unset", "B", "--yes"),
        ("flags", "enable", "chat"),
        ("flags", "disable", "chat", "--check"),
        ("incident", "kill-switch", "--check"),
    ):
        assert typed(*line).code in {0, 3}, line
    assert stored(shared_project, "audit") == []


def test_a_change_that_was_refused_leaves_none_either(shared_project: ManagementApi) -> None:
    shared_project.refuse = lambda _method, below: JSONResponse({"message": "no"}, 503) if below == "/secrets" else None
    assert typed("secrets", "set", "A=x").code == 69
    assert stored(shared_project, "audit") == []


def test_a_change_of_which_nobody_knows_how_far_it_came_says_so(shared_project: ManagementApi) -> None:
    shared_project.refuse = answering("POST", "/secrets", lambda: JSONResponse({"message": "late"}, 504))
    assert typed("secrets", "set", "A=x").code == 69
    assert (words(shared_project), outcomes(shared_project)) == ([("secret.set", "A")], ["unavailable"])


def test_a_flag_that_is_not_as_it_should_be_afterwards_says_so(shared_project: ManagementApi) -> None:
    shared_project.after = lambda api: api.secrets.update({CHAT: "true"})
    assert typed("flags", "disable", "chat").code == 8
    assert (words(shared_project), outcomes(shared_project)) == ([("flag.disable", CHAT)], ["unverified"])


def test_a_deploy_that_does_not_answer_says_so(shared_project: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    shared_project.statuses = {"ai-one": 503}
    assert typed("deploy", "ai-one").code == 8
    assert (words(shared_project), outcomes(shared_project)) == ([("function.deploy", "ai-one")], ["unverified"])


def test_an_interrupted_deploy_is_in_the_file_and_sent_by_the_next_command(
    shared_project: ManagementApi, folder: Folder
) -> None:

    folder.function("ai-one")
    never = threading.Event()
    shared_project.held = lambda _method, below: never if below == "/functions/deploy" else None
    process = cli.start("deploy", "ai-one")
    try:
        until(lambda: ("POST", "/functions/deploy") in [each[:2] for each in shared_project.written])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
    finally:
        never.set()
    assert process.returncode == 130
    assert stored(shared_project, "audit") == []
    ok("deploy", "list")
    assert (words(shared_project), outcomes(shared_project)) == ([("function.deploy", "ai-one")], ["interrupted"])


@pytest.mark.usefixtures("folder")
def test_without_our_schema_the_words_are_in_this_machines_file(project_api: ManagementApi) -> None:
    ok("secrets", "set", "A=hidden-value")
    found = [json.loads(line) for line in lines("audit.jsonl")]
    assert [(each["actor"], each["action"], each["subject"]) for each in found] == [("ada@there", "secret.set", "A")]
    assert "hidden-value" not in "".join(lines("audit.jsonl"))
    assert len(project_api.statements) == 1


@pytest.mark.usefixtures("folder")
def test_a_full_disk_is_said_and_keeps_nothing_from_being_done(tmp_path: Path, project_api: ManagementApi) -> None:
    (tmp_path / "home-of-ada").mkdir()
    (tmp_path / "home-of-ada" / "supabase").write_text("a file where the folder should be")
    done = typed("secrets", "set", "A=x")
    assert (done.code, project_api.secrets) == (0, {"A": "x"})
    assert "no audit entry of it" in done.err


class TestRecord:
    """What must not be done without its entry."""

    def reveal(self, api: ManagementApi, home: Path) -> list[str]:
        told: list[str] = []

        async def run() -> None:
            state = home / "supabase" / REF
            platform = SupabasePlatform(
                Management(REF, TOKEN, base_url=api.url), api.url, state=state, actor="ada@there", told=told.append
            )
            try:
                await audit.record(platform, [audit.Act("function.reveal", "ai-one")])
            finally:
                await platform.close()

        asyncio.run(run())
        return told

    def test_it_is_in_the_file_and_in_the_database(self, shared_project: ManagementApi, tmp_path: Path) -> None:
        assert self.reveal(shared_project, tmp_path) == []
        assert audited(shared_project) == [("ada@there", "function.reveal", "ai-one")]
        assert (tmp_path / "supabase" / REF / "audit.jsonl").read_text().count("function.reveal") == 1

    def test_where_it_cannot_be_written_down_the_database_is_enough(
        self, shared_project: ManagementApi, tmp_path: Path
    ) -> None:
        (tmp_path / "supabase").write_text("a file where a folder should be")
        (said,) = self.reveal(shared_project, tmp_path)
        assert "audit.jsonl could not be written" in said
        assert said.endswith("; the project's database has the entry")
        assert audited(shared_project) == [("ada@there", "function.reveal", "ai-one")]

    def test_without_either_it_fails(self, project_api: ManagementApi, tmp_path: Path) -> None:
        (tmp_path / "supabase").write_text("a file where a folder should be")
        with pytest.raises(AgentOpsError, match=r"audit\.jsonl could not be written"):
            self.reveal(project_api, tmp_path)


@pytest.mark.usefixtures("folder")
def test_a_full_disk_keeps_no_entry_from_the_database(tmp_path: Path, shared_project: ManagementApi) -> None:
    (tmp_path / "home-of-ada").mkdir()
    (tmp_path / "home-of-ada" / "supabase").write_text("a file where the folder should be")
    done = typed("flags", "disable", "chat")
    assert (done.code, done.err.count("no audit entry of it on this machine")) == (0, 1)
    assert audited(shared_project) == [("ada@there", "flag.disable", CHAT)]
