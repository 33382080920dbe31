"""Where one embedded server keeps its things.

    state/                      0700, the caller's
      clients.lock supervisor.lock server.lock postgres.log
      pg/                       the cluster (`pg.new` while it is being made)
      run/                      0700, the socket; a symlink to a short folder when the path is too long for a socket

PostgreSQL refuses to run as root, and another user can rarely reach root's folders. Root's clusters are therefore in
`/var/lib/agentops/<12 hex of the state path's sha256>/`, which belongs to the system user `agentops-pg`; the locks and
the log stay in `state`. No existing folder's mode is ever changed, except that of `run`, which is ours alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from agentops.embedded.probe import socket_path
from agentops.errors import NotAuthorised, Unavailable, UsageError

SYSTEM_ROOT = Path("/var/lib/agentops")
SOCKET_PATH_BYTES = 100  # the kernel's limit is 108 on Linux and 104 on macOS

# A folder outside of this alphabet cannot be named in unix_socket_directories or in a URL without doubts about quoting.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@ -]+")


@dataclass(frozen=True)
class Place:
    """The folders and files of one server. `base` holds the cluster and the socket: `state`, or root's folder."""

    state: Path
    base: Path

    @property
    def clients_lock(self) -> Path:
        """Held by every process that uses the server."""
        return self.state / "clients.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor, whose process id is in it."""
        return self.state / "supervisor.lock"

    @property
    def server_lock(self) -> Path:
        """Held by every process of the server."""
        return self.state / "server.lock"

    @property
    def log(self) -> Path:
        """What the supervisor, initdb and the server say."""
        return self.state / "postgres.log"

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.base / "pg"

    @property
    def unfinished_data(self) -> Path:
        """The cluster while initdb makes it."""
        return self.base / "pg.new"

    @property
    def run(self) -> Path:
        """The folder of the socket, or a symlink to it."""
        return self.base / "run"

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that tell this state's path from any other's."""
        return _digest(self.state)

    @property
    def socket_dir(self) -> Path:
        """The folder of the socket as it is now. Unavailable when somebody else owns the short one it was moved to."""
        try:
            target = self.run.readlink()
        except OSError:  # a folder, or nothing yet
            return self.run
        if target.exists():
            require_private(target)
        return target


def locate(state: Path) -> Place:
    """Find the place for `state`, which need not exist yet. UsageError when its path has a control character."""
    if any(ord(character) < ord(" ") for character in str(state)):
        # initdb and postmaster.pid are line-based: such a path makes a cluster that cannot be found again
        raise UsageError(f"the path {str(state)!r} has a control character", "choose another AGENTOPS_HOME")
    resolved = Path(os.path.realpath(state))
    return Place(resolved, SYSTEM_ROOT / _digest(resolved) if os.geteuid() == 0 else resolved)


def make_state_folder(place: Place) -> None:
    """Create `state` and its missing parents, all 0700. NotAuthorised when it is another user's."""
    try:
        for folder in (*reversed(place.state.parents), place.state):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        message = f"cannot use {place.state}: {error.strerror}"
        raise Unavailable(message, "set AGENTOPS_HOME to a folder you can write to") from error
    require_own(place)


def require_own(place: Place) -> None:
    """NotAuthorised when `state` exists and is another user's."""
    try:
        owner = place.state.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        message = f"{place.state} is in a folder that you cannot enter"
        raise NotAuthorised(message, "set AGENTOPS_HOME to a folder of your own") from error
    if owner != os.geteuid():
        # Root would otherwise make a second, different database for the same folder.
        message = f"{place.state} belongs to the user with id {owner}, and you are {os.geteuid()}"
        raise NotAuthorised(message, "run as that user, or set AGENTOPS_HOME to a folder of your own")


def make_socket_folder(place: Place) -> Path:
    """Create the socket's folder, 0700, and return it; a short one elsewhere when the path is too long for a socket."""
    if _can_name_a_socket(place.run):
        if place.run.is_symlink():
            place.run.unlink()
        place.run.mkdir(mode=0o700, exist_ok=True)
        place.run.chmod(0o700)
        return place.run
    target = _short_folder(place)
    target.mkdir(mode=0o700, exist_ok=True)
    require_private(target)
    link = place.base / "run.new"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    link.replace(place.run)
    return target


def require_private(folder: Path) -> None:
    """Unavailable unless `folder` is a real folder of this user, closed to all others: who enters it is superuser."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        message = f"{folder} is to hold the database's socket, but it is not a folder that is yours alone (mode 0700)"
        raise Unavailable(message, f"look at it, then remove it: ls -ld {folder}")


def _digest(state: Path) -> str:
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:12]


def _can_name_a_socket(folder: Path) -> bool:
    path = socket_path(folder)
    return len(os.fsencode(path)) < SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(path) is not None


def _short_folder(place: Place) -> Path:
    name = f"agentops-{os.geteuid()}-{place.digest}"
    # What is made in a shared folder is checked by require_private.
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR"), "/tmp"):  # noqa: S108
        if parent and os.path.isdir(parent) and _can_name_a_socket(Path(parent) / name):  # noqa: PTH112 - before it is a Path
            return Path(parent) / name
    message = f"the path {place.state} is too long for a socket, and no temporary folder has a short one"
    raise Unavailable(message, "set TMPDIR to a folder with a short path")
