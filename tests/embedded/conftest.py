"""State folders for the embedded server, removed with everything that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentops import embedded
from tests.embedded.helpers import stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A folder that has never had a server."""
    state = tmp_path / "home" / "local"
    yield state
    embedded.remove(state)


@pytest.fixture(scope="package")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("embedded") / "local"
    embedded.attach(state)
    yield state
    embedded.remove(state)


@pytest.fixture
def state(_shared: Path) -> Path:
    """A folder whose server has been set up once, and does not run and is not attached to when the test begins."""
    embedded.release(_shared)
    stop(_shared)
    return _shared
