"""Bad input gets one clear sentence with the next step and the right exit code or status, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.serve import Served


def run(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentops", *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=60, input=""
    )


def failed(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence and one hint on stderr, nothing on stdout, no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert told[0].startswith("agentops: ")
    assert told[1].startswith("  → ")
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("target", "code", "word"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", 69, "does not answer"),
        ("mysql://here", 2, "names no target"),
        ("postgresql://:bad port:/x", 2, "address"),
    ],
)
def test_a_wrong_database_address_is_told(served: Served, target: str, code: int, word: str) -> None:
    failed(run(dict(served.environment), "flags", "list", "--target", target), code, word)


def test_a_taken_port_is_told_with_another_one_to_try(served: Served) -> None:
    port = served.url.rpartition(":")[2]
    failed(run(dict(served.environment), "serve", "--port", port), 7, port, "--port")


def test_a_server_without_the_matching_key_does_not_listen(served: Served) -> None:
    environment = {key: value for key, value in served.environment.items() if key != "AGENTOPS_STACK_KEY"}
    failed(run(environment, "serve", "--port", "1"), 2, "key")


def test_a_bundle_that_does_not_import_is_refused_with_file_and_line(served: Served, tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "ai_void_voucher.py").write_text("import nothing_of_that_name\n")
    before = served.json("deploy", "list")
    done = run(dict(served.environment), "deploy", "ai-void-voucher", cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert "ai_void_voucher.py:1" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert served.json("deploy", "list") == before


def test_an_unknown_slug_is_told_with_the_known_ones(served: Served) -> None:
    failed(run(dict(served.environment), "deploy", "ai-nothing"), 5, "ai-create-voucher")


def test_malformed_json_is_400_and_says_so(served: Served) -> None:
    answer = httpx.post(f"{served.url}/functions/v1/ai-create-voucher", content=b"{", headers=served.authorization)
    assert answer.status_code == 400
    assert answer.json()["success"] is False


@pytest.mark.parametrize("slug", ["ai-create-voucher", "ai-whatsapp-webhook"])
def test_a_body_of_five_megabytes_is_413(served: Served, slug: str) -> None:
    answer = httpx.post(f"{served.url}/functions/v1/{slug}", content=b"x" * 5_000_000, headers=served.authorization)
    assert answer.status_code == 413
    assert answer.json()["success"] is False
