"""Keep an access token for Supabase's Management API on this machine.

It is asked for without echo, or read from stdin; never an argument. Kept 0600 in the state folder.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentops import files
from agentops.errors import AgentOpsError, UsageError
from agentops.session import Session

_TOKEN = re.compile(r"sbp_(?:oauth_|v0_)?[a-f0-9]{40}")


@dataclass(frozen=True, slots=True)
class Login:
    """Where the token is kept; `changed` is false where it was the same already."""

    file: str
    changed: bool

    def text(self) -> str:
        """One line for eyes."""
        return (
            f"the token is kept in {self.file}" if self.changed else f"the same token was kept already in {self.file}"
        )


async def login(
    session: Session,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the token that is kept.")] = False,
) -> Login:
    """Keep an access token for Supabase's Management API on this machine."""
    from agentops.platforms.supabase import TOKEN_FILE

    file = session.process.home / TOKEN_FILE
    if remove:
        there = file.is_file()
        file.unlink(missing_ok=True)
        return Login(str(file), there)
    token = (session.hidden("access token") if session.interactive else sys.stdin.readline()).strip()
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "that is no access token of Supabase", "it looks like sbp_ and 40 characters; nothing was kept"
        )
    try:
        changed = _kept(file, token)
    except OSError as error:
        raise AgentOpsError(f"{file} cannot be written: {error.strerror}", "see the folder's permissions") from error
    if os.environ.get("SUPABASE_ACCESS_TOKEN"):
        session.note("note: SUPABASE_ACCESS_TOKEN is set in this shell, and goes before the kept one")
    return Login(str(file), changed)


def _kept(file: Path, token: str) -> bool:
    """Write the token down for its owner alone; whether it was another one before."""
    if file.is_file() and file.read_text(encoding="ascii", errors="replace").strip() == token:
        file.chmod(0o600)
        return False
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(file, f"{token}\n".encode())
    return True
