"""Machines of a team: each has a state folder and an operator of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.fakes.management_api import ManagementApi


class Machines:
    """Says on which machine the next command is typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder

    def at(self, name: str) -> None:
        """Sit down at a machine; `name` is its operator, too."""
        for variable, value in self.environment(name).items():
            self._monkeypatch.setenv(variable, value)

    def environment(self, name: str) -> dict[str, str]:
        """What a process on that machine is told."""
        return {"AGENTOPS_HOME": str(self._folder / f"home-of-{name}"), "AGENTOPS_ACTOR": f"{name}@there"}


def stored(api: ManagementApi, book: str) -> list[dict[str, object]]:
    """The entries of a book in the project's database, in the order in which they came."""
    import psycopg

    assert api.database_url
    with psycopg.connect(api.database_url, autocommit=True) as connection:
        statement = b"select entry from agentops.project_entries where book = %s order by id"
        return [row[0] for row in connection.execute(statement, (book,)).fetchall()]


def audited(api: ManagementApi) -> list[tuple[object, object, object]]:
    """The audit entries there: actor, action, subject."""
    return [(entry["actor"], entry["action"], entry["subject"]) for entry in stored(api, "audit")]


def lines(name: str) -> list[str]:
    """The lines of a file of this machine's, in the folder of the tests' project."""
    from pathlib import Path

    from tests.fakes.management_api import REF

    return (Path(os.environ["AGENTOPS_HOME"]) / "supabase" / REF / name).read_text().splitlines()
