"""What the first look at agentops may load: neither a driver nor a server nor a client of anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "httpx",
    "psycopg",
    "psycopg_pool",
    "openai",
    "starlette",
    "uvicorn",
    "pydantic",
    "yaml",
    "cryptography",
    "rich",
}
PROBE = """
import json, os, sys
from agentops import main
os._exit = sys.exit
sys.argv = ["agentops", *json.loads(sys.argv[1])]
try:
    main.main()
except SystemExit:
    pass
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def loaded(argv: list[str]) -> set[str]:
    """The top-level modules in a fresh process after one command line."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(argv)], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout, "the command line said something"
    return set(json.loads(run.stderr.splitlines()[-1]))


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["flags", "--help"], ["incident", "--help"]])
def test_help_and_version_load_nothing_heavy(argv: list[str]) -> None:
    assert loaded(argv) & HEAVY == set()


def test_the_version_needs_no_parser() -> None:
    assert not loaded(["--version"]) & {"typer", "asyncio", "importlib.metadata"}
