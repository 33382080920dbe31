"""The kill switch pressed by many and against the stubborn; bundles that mean harm to whoever imports them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from agentops.store.database import MONEY_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.attacks.conftest import Attacked

GOOD = """
from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {"mark": "MARK"})
"""
SLUG = "ai-canary"
HARMFUL = {
    "ends the process": "import os\nos._exit(0)\n",
    "asks to exit": "import sys\nsys.exit(0)\n",
    "never ends": "while True:\n    pass\n",
    "is no Python": "async def handle(request, stack:\n",
    "has no handle": "handle = 5\n",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "answers for the check": 'print(\'{"slug": "ai-canary", "finding": null}\', flush=True)\nimport os\nos._exit(0)\n',
}
PRINTS = "import sys\nprint('x' * 100_000)\nsys.stdout.flush()\nprint('y', file=sys.stderr)\n"


def begin(attacked: Attacked, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agentops", *words, "--json"]
    pipe = subprocess.PIPE
    environment = dict(attacked.environment)
    return subprocess.Popen(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )


def end(process: subprocess.Popen[str]) -> tuple[int, Any, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out.strip() else None, err


@pytest.fixture
def restored(attacked: Attacked) -> Iterator[None]:
    yield
    for incident in attacked.json("incident", "list"):
        if incident["status"] == "open":
            attacked.run("incident", "restore", str(incident["id"]), "--yes")
    attacked.json("flags", "enable", "chat", "voice", "vouchers", "customer-lookup")


@pytest.mark.usefixtures("restored")
def test_five_who_press_at_once_open_one_incident_and_each_is_told_the_truth(attacked: Attacked) -> None:
    results = [end(each) for each in [begin(attacked, "incident", "kill-switch", "--all") for _ in range(5)]]
    assert [code for code, _, _ in results] == [0] * 5, results
    assert len({killed["incident"] for _, killed, _ in results}) == 1
    assert [killed["changed"] for _, killed, _ in results].count(True) == 1
    assert all(killed["unconfirmed"] == [] and len(killed["confirmed"]) == 3 for _, killed, _ in results)


@pytest.mark.usefixtures("restored")
def test_money_that_hangs_is_named_and_the_flags_are_off_all_the_same(attacked: Attacked) -> None:
    with psycopg.connect(attacked.database_url, application_name="hung-money") as hung:
        hung.execute("select pg_advisory_xact_lock_shared(%s)", (MONEY_LOCK,))
        code, killed, _ = end(begin(attacked, "incident", "kill-switch", "--features", "vouchers"))
        assert code == 9
        assert str(hung.info.backend_pid) in json.dumps(killed["unconfirmed"])
        body = {"customer_msisdn": "+250788000000", "amount": 5}
        assert attacked.post("ai-create-voucher", body).status_code == 403


@pytest.mark.long
@pytest.mark.usefixtures("restored")
def test_a_server_that_is_stopped_is_named_and_the_others_confirm(attacked: Attacked) -> None:
    victim = attacked.pids("web")[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        code, killed, _ = end(begin(attacked, "incident", "kill-switch", "--all"))
    finally:
        os.kill(victim, signal.SIGCONT)
    assert code == 9
    assert f":{victim}" in json.dumps(killed["unconfirmed"])
    assert len(killed["confirmed"]) == 2


def bundle(folder: Path, source: str) -> Path:
    (folder / "functions").mkdir(exist_ok=True)
    (folder / "functions" / "ai_canary.py").write_text(source)
    return folder


def mark(attacked: Attacked) -> Any:
    answer = httpx.get(f"{attacked.url}/functions/v1/{SLUG}", timeout=10)
    return answer.json().get("mark") if answer.status_code == 200 else answer.status_code


@pytest.mark.long
def test_a_harmful_bundle_is_refused_before_anything_is_switched(attacked: Attacked, tmp_path: Path) -> None:
    assert end(begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, GOOD)))[0] == 0
    running = []
    for number, source in enumerate(HARMFUL.values()):
        (tmp_path / str(number)).mkdir()
        running.append(
            begin(
                attacked, "deploy", SLUG, cwd=bundle(tmp_path / str(number), source + GOOD * ("handle" not in source))
            )
        )
    for what, process in zip(HARMFUL, running, strict=True):
        code, _, err = end(process)
        assert code not in {0, 3, 8}, (what, err)
        assert "ai_canary.py" in err or "ai-canary" in err, (what, err)
    assert mark(attacked) == "MARK"
    assert [each["version"] for each in attacked.json("deploy", "history", SLUG)] == [1]


def test_a_bundle_that_prints_mixes_with_no_answer(attacked: Attacked, tmp_path: Path) -> None:
    code, deployed, _ = end(
        begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, PRINTS + GOOD.replace("MARK", "prints")))
    )
    assert (code, deployed[0]["status"]) == (0, "active")
    assert mark(attacked) == "prints"


@pytest.mark.parametrize(
    "slug", ["../../../etc/passwd", "ai-canary/../x", "/etc/passwd", "ai-canary%2f..", "..", "Ai-Canary", "a b"]
)
def test_a_slug_is_no_path(attacked: Attacked, tmp_path: Path, slug: str) -> None:
    code, _, err = end(begin(attacked, "deploy", slug, cwd=bundle(tmp_path, GOOD)))
    assert code in {2, 5}
    assert "passwd:" not in err


def test_a_bundle_over_five_megabytes_is_refused(attacked: Attacked, tmp_path: Path) -> None:
    code, _, err = end(begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, GOOD + "#" * 5_000_001)))
    assert code == 2
    assert "5,000,000" in err


def test_two_deploys_at_once_leave_one_of_them_whole(attacked: Attacked, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        bundle(folder, GOOD.replace("MARK", folder.name))
    codes = [end(each)[0] for each in [begin(attacked, "deploy", SLUG, cwd=folder) for folder in folders]]
    assert 0 in codes
    assert set(codes) <= {0, 7}
    [active] = [each for each in attacked.json("deploy", "list") if each["slug"] == SLUG]
    assert active["status"] == "active"
    assert {mark(attacked) for _ in range(10)} <= {"one", "two"}
    assert len({mark(attacked) for _ in range(10)}) == 1


@pytest.mark.long
def test_a_deploy_that_is_killed_at_any_moment_leaves_an_old_or_a_new_version(
    attacked: Attacked, tmp_path: Path
) -> None:
    assert end(begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, GOOD.replace("MARK", "before"))))[0] == 0
    seen = {"before"}
    for number in range(8):
        name = f"killed-{number}"
        process = begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, GOOD.replace("MARK", name)))
        seen.add(name)
        # A whole deploy takes about a second; the blow falls in all of its parts.
        time.sleep(0.25 + number * 0.15)
        process.kill()
        process.communicate()
        assert {mark(attacked) for _ in range(6)} <= seen
    code, deployed, _ = end(begin(attacked, "deploy", SLUG, cwd=bundle(tmp_path, GOOD.replace("MARK", "after"))))
    assert (code, deployed[0]["status"]) == (0, "active")
    assert {mark(attacked) for _ in range(10)} == {"after"}
