"""What a process is told, and in which order the places count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops import configuration, settings
from agentops.errors import UsageError
from agentops.settings import process

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "deep").mkdir(parents=True)
    (tmp_path / "project" / "agentops.toml").write_text('target = "sandbox"\n')
    return tmp_path / "project"


def test_the_option_counts_more_than_the_environment_more_than_the_file(project: Path) -> None:
    environment = {"AGENTOPS_TARGET": "postgresql://env/db", "AGENTOPS_HOME": "/h"}
    deep = project / "deep"
    assert process("local", environment, deep).origin == "--target"
    assert process(None, environment, deep).target == "postgresql://env/db"
    found = process(None, {"AGENTOPS_HOME": "/h"}, deep)
    assert (found.target, found.origin) == ("sandbox", str(project / "agentops.toml"))
    assert found.project == project
    assert process(None, {"AGENTOPS_HOME": "/h"}, project.parent).target == "local"


def test_the_users_own_file_counts_last(tmp_path: Path) -> None:
    config = configuration.user_file().parent
    config.mkdir(parents=True)
    (config / "agentops.toml").write_text('target = "postgresql://mine/db"\n')
    found = process(None, {"AGENTOPS_HOME": "/h"}, tmp_path)
    assert (found.target, found.project) == ("postgresql://mine/db", tmp_path)


def test_the_sandbox_has_nothing_of_the_target_that_it_stands_in_for(project: Path) -> None:
    (project / "agentops.toml").write_text(
        'target = "prod"\nfunctions = "all"\n[targets.prod]\nurl = "postgresql://db/prod"\nproduction = true\n'
        'functions = "own"\n'
    )
    found = process(None, {"AGENTOPS_HOME": "/h"}, project)
    assert (found.name, found.production, found.functions) == ("prod", True, project / "own")
    other = settings.elsewhere(found, "sandbox", "--sandbox")
    assert (other.target, other.origin, other.name, other.production) == ("sandbox", "--sandbox", None, False)
    assert (other.functions, other.project) == (project / "all", project)


def test_database_url_never_chooses_a_target(tmp_path: Path) -> None:
    assert process(None, {"DATABASE_URL": "postgresql://x/y", "AGENTOPS_HOME": "/h"}, tmp_path).target == "local"


@pytest.mark.parametrize("target", ["mysql://x", "supabase://short", "prod", "postgres:x"])
def test_a_target_of_an_unknown_form_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no target"):
        process(target, {}, tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "agentops.toml").write_text("target = ")
    with pytest.raises(UsageError, match=r"agentops\.toml cannot be read"):
        process(None, {}, tmp_path)


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "9" * 5000, "²"])
def test_a_port_that_is_none_is_refused(port: str, tmp_path: Path) -> None:
    told = process(None, {"AGENTOPS_PORT": port, "AGENTOPS_HOME": "/h"}, tmp_path)
    with pytest.raises(UsageError, match="AGENTOPS_PORT"):
        _ = told.port


def test_a_port_is_read_where_it_is_used(tmp_path: Path) -> None:
    assert process(None, {"AGENTOPS_PORT": "54999", "AGENTOPS_HOME": "/h"}, tmp_path).port == 54999
    assert process(None, {"AGENTOPS_HOME": "/h"}, tmp_path).port is None


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    told = process("postgresql://me:s3cret@db/stack", {"AGENTOPS_HOME": "/h"}, tmp_path)
    assert told.label == "postgresql://me:***@db/stack"
    for target in ("mysql://me:s3cret@db/stack", "postgres:me:s3cret/x", "s3cret!", "supabase://s3cret!"):
        with pytest.raises(UsageError) as refused:
            process(target, {}, tmp_path)
        assert "s3cret" not in refused.value.message + (refused.value.hint or "")


def test_a_folder_that_cannot_be_found_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the state folder cannot be found"):
        process(None, {"AGENTOPS_HOME": "~nobody-here-of-that-name/x"}, tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working folder cannot be found"):
        process(None, {"AGENTOPS_HOME": "/h"})


def test_flags_have_a_short_and_a_full_name() -> None:
    assert settings.flag_name("chat") == settings.flag_name("FEATURE_AGENT_CHAT") == "FEATURE_AGENT_CHAT"
    assert settings.flag_name("feature_agent_new") == "FEATURE_AGENT_NEW"
    assert settings.flag_alias("FEATURE_AGENT_CUSTOMER_LOOKUP") == "customer-lookup"
    assert settings.flag_alias("FEATURE_AGENT_NEW") == "FEATURE_AGENT_NEW"
    with pytest.raises(UsageError) as unknown:
        settings.flag_name("chatt")
    assert "chat, voice, vouchers, customer-lookup" in (unknown.value.hint or "")


def test_names_that_somebody_put_in_the_environment_are_found() -> None:
    environment = {"OPENAI_API_KEY": "x", "FEATURE_AGENT_CHAT": "1", "PATH": "/bin", "OPENAI_BASE_URL": "http://x"}
    assert settings.ignored_names(environment) == ["FEATURE_AGENT_CHAT", "OPENAI_API_KEY"]
