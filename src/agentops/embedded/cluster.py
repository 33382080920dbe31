"""One cluster on disk: its folders, `initdb`, and the command that runs it.

    prepare ──> Cluster ──> ensure_data ──> spawn
                   └─ initdb into pg.new, sync, rename to pg: a crash in between leaves nothing half-made

Settings are arguments of `postgres`, not lines of postgresql.conf: they follow the installed version of agentops.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentops.embedded import log, place, processes, runtime
from agentops.embedded.probe import PORT, USER, socket_path
from agentops.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_SETTINGS = {
    "cluster_name": "agentops",
    "listen_addresses": "",  # the unix socket only: who can enter its folder is trusted
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    # A small profile: 11 MB when idle instead of 21 MB. Durability is not traded for it.
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # Parameters are customers' words; a log is no place for them.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # DETAIL quotes whole rows, phone numbers and all
}
_INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth-local=trust",  # the socket's folder is 0700
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale-provider=builtin",  # no drift with the C library's collations, and LIKE 'x%' can use a plain index
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--no-instructions",
)
_INITDB_SECONDS = 55
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Cluster:
    """A cluster that can be run: its place, the programs to run it with, and as whom (None = as ourselves)."""

    place: place.Place
    binaries: Path
    account: runtime.Account | None

    def ensure_data(self, server_lock: int) -> bool:
        """Make the cluster if there is none; True if so. Unavailable: initdb failed, or data of another major."""
        data, unfinished = self.place.data, self.place.unfinished_data
        if unfinished.exists():
            shutil.rmtree(unfinished)  # left by a crash: the server lock says that nobody is working on it
        made = not data.exists()
        if made:
            self._initdb(unfinished, server_lock)
            unfinished.rename(data)
            _sync_folder(self.place.base)
        found = _major_version(data)
        if found != runtime.MAJOR:
            message = f"{data} holds data of PostgreSQL {found}, and agentops brings PostgreSQL {runtime.MAJOR}"
            raise Unavailable(message, f"dump it with PostgreSQL {found}, move {data} away, and restore the dump")
        return made

    def spawn(self, server_lock: int) -> subprocess.Popen[bytes]:
        """Start `postgres` as our child, which inherits the server lock. The caller owns the process."""
        socket_dir = place.make_socket_folder(self.place) if self.account is None else self.place.run
        self._forget_dead_server(socket_dir)
        command = [str(self.binaries / "postgres"), "-D", str(self.place.data), "-p", str(PORT), "-k", str(socket_dir)]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        return self._popen(command, server_lock)

    def _forget_dead_server(self, socket_dir: Path) -> None:
        """Remove the pid files of a killed server. PostgreSQL keeps them when another process has got that id since."""
        if processes.postmaster(self.place.data) is not None:
            return  # run by hand, perhaps; PostgreSQL will say so and refuse
        socket_file = socket_path(socket_dir)
        for file in (self.place.data / "postmaster.pid", Path(socket_file), Path(f"{socket_file}.lock")):
            file.unlink(missing_ok=True)

    def _initdb(self, target: Path, server_lock: int) -> None:
        start = log.size(self.place.log)
        process = self._popen([str(self.binaries / "initdb"), "-D", str(target), *_INITDB_OPTIONS], server_lock)
        try:
            code = process.wait(_INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            message = f"initdb failed ({code}):\n{log.tail(self.place.log, start)}"
            raise Unavailable(message, f"the whole log: {self.place.log}")

    def _popen(self, command: list[str], server_lock: int) -> subprocess.Popen[bytes]:
        account = self.account
        return subprocess.Popen(  # noqa: S603 - our own programs and arguments
            command,
            stdin=subprocess.DEVNULL,
            cwd="/",
            # Nothing of the operator's: no PG* that would redirect the server, no locale, no secrets.
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            pass_fds=(server_lock,),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - the supervisor has one thread, so fork is safe
        )


def prepare(where: place.Place, found: Path) -> Cluster:
    """Find out as whom to run and with which programs; as root create the system user and its folders."""
    if os.geteuid() != 0:
        return Cluster(where, found, None)
    account = runtime.system_account()
    _make_system_folders(where, account)
    return Cluster(where, runtime.reachable_binaries(found, place.SYSTEM_ROOT), account)


def _make_system_folders(where: place.Place, account: runtime.Account) -> None:
    root = where.base.parent
    if not root.exists():
        root.mkdir(mode=0o755, exist_ok=True)
        root.chmod(0o755)  # in spite of a strict umask: it is ours, and the system user passes through it
    owned = root.stat()
    if owned.st_uid != 0 or owned.st_mode & 0o022 or not runtime.open_to_all(root):
        message = f"{root} must belong to root and let the system user {runtime.ACCOUNT} pass, and it does not"
        raise Unavailable(message, f"look at the modes: namei -l {root}")
    for folder in (where.base, where.run):
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, account.uid, account.gid)


def _major_version(data: Path) -> str:
    try:
        return (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return "an unknown version"


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _die_with_parent() -> Callable[[], None] | None:
    """Make what a child runs before exec, as its new user: it is told to stop (SIGINT, fast shutdown) when we die.

    Only Linux has this. Elsewhere a killed supervisor leaves its server running until the next one, which finds the
    server lock taken, stops that server and starts its own.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return tie
