"""`agentops target`, and what a target that is marked as production asks for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.commands.line import typed
from tests.fakes.edge import Folder
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.management_api import ManagementApi

URL = f"supabase://{REF}"
TEXT = f"""# Our stacks.
target = "prod"  # careful

[targets.prod]
url = "{URL}"
production = true

[targets.stage]
url = "postgresql://me:secret@db.example/stage"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's `agentops.toml`, in the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "agentops.toml").write_text(TEXT)
    return folder / "agentops.toml"


def test_the_list_marks_the_current_one_and_hides_passwords(file: Path) -> None:
    done = typed("target", "list", "--json")
    rows = {row["name"]: row for row in done.json}
    assert list(rows) == ["local", "sandbox", "prod", "stage"]
    assert [name for name, row in rows.items() if row["current"]] == ["prod"]
    assert rows["prod"] == {"name": "prod", "url": URL, "production": True, "current": True, "origin": str(file)}
    assert rows["stage"]["url"] == "postgresql://me:***@db.example/stage"
    assert "secret" not in done.out


def test_origin_says_where_each_value_comes_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def origins(*words: str) -> dict[str, tuple[str, str]]:
        found = typed(*words, "target", "show", "--origin", "--json").json
        return {row["name"]: (row["value"], row["origin"]) for row in found}

    found = origins()
    assert found["target"] == ("prod", str(file))
    assert found["url"] == (URL, str(file))
    assert found["production"] == ("true", str(file))
    assert found["access token"] == ("none", "default")
    assert origins("--target", "stage")["target"] == ("stage", "--target")
    monkeypatch.setenv("AGENTOPS_TARGET", "local")
    assert origins()["target"] == ("local", "AGENTOPS_TARGET")
    assert typed("--target", "prod", "target", "show").out.strip() == f"prod ({URL})"


def test_origin_has_a_row_for_everything_that_can_be_set_and_follows_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> dict[str, tuple[str, str]]:
        return {
            row["name"]: (row["value"], row["origin"]) for row in typed("target", "show", "--origin", "--json").json
        }

    file.write_text(f'target = "stage"\n[targets.stage]\nurl = "{URL}"\n')
    before = rows()
    assert before["functions"] == (f"{file.parent}/supabase/functions", "default")
    said = {
        "production": ("true", "production = true"),
        "server": ("postgresql://me:***@db/stack", 'server = "postgresql://me:secret@db/stack"'),
        "functions": (f"{file.parent}/edge", 'functions = "edge"'),
        "slack.channel": ("#incidents", 'slack.channel = "#incidents"'),
        "whatsapp.phone_number_id": ("106540352242922", 'whatsapp.phone_number_id = "106540352242922"'),
        "whatsapp.business_account_id": ("102290129340398", "whatsapp.business_account_id = 102290129340398"),
    }
    file.write_text(file.read_text() + "\n".join(line for _, line in said.values()))
    told = {
        "SUPABASE_ACCESS_TOKEN": "given",
        "SUPABASE_API_URL": "http://127.0.0.1:1",
        "SUPABASE_FUNCTIONS_URL": "http://127.0.0.1:2",
        "AGENTOPS_HOME": str(file.parent / "home"),
        "AGENTOPS_ACTOR": "other@there",
        "AGENTOPS_PORT": "54999",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    expected = {name: (value, str(file)) for name, (value, _) in said.items()}
    expected |= {name: (value, name) for name, value in told.items()}
    expected["access token"] = expected.pop("SUPABASE_ACCESS_TOKEN")
    expected |= {"target": ("stage", str(file)), "url": (URL, str(file))}
    after = rows()
    assert after == expected
    # Nothing was there by itself, but what says where the test itself is.
    same = {name for name in after if after[name] == before[name]}
    assert same == {"target", "url"}


def test_use_keeps_comments_and_everything_else(file: Path) -> None:
    plan = typed("target", "use", "stage", "--check")
    assert (plan.code, plan.out) == (3, f"{file} would name stage\n")
    assert file.read_text() == TEXT
    done = typed("target", "use", "stage", "--json")
    assert (done.code, done.json["changed"], done.json["file"]) == (0, True, str(file))
    assert file.read_text() == TEXT.replace('target = "prod"', 'target = "stage"')
    again = typed("target", "use", "stage", "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    assert typed("target", "use", "stage", "--check").code == 0


def test_use_of_a_name_that_is_none_changes_nothing(file: Path) -> None:
    done = typed("target", "use", "prd")
    assert (done.code, "they are: local, sandbox, prod, stage" in done.err) == (5, True)
    assert file.read_text() == TEXT


def test_use_without_a_project_file_writes_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("target", "use", "sandbox").code == 0
    assert (tmp_path / "config" / "agentops" / "agentops.toml").read_text() == 'target = "sandbox"\n'
    assert typed("target", "show").out.strip() == "sandbox"


CHANGES = [
    ("secrets", "set", "FEATURE_AGENT_CHAT=on"),
    ("secrets", "unset", "A", "--yes"),
    ("flags", "enable", "chat"),
    ("deploy", "all"),
    ("deploy", "delete", "ai-one", "--yes"),
    ("deploy", "rollback", "ai-one"),
    ("incident", "restore", "1", "--yes"),
]


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("line", CHANGES)
def test_production_asks_for_its_name_before_anything_is_sent(
    project_api: ManagementApi, line: tuple[str, ...]
) -> None:
    asked = typed(*line, "--json")
    error = json.loads(asked.err.strip().splitlines()[-1])
    assert (asked.code, error["error"]) == (6, "not_confirmed")
    assert f"prod ({URL}) is marked as production" in error["message"]
    assert "--confirm prod" in error["hint"]
    wrong = typed(*line, "--confirm", "prd")
    assert (wrong.code, "--confirm prd is not the name of this target" in wrong.err) == (6, True)
    # An address is the same target, and its name is asked for all the same.
    assert typed("--target", URL, *line).code == 6
    assert project_api.requests == []


@pytest.mark.usefixtures("file")
def test_the_name_lets_it_pass_and_looking_never_asks(project_api: ManagementApi) -> None:
    assert typed("secrets", "set", "FEATURE_AGENT_CHAT=on", "--confirm", "prod").code == 0
    assert typed("--confirm=prod", "flags", "enable", "voice").code == 0
    assert project_api.secrets == {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
    for line in (("secrets", "list"), ("flags", "list"), ("deploy", "list"), ("secrets", "set", "A=1", "--check")):
        assert typed(*line).code in {0, 3}


@pytest.mark.usefixtures("file")
def test_switching_off_never_asks(project_api: ManagementApi) -> None:
    project_api.secrets = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
    assert typed("flags", "disable", "chat").code == 0
    assert typed("incident", "kill-switch").code == 0
    assert project_api.secrets == {"FEATURE_AGENT_CHAT": "false", "FEATURE_AGENT_VOICE": "false"}


def test_what_stands_in_a_file_never_keeps_from_switching_off(
    project_api: ManagementApi, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_PORT", "abc")
    for text, words in [
        ("a = = 1\n", "agentops.toml cannot be read: Invalid value"),
        ("slack.chanel = '#x'\n", "no field is called slack.chanel"),
        ("slack.webhook = 'https://hooks.slack.com/services/T0/B0/hunter2'\n", "slack.webhook looks like a secret"),
        ("whatsapp.phone_number_id = 'abc'\n", "whatsapp.phone_number_id is not what it has to be"),
        ("functions = '~nobody-here-of-that-name/x'\n", "functions names the home folder of a user who has none"),
        ("[targets.other]\nurl = 'local'\nprodution = true\n", "no field is called targets.other.prodution"),
    ]:
        file.write_text(text)
        for line in (("incident", "kill-switch"), ("flags", "disable", "chat", "voice")):
            project_api.secrets = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
            done = typed("--target", URL, *line)
            assert (done.code, project_api.secrets["FEATURE_AGENT_CHAT"]) == (0, "false"), done.err
            assert f"note: {file}" in done.err
            assert f"{words}" in done.err
            assert "; going on without it\n" in done.err
            assert "hunter2" not in done.out + done.err
            # Whatever else is typed is refused as before.
            assert typed("--target", URL, "flags", "enable", "chat").code == 2


def test_a_server_that_may_be_named_in_a_file_that_cannot_be_read_is_not_passed_over_in_silence(
    project_api: ManagementApi, file: Path
) -> None:
    project_api.secrets = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
    file.write_text("a = = 1\n")
    done = typed("--target", URL, "incident", "kill-switch")
    assert "note: whether a server stands behind the project cannot be known" in done.err
    file.write_text("a = 1\n")
    assert "a server stands" not in typed("--target", URL, "incident", "kill-switch").err


def test_switching_off_without_a_word_on_where_is_refused_where_that_cannot_be_read(
    project_api: ManagementApi, file: Path
) -> None:
    file.write_text("a = = 1\n")
    done = typed("incident", "kill-switch")
    assert (done.code, "which target is meant cannot be known" in done.err) == (2, True)
    assert "  → say which: --target supabase://<ref>" in done.err
    assert project_api.requests == []


def test_a_folder_that_is_gone_and_a_user_without_a_home_may_switch_off(
    project_api: ManagementApi, tmp_path: Path
) -> None:
    """As a process of its own: where it stands and who it is are the process's."""
    gone = "import os, sys, tempfile\nos.chdir(folder := tempfile.mkdtemp())\nos.rmdir(folder)\n"
    nobody = "import os, sys\nos.path.expanduser = lambda path: path\n"
    run = "from agentops.main import run\nsys.exit(run(sys.argv[1:]))"
    unset = {"HOME", "XDG_CONFIG_HOME", "AGENTOPS_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    home = {"AGENTOPS_HOME": str(tmp_path / "home")}
    for before, extra, words in [
        (gone, {"HOME": str(tmp_path)}, "the working folder cannot be found any more"),
        (nobody, home, "this user has no home folder"),
        (nobody, {"XDG_CONFIG_HOME": str(tmp_path)}, "the state folder cannot be found"),
    ]:
        project_api.secrets = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
        argv = [sys.executable, "-c", before + run]
        line = [*argv, "--target", URL, "incident", "kill-switch"]
        done = subprocess.run(line, env={**environment, **extra}, capture_output=True, text=True, check=False)
        assert (done.returncode, project_api.secrets["FEATURE_AGENT_CHAT"]) == (0, "false"), done.stderr
        assert f"note: {words}; going on without it" in done.stderr
        shown = subprocess.run(
            [*argv, "target", "show"], env={**environment, **extra}, capture_output=True, text=True, check=False
        )
        assert (shown.returncode, words in shown.stderr) == (2, True), shown.stderr


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(("answer", "code"), [("prod", 0), ("prd", 6), ("", 6), ("y", 6)])
def test_on_a_terminal_the_name_has_to_be_typed(project_api: ManagementApi, answer: str, code: int) -> None:
    parent, child = pty.openpty()
    argv = [sys.executable, "-m", "agentops", "flags", "enable", "chat"]
    process = subprocess.Popen(argv, stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    deadline = time.monotonic() + 40
    while b"type its name to go on" not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(parent, 1000)
    # Ctrl-D after an empty answer, which would be asked for again.
    os.write(parent, f"{answer}\n".encode() if answer else b"\x04")
    try:
        while os.read(parent, 1000):
            pass
    except OSError:
        pass  # the other end is closed
    assert process.wait(40) == code
    os.close(parent)
    assert project_api.secrets == ({"FEATURE_AGENT_CHAT": "true"} if code == 0 else {})


def test_the_stack_behind_a_production_project_asks_by_any_of_its_addresses(file: Path) -> None:
    file.write_text(
        f'[targets.prod]\nurl = "{URL}"\nproduction = true\nserver = "postgresql://me:s3cret@127.0.0.1:1/stack"\n'
    )
    for address in ("postgresql://127.0.0.1:1/stack", "postgres://other@localhost:1/stack?application_name=x"):
        asked = typed("--target", address, "flags", "enable", "chat")
        assert (asked.code, "--confirm prod" in asked.err) == (6, True)
        assert typed("--target", address, "flags", "enable", "chat", "--confirm", "prod").code == 69
    assert typed("--target", "postgresql://127.0.0.1:1/other", "flags", "enable", "chat").code == 69


def test_a_name_that_is_typed_in_error_is_not_repeated_where_it_may_be_an_address(file: Path) -> None:
    done = typed("target", "use", "postgresql://me:s3cret@db/stack")
    assert (done.code, "s3cret" in done.err) == (5, False)
    assert file.read_text() == TEXT


@pytest.mark.usefixtures("project_api")
def test_results_name_the_target(file: Path) -> None:
    Folder(file.parent).function("ai-one")
    done = typed("deploy", "all", "--confirm", "prod")
    assert (done.code, URL in done.out + done.err) == (0, True)
