"""A hosted project in a process of its own: the fake Management API that the tests use, until its stdin closes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
# The limit of 120 requests a minute would measure the waiting.
LIMIT = 1_000_000


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """What a process is told to find it: the addresses and the token."""
    from tests.fakes.management_api import ManagementApi

    command = [sys.executable, "-m", "benchmarks.project"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield ManagementApi(url=process.stdout.readline().strip()).environment
        finally:
            process.stdin.close()


def main() -> None:
    """Serve one, its address the only line on stdout."""
    from tests.fakes import management_api

    with management_api.serving(management_api.ManagementApi(limit=LIMIT)) as api:
        print(api.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
