"""Tries bundles in a child process, before anything is switched: they import, have a `handle`, and answer their GET.

    findings(bundles, jobs) → children: python -m agentops.server.checking ← bundles as JSON on stdin
                                                                           → one JSON line per bundle: slug, finding

The package's own functions share a child; each of the operator's bundles has its own, so that one that ends its
process or never returns says nothing about the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from agentops import modules
from agentops.errors import Unavailable
from agentops.events import Events
from agentops.server.probe import health
from agentops.stack import Deployed, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Bundle
    from agentops.web import Request, Response

CHECK_SECONDS = 20


async def findings(bundles: Sequence[Bundle], jobs: int) -> dict[str, str]:
    """What is wrong with each bundle that must not be deployed, by slug: `file:line: Type: message`.

    Args:
        bundles: to be tried.
        jobs: how many children may run at once.
    """
    packaged = [bundle for bundle in bundles if bundle.packaged]
    groups = [packaged] if packaged else []
    groups += [[bundle] for bundle in bundles if not bundle.packaged]
    turns = asyncio.Semaphore(max(1, jobs))

    async def turn(group: Sequence[Bundle]) -> dict[str, str]:
        async with turns:
            return await _in_child(group)

    found: dict[str, str] = {}
    for wrong in await asyncio.gather(*map(turn, groups)):
        found.update(wrong)
    return found


async def _in_child(group: Sequence[Bundle]) -> dict[str, str]:
    # -P: the working folder is no part of what a server can import.
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "agentops.server.checking"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    content = json.dumps(
        [{"slug": b.slug, "files": dict(b.files), "entrypoint": b.entrypoint, "folder": b.folder} for b in group]
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            out, err = await child.communicate(content.encode())
    except TimeoutError:
        out, err = b"", b""
        ended = f"does not import and answer its GET within {CHECK_SECONDS} s"
    else:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        ended = f"ended the process that tried it (code {child.returncode}): {last[0]}"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    said = {str(entry["slug"]): entry["finding"] for entry in map(json.loads, out.decode().splitlines())}
    verdicts = {b.slug: said.get(b.slug, f"{b.folder}/{b.entrypoint}:1: {ended}") for b in group}
    return {slug: finding for slug, finding in verdicts.items() if finding is not None}


class _NotHere:
    """Stands for the database and the providers, which a check has not: a GET that asks them is settled on a server."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - it stands for anything
        raise _Absent(f"{name} is not there during the check")


class _Absent(Unavailable):
    """A bundle's GET asked for the outside."""


async def _finding(slug: str, files: dict[str, str], entrypoint: str, folder: str) -> str | None:
    outside = cast("Any", _NotHere())
    deployed = {slug: Deployed(slug, 0, "1970-01-01T00:00:00.000Z")}
    stack = Stack(outside, outside, Events(echo=None), functions=deployed)
    try:
        handle = modules.handle_of(modules.load(slug.replace("-", "_"), files, entrypoint, folder))
    except modules.FAILURES as error:
        return modules.finding(error, folder)

    async def settled(request: Request, stack: Stack) -> Response:
        try:
            return await handle(request, stack)
        except _Absent:
            from agentops.web import json_response

            return json_response(200, {})

    return await health(settled, slug, stack, f"{folder}/{entrypoint}:1")


def main(bundles: list[dict[str, Any]], results: TextIO) -> None:
    """Try each bundle and write its line."""
    for bundle in bundles:
        finding = asyncio.run(_finding(**bundle))
        results.write(json.dumps({"slug": bundle["slug"], "finding": finding}) + "\n")
        results.flush()


if __name__ == "__main__":
    # What a bundle prints must not mix with the results: it goes to stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        main(json.load(sys.stdin), answers)
