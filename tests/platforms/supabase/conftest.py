"""A hosted project, and a folder of functions, for the tests of this platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops.platforms.supabase import management, verifying
from tests.fakes.edge import Folder
from tests.fakes.management_api import REF

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder in which commands are typed; its target is the hosted project."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("AGENTOPS_TARGET", f"supabase://{REF}")
    return Folder(place)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts are short."""
    monkeypatch.setattr(management, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(management, "_SPREAD", 0.001)
    monkeypatch.setattr(verifying, "PAUSES", (0.001,))
