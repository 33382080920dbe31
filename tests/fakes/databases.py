"""Copies of the template database, and a place in memory for them: several hundred small files each, for every test.

Linux has memory at /dev/shm. Where it is missing or small (containers give it 64 MB), the cluster's own folder serves.
"""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = Path("/dev/shm")  # noqa: S108 - memory is what is wanted
_NAME = "agentops-tests-"
_NEEDED = 2**30
_numbers = itertools.count()


@contextmanager
def copied(postgres: str, template: str) -> Iterator[str]:
    """A fresh copy of a database, dropped with the block; its address.

    Args:
        postgres: the server's address, with `{database}` for a name.
        template: what is copied; nobody may be connected to it.
    """
    name = f"test_{os.getpid()}_{next(_numbers)}"
    copy = sql.Identifier(name)
    with psycopg.connect(postgres.format(database="agentops"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template {}").format(copy, sql.Identifier(template)))
        try:
            yield postgres.format(database=name)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(copy))


@contextmanager
def tablespace(url: str) -> Iterator[str]:
    """Make a tablespace in memory, for as long as the server lives; its name.

    The server is gone when this ends.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _NEEDED:
        yield "pg_default"
        return
    _sweep()
    folder = _MEMORY / f"{_NAME}{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("show data_directory").fetchone()
            assert row is not None
            owner = Path(row[0]).stat()
            os.chown(folder, owner.st_uid, owner.st_gid)  # root's clusters belong to another user
            connection.execute(sql.SQL("create tablespace memory location {}").format(str(folder)))
        yield "memory"
    finally:
        shutil.rmtree(folder)


def _sweep() -> None:
    """Remove what runs that were killed have left: nobody else gives memory back."""
    for folder in _MEMORY.glob(f"{_NAME}*"):
        if not Path(f"/proc/{folder.name.removeprefix(_NAME)}").exists():
            shutil.rmtree(folder, ignore_errors=True)
