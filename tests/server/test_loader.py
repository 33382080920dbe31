"""Deployed bundles: loaded from memory, swapped when their row changes, kept when the new one is broken."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, cast

import pytest

from agentops.events import Events
from agentops.server.loader import ActiveRow, Loader, active_rows
from agentops.stack import Stack
from agentops.store.database import Database
from agentops.web import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = """
from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {"says": SAYS, "version": stack.functions[request.slug].version})
"""


def stack() -> Stack:
    return Stack(cast("Any", None), cast("Any", None), Events(echo=None))


def row(version: int = 1, says: str = "one", **changes: Any) -> ActiveRow:
    files = {"main.py": f"SAYS = {says!r}\n{OK}"}
    values: dict[str, Any] = {
        "slug": "ai-hello",
        "version": version,
        "reload": 0,
        "sha256": f"{version:064}",
        "entrypoint": "main.py",
        "files": files,
        "deployed_at": "2026-11-23T10:00:00.000Z",
    }
    return ActiveRow(**{**values, **changes})


async def says(loader: Loader) -> Any:
    function = loader.get("ai-hello")
    assert function is not None
    answer = await function.handle(Request("GET", "ai-hello", "c"), Stack(*doors(), functions=loader.loaded()))
    return json.loads(answer.body)["says"]


def doors() -> tuple[Any, Any, Events]:
    return None, None, Events(echo=None)


def test_a_changed_row_swaps_the_function() -> None:
    async def scenario() -> None:
        loader = Loader()
        first = await loader.apply([row(1, "one")], stack())
        assert first == {"ai-hello": {"version": 1, "reload": 0, "ok": True, "error": None}}
        assert await says(loader) == "one"
        await loader.apply([row(2, "two")], stack())
        assert await says(loader) == "two"
        assert loader.loaded()["ai-hello"].version == 2

    asyncio.run(scenario())


def test_an_unchanged_row_keeps_what_the_module_remembers_and_a_reload_clears_it() -> None:
    files = {
        "main.py": "from agentops.web import json_response\nseen = []\n"
        "async def handle(request, stack):\n    seen.append(1)\n    return json_response(200, {'says': len(seen)})\n"
    }

    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row(files=files)], stack())
        assert await says(loader) == 2
        await loader.apply([row(files=files, deployed_at="2026-11-23T11:00:00.000Z")], stack())
        assert await says(loader) == 3
        assert loader.loaded()["ai-hello"].deployed_at == "2026-11-23T11:00:00.000Z"
        await loader.apply([row(files=files, reload=1)], stack())
        assert await says(loader) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("x = (\n", "ai-hello@2/main.py:1: SyntaxError: '(' was never closed"),
        ("\nimport nothing_of_that_name\n", "main.py:2: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)\n", "ai-hello@2/main.py:1: SystemExit: 3"),
        ("handle = 5\n", "ai-hello@2/main.py:1: handle is no coroutine function"),
        ("\n", "ai-hello@2/main.py:1: has no handle"),
        ("async def handle(r, s):\n    return s.functions['x']\n", "ai-hello@2/main.py:2: KeyError: 'x'"),
        ("async def handle(r, s):\n    return 5\n", "ai-hello@2: its GET answers a int, not an agentops.web.Response"),
        (
            "from agentops.web import Response\nasync def handle(r, s):\n    return Response(503)\n",
            "ai-hello@2: its GET answers 503",
        ),
    ],
)
def test_a_broken_version_is_reported_with_its_line_and_the_old_one_keeps_answering(source: str, error: str) -> None:
    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row(1)], stack())
        report = await loader.apply([row(2, files={"main.py": source})], stack())
        assert report["ai-hello"]["ok"] is False
        assert report["ai-hello"]["version"] == 2
        assert error in report["ai-hello"]["error"]
        assert await says(loader) == "one"
        assert loader.loaded()["ai-hello"].version == 1

    asyncio.run(scenario())


def test_one_broken_function_does_not_touch_the_others() -> None:
    async def scenario() -> None:
        loader = Loader()
        broken = row(files={"main.py": "boom"}, slug="ai-broken")
        report = await loader.apply([broken, row()], stack())
        assert [entry["ok"] for entry in report.values()] == [False, True]
        assert list(loader.loaded()) == ["ai-hello"]

    asyncio.run(scenario())


def test_a_function_that_is_deployed_no_more_is_dropped() -> None:
    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row()], stack())
        assert await loader.apply([], stack()) == {}
        assert loader.get("ai-hello") is None

    asyncio.run(scenario())


def test_files_of_a_bundle_import_each_other_and_read_their_data() -> None:
    files = {
        "__init__.py": "import pkgutil\nfrom agentops.web import json_response\nfrom .parts import words\n"
        "from . import plain\nTEXT = pkgutil.get_data(__name__, 'data/hello.txt').decode()\n"
        "async def handle(request, stack):\n    from .parts.late import LATE\n"
        "    return json_response(200, {'says': [words.WORD, plain.P, LATE, TEXT]})\n",
        "parts/words.py": "from ..plain import P\nWORD = P + 1\n",
        "parts/late.py": "LATE = 'late'\n",
        "plain.py": "P = 1\n",
        "data/hello.txt": "hello",
    }

    async def scenario() -> None:
        loader = Loader()
        report = await loader.apply([row(entrypoint="__init__.py", files=files)], stack())
        assert report["ai-hello"]["error"] is None
        assert await says(loader) == [2, 1, "late", "hello"]

    asyncio.run(scenario())


def test_a_request_under_way_finishes_on_its_version_and_then_its_modules_are_gone() -> None:
    files = {
        "main.py": "import asyncio\nfrom agentops.web import json_response\nasync def handle(request, stack):\n"
        "    await asyncio.sleep(0.05 if request.method == 'POST' else 0)\n    from .late import LATE\n"
        "    return json_response(200, {'says': LATE})\n",
        "late.py": "LATE = 'old'\n",
    }

    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row(1, slug="ai-slow", files=files)], stack())
        function = loader.get("ai-slow")
        assert function is not None
        under_way = asyncio.create_task(function.handle(Request("POST", "ai-slow", "c"), stack()))
        del function
        await asyncio.sleep(0)
        await loader.apply([row(2, slug="ai-slow", files={**files, "late.py": "LATE = 'new'\n"})], stack())
        assert json.loads((await under_way).body) == {"says": "old"}
        del under_way
        gc.collect()
        loaded = [name for name in sys.modules if name.startswith("agentops_deployed.ai_slow")]
        assert all("_v2_" in name for name in loaded), loaded

    asyncio.run(scenario())


def test_a_traceback_shows_the_line_of_the_deployed_source() -> None:
    source = (
        "from agentops.web import json_response\nasync def handle(request, stack):\n"
        "    if request.method == 'GET':\n        return json_response(200, {})\n    raise ValueError('seen')\n"
    )

    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row(files={"main.py": source})], stack())
        function = loader.get("ai-hello")
        assert function is not None
        with pytest.raises(ValueError, match="seen") as caught:
            await function.handle(Request("POST", "ai-hello", "c"), stack())
        assert "raise ValueError('seen')" in "".join(traceback.format_exception(caught.value))

    asyncio.run(scenario())


def test_a_function_with_work_offers_it_to_the_queue() -> None:
    source = f"SAYS = 'x'\n{OK}\nasync def work(job, stack):\n    return job * 2\n"

    async def scenario() -> None:
        loader = Loader()
        await loader.apply([row(files={"main.py": source}), row(slug="ai-other")], stack())
        function, other = loader.get("ai-hello"), loader.get("ai-other")
        assert function is not None
        assert other is not None
        assert other.work is None
        assert function.work is not None
        assert await function.work(21, stack()) == 42

    asyncio.run(scenario())


def test_active_rows_are_read_with_their_sources(database_url: str) -> None:
    async def scenario() -> Mapping[str, ActiveRow]:
        database = await Database.open(database_url, size=1)
        await database.query(
            "insert into agentops.versions (slug, version, sha256, entrypoint, files, origin, created_by)"
            """ values ('ai-hello', 3, repeat('0', 64), 'main.py', '{"main.py": "x"}', 'test', 'me')"""
        )
        await database.query(
            "insert into agentops.deployments (slug, version, reload, deployed_by, deployed_at)"
            " values ('ai-hello', 3, 2, 'me', '2026-11-23T12:00:00+02:00')"
        )
        rows = await active_rows(database)
        await database.close()
        return {entry.slug: entry for entry in rows}

    found = asyncio.run(scenario())["ai-hello"]
    assert (found.version, found.reload, found.files) == (3, 2, {"main.py": "x"})
    assert found.deployed_at == "2026-11-23T10:00:00.000Z"


def test_cancelling_an_apply_is_never_swallowed() -> None:
    async def scenario() -> None:
        for number in range(200):
            loader = Loader()
            task = asyncio.create_task(loader.apply([row()], stack()))
            await asyncio.sleep(number / 200_000)
            ended = task.done() or not task.cancel()
            outcome: object = (await asyncio.gather(task, return_exceptions=True))[0]
            assert ended or isinstance(outcome, asyncio.CancelledError)

    asyncio.run(scenario())
