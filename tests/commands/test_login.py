"""`agentops login`: the token comes in unseen, lies 0600, and comes out nowhere."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.commands.line import Result, typed
from tests.fakes import cli
from tests.fakes.management_api import REF, TOKEN, ManagementApi

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "sbp_" + "f" * 40


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the token is kept."""
    return tmp_path / "home" / "supabase-token"


def login(monkeypatch: pytest.MonkeyPatch, given: str, *words: str) -> Result:
    """`agentops login`, with what stands on stdin."""
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    done = typed("login", *words)
    assert given.strip() == "" or given.strip() not in done.out + done.err
    return done


def test_a_token_from_stdin_is_kept_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    before = os.umask(0)
    try:
        done = login(monkeypatch, f"{TOKEN}\n")
    finally:
        os.umask(before)
    assert (done.code, kept.read_text(), kept.stat().st_mode & 0o777) == (0, f"{TOKEN}\n", 0o600)
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]


def test_the_same_again_changes_nothing_but_permissions_that_are_too_wide(
    monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    login(monkeypatch, TOKEN)
    kept.chmod(0o644)
    done = login(monkeypatch, TOKEN)
    assert (done.code, "was kept already" in done.out, kept.stat().st_mode & 0o777) == (0, True, 0o600)
    login(monkeypatch, OTHER)
    assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (OTHER, 0o600)


@pytest.mark.parametrize("given", ["", "\n", "hello", "sbp_123", TOKEN[:-1], TOKEN + "0", TOKEN.upper()])
def test_what_is_no_token_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, kept: Path, given: str) -> None:
    done = login(monkeypatch, given)
    assert (done.code, "nothing was kept" in done.err, kept.exists()) == (2, True, False)


def test_an_argument_is_refused_without_repeating_it(kept: Path) -> None:
    for words in ([TOKEN], [f"--token={TOKEN}"], ["--debug", TOKEN], ["--json", TOKEN]):
        done = typed("login", *words)
        assert (done.code, kept.exists()) == (2, False)
        assert TOKEN not in done.out + done.err
        assert TOKEN[4:] not in done.out + done.err


def test_remove_forgets_it(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    login(monkeypatch, TOKEN)
    assert typed("login", "--remove", "--json").json["changed"] is True
    assert not kept.exists()
    assert typed("login", "--remove", "--json").json["changed"] is False


def test_a_folder_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    kept.parent.write_text("a file where the folder should be")
    done = login(monkeypatch, TOKEN)
    assert (done.code, "cannot be written" in done.err) == (1, True)


def test_on_a_terminal_it_is_not_echoed(kept: Path) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "agentops", "login"], stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    deadline = time.monotonic() + 40
    while b"access token" not in shown:
        assert time.monotonic() < deadline
        shown += os.read(parent, 1000)
    # What is typed before the echo is off is thrown away.
    while termios.tcgetattr(parent)[3] & termios.ECHO:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.write(parent, f"{TOKEN}\n".encode())
    try:
        while chunk := os.read(parent, 1000):
            shown += chunk
    except OSError:
        pass  # the other end is closed
    assert process.wait(40) == 0
    os.close(parent)
    assert TOKEN.encode() not in shown
    assert kept.read_text().strip() == TOKEN


def test_the_kept_token_is_used_and_the_environment_goes_before_it(
    project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{REF}")
    done = login(monkeypatch, OTHER)
    assert "SUPABASE_ACCESS_TOKEN is set in this shell" in done.err
    assert "SUPABASE_ACCESS_TOKEN is set in this shell" in login(monkeypatch, OTHER).err  # the same token again, too
    assert typed("secrets", "list").code == 0
    monkeypatch.delenv("SUPABASE_ACCESS_TOKEN")
    assert typed("secrets", "list").code == 4
    project_api.token = OTHER
    assert typed("secrets", "list").code == 0


def test_the_token_is_in_no_output_that_names_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, project_api: ManagementApi, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_api.token == TOKEN
    login(monkeypatch, OTHER)
    for words in (("target", "show", "--origin"), ("target", "list"), ("status",)):
        for extra in ((), ("--json",), ("--debug",)):
            done = typed("--target", f"supabase://{REF}", *words, *extra)
            assert not {TOKEN, OTHER} & {*done.out.split(), *done.err.split()}
            assert TOKEN[4:] not in done.out + done.err


def test_it_works_as_a_process_of_its_own(kept: Path) -> None:
    process = cli.start("login", "--remove")
    process.communicate(timeout=60)
    assert (process.returncode, kept.exists()) == (0, False)
