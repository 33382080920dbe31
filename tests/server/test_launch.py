from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentops import settings
from agentops.platforms import bundle
from agentops.server.launch import Launch, Wanted, deploy_missing
from tests.fakes.cli import free_port
from tests.fakes.servers import operator

if TYPE_CHECKING:
    from pathlib import Path

    from agentops.platforms import Deployment

FINE = (
    "from agentops.web import json_response\n\nasync def handle(request, stack):\n    return json_response(200, {})\n"
)


async def _missing(url: str, project: Path) -> dict[str, Deployment]:
    async with operator(url) as platform:
        process = replace(settings.process(url), project=project)
        return {each.slug: each for each in await deploy_missing(platform, process)}


def test_a_broken_bundle_is_told_in_a_sentence_and_keeps_nobody_else_away(database_url: str, tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    (functions / "empty").mkdir(parents=True)
    (functions / "empty" / "notes.py").write_text("")
    (functions / "binary.py").write_bytes(b"\xff\xfe")
    (functions / "broken.py").write_text("import nowhere\n")
    (functions / "mute.py").write_text("x = 1\n")
    (functions / "fine.py").write_text(FINE)

    found = asyncio.run(_missing(database_url, tmp_path))
    assert set(found) == {"binary", "broken", "empty", "fine", "mute", *bundle.packaged_slugs()}
    assert {slug for slug, each in found.items() if each.finding} == {"binary", "broken", "empty", "mute"}
    assert "no entrypoint" in str(found["empty"].finding)
    assert "cannot be read as text" in str(found["binary"].finding)
    assert "broken.py:1: ModuleNotFoundError" in str(found["broken"].finding)
    assert "has no handle" in str(found["mute"].finding)
    assert {found[slug].status for slug in ("fine", *bundle.packaged_slugs())} == {"stored"}
    assert found["broken"].version is None


def test_what_is_deployed_or_was_deleted_is_left_alone(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    file = tmp_path / "functions" / "fine.py"
    file.write_text(FINE)

    async def run() -> None:
        assert "fine" in await _missing(database_url, tmp_path)
        file.write_text(FINE + "# newer\n")
        assert await _missing(database_url, tmp_path) == {}
        async with operator(database_url) as platform:
            await platform.delete("fine", check=False)
            assert await _missing(database_url, tmp_path) == {}
            # Deployed by hand and taken away by hand in the database: nobody deleted it on purpose since.
            await platform.deploy([bundle.read("fine", tmp_path)], force=False, check=False)
            await platform.query("delete from agentops.deployments where slug = 'fine'")
        assert list(await _missing(database_url, tmp_path)) == ["fine"]

    asyncio.run(run())


def test_the_port_is_taken_at_once_and_nobody_is_let_in_before_it_runs() -> None:
    launch = Launch(Wanted(web=1, workers=0, host="127.0.0.1", port=free_port(), command="agentops up"))

    async def knock() -> None:
        _, _, port = str(launch.url).rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(port))

    try:
        asyncio.run(knock())
    finally:
        launch.close()
