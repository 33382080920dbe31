"""Bundles tried in child processes: side by side, bounded in time, each for itself."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from agentops.platforms import bundle as bundles
from agentops.server import checking
from tests.platforms.local.serving import bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_the_packages_own_functions_pass(tmp_path: Path) -> None:
    packaged = [bundles.read(slug, tmp_path) for slug in bundles.packaged_slugs()]
    assert packaged
    assert asyncio.run(checking.findings(packaged, 2)) == {}


def test_each_bundle_has_its_own_finding() -> None:
    tried = [bundle("ai-good"), bundle("ai-bad", "\n1 / 0\n"), bundle("ai-ends", "import os\nos._exit(3)\n")]
    assert asyncio.run(checking.findings(tried, 3)) == {
        "ai-bad": "here/main.py:2: ZeroDivisionError: division by zero",
        "ai-ends": "here/main.py:1: ended the process that tried it (code 3): no word",
    }


def test_one_that_never_ends_is_stopped_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checking, "CHECK_SECONDS", 3)
    mark = tmp_path / "pid"
    source = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    found = asyncio.run(checking.findings([bundle("ai-endless", source)], 1))
    assert found == {"ai-endless": "here/main.py:1: does not import and answer its GET within 3 s"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
