"""Where a server keeps its things, and who may enter."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agentops import embedded
from agentops.embedded.place import locate, require_private
from agentops.errors import NotAuthorised, Unavailable, UsageError
from tests.embedded.helpers import SOURCE, User, serves

ROOT = os.geteuid() == 0
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_is_private_and_what_was_there_keeps_its_mode(fresh: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o751)
    existing = list(tmp_path.parents)
    before = [mode(folder) for folder in existing]
    attachment = embedded.attach(fresh)
    assert [mode(folder) for folder in existing] == before
    assert mode(tmp_path) == 0o751
    for folder in (fresh.parent, fresh, attachment.data_dir, attachment.data_dir.parent, attachment.socket_dir):
        assert mode(folder) == 0o700
    for file in fresh.iterdir():
        assert file.is_dir() or mode(file) == 0o600


def test_root_hands_the_server_to_a_system_user_that_cannot_log_in(state: Path) -> None:
    if not ROOT:
        pytest.skip("for root")
    import pwd

    found = pwd.getpwnam("agentops-pg")
    assert embedded.attach(state).data_dir.stat().st_uid == found.pw_uid != 0
    assert found.pw_shell.endswith(("nologin", "false"))


def test_a_path_with_a_newline_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="control character"):
        embedded.attach(tmp_path / "two\nlines")


def test_another_users_folder_is_left_alone(tmp_path: Path) -> None:
    if not ROOT:
        pytest.skip("only root can make another user's folder")
    os.chown(tmp_path, NOBODY, NOBODY)
    for use in (embedded.attach, embedded.running, embedded.stop_when_idle):
        with pytest.raises(NotAuthorised, match="belongs to the user with id 65534"):
            use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="Not a directory") as failure:
        embedded.attach(tmp_path / "file" / "local")
    assert "AGENTOPS_HOME" in str(failure.value.hint)


def test_a_socket_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    require_private(private)
    link = tmp_path / "link"
    link.symlink_to(private)
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    for folder in (link, open_folder):
        with pytest.raises(Unavailable, match="yours alone"):
            require_private(folder)


def test_two_paths_to_one_folder_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert locate(tmp_path / "local") == locate(tmp_path / "link" / "local") == locate(Path("local"))


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder_for_it() -> None:
    """As an ordinary user, which these tests may have to become: root's sockets are never in the state folder."""
    python, uid = (SYSTEM_PYTHON, NOBODY) if ROOT else (sys.executable, os.geteuid())
    if ROOT and not can_run(python, uid):
        pytest.skip(f"user {NOBODY} cannot run {python} with these sources")
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, uid, -1)
        state = Path(home) / ("long, " * 20).strip() / "home"
        visitor = User(state, idle_seconds=0.2, python=python, uid=uid if ROOT else None)
        answer = visitor.answer()
        folder = Path(str(answer["socket_dir"]))
        assert len(f"{folder}/.s.PGSQL.5432") < 100
        assert (mode(folder), folder.stat().st_uid) == (0o700, uid)
        assert (state / "run").readlink() == folder
        assert serves(str(answer["url"]))
        visitor.dismiss()
        removal = f"import pathlib; from agentops import embedded; embedded.remove(pathlib.Path({str(state)!r}))"
        assert run_as(uid, [python, "-c", removal]) == 0
        assert not folder.exists()
        assert not state.exists()


def can_run(python: str, uid: int) -> bool:
    """Whether that user can run agentops from here with that Python."""
    check = "import sys, agentops.errors; from agentops.embedded import binaries; open(binaries() / 'initdb', 'rb')"
    command = [python, "-c", check + "; assert sys.version_info >= (3, 11)"]
    try:
        return run_as(uid, command) == 0
    except OSError:
        return False


def run_as(uid: int, command: list[str]) -> int:
    """The exit code of a command that has these sources at hand."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(SOURCE), *packages])},
        cwd="/",
        user=uid if ROOT else None,
        group=uid if ROOT else None,
        extra_groups=[] if ROOT else None,
    )
    return done.returncode
