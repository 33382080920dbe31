"""Shell completion: commands, verbs, flags and slugs, without a database."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(line: str) -> list[str]:
    """What bash would offer for the last word of the line."""
    environment = {
        **os.environ,
        "PYTHONPATH": "src",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_AGENTOPS_COMPLETE": "complete_bash",
    }
    run = subprocess.run(
        [sys.executable, "-m", "agentops"], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    return run.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("agentops fl", ["flags"]),
        ("agentops flags dis", ["disable"]),
        ("agentops flags disable c", ["chat", "customer-lookup"]),
        ("agentops logs show ai-create", ["ai-create-voucher"]),
        ("agentops deploy ai-void", ["ai-void-voucher"]),
        ("agentops runbook run quick", ["quick-health"]),
        ("agentops nonsense x", []),
    ],
)
def test_a_word_is_completed(line: str, offered: list[str]) -> None:
    assert completed(line) == offered
