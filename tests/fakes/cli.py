"""The program itself, as an operator runs it: a process of its own on a test's database."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 60


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Begin a command line; the variables are added to the test's own."""
    argv = [sys.executable, "-m", "agentops", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def run(*words: str, **environment: str) -> tuple[int, str, str]:
    """Run a command line to its end: exit code, stdout, stderr."""
    process = start(*words, **environment)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def answer(*words: str, **environment: str) -> Any:
    """The JSON that a command line answers; it must end well."""
    code, out, err = run(*words, "--json", **environment)
    assert code == 0, err
    return json.loads(out)


def failure(*words: str, **environment: str) -> Mapping[str, Any]:
    """The JSON error of a command line that fails, with its exit code as `exit`."""
    code, out, err = run(*words, "--json", **environment)
    assert code != 0, out
    return {"exit": code, **json.loads(err.strip().splitlines()[-1])}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
