from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import cli

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import StackKeys


@pytest.fixture(autouse=True)
def _key(stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)


def _serving(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    return dict(next(line for line in map(json.loads, process.stdout) if "target" in line))


def test_it_takes_database_url_deploys_into_the_empty_and_ends_well_on_sigterm(database_url: str) -> None:
    port = cli.free_port()
    process = cli.start("serve", "--processes", "2", "--port", str(port), DATABASE_URL=database_url)
    serving = _serving(process)
    assert serving["url"] == f"http://127.0.0.1:{port}"
    status = cli.answer("--target", database_url, "status")
    assert sorted(server["role"] for server in status["servers"]) == ["web", "web", "worker"]
    assert len(cli.answer("--target", database_url, "deploy", "list")) == 6
    begun = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=15)
    assert (process.returncode, time.monotonic() - begun < 10) == (0, True)
    assert "not used" not in err


def test_a_worker_alone_listens_nowhere(database_url: str) -> None:
    process = cli.start("serve", "--role", "worker", AGENTOPS_TARGET=database_url)
    serving = _serving(process)
    assert (serving["url"], serving["role"]) == (None, "worker")
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode == 0


def test_without_the_matching_key_it_does_not_listen(database_url: str) -> None:
    port = str(cli.free_port())
    failed = cli.failure("serve", "--port", port, AGENTOPS_TARGET=database_url, AGENTOPS_STACK_KEY="A" * 43)
    assert (failed["exit"], failed["error"]) == (2, "usage")
    assert "not the one" in failed["message"]


def test_a_bad_role_is_a_usage_error(database_url: str) -> None:
    assert cli.run("serve", "--role", "nobody", AGENTOPS_TARGET=database_url)[0] == 2
