"""What tests of deploys do again and again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from tests.commands.line import typed
from tests.fakes.management_api import Deployed, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

SECONDS = 40


def deployed(*slugs: str, code: int = 0) -> list[dict[str, Any]]:
    """What `deploy` answers."""
    done = typed("deploy", *(slugs or ("all",)), "--json")
    assert done.code == code, done.err
    found: list[dict[str, Any]] = done.json
    return found


def statuses(results: list[dict[str, Any]]) -> dict[str, str]:
    return {each["slug"]: each["status"] for each in results}


def elsewhere(api: ManagementApi, slug: str, text: str, **row: Any) -> Deployed:
    """Somebody else deploys, by another machine."""
    entrypoint = f"supabase/functions/{slug}/index.ts"
    before = api.functions.get(slug)
    base = {
        "id": before.row["id"] if before else f"id-{slug}",
        "slug": slug,
        "name": slug,
        "status": "ACTIVE",
        "version": before.row["version"] + 1 if before else 1,
        "verify_jwt": True,
        "created_at": 1_795_000_000_000,
        "updated_at": 1_795_000_000_000,
        "ezbr_sha256": f"hash-{text}",
        "entrypoint_path": f"file:///tmp/user_fn/source/{entrypoint}",
    }
    content = f"Deno.serve(() => new Response('{text}'));\n".encode()
    api.functions[slug] = Deployed(base | row, {entrypoint: content}, entrypoint)
    return api.functions[slug]


def answering(method: str, path: str, response: Callable[[], Response]) -> Callable[[str, str], Response | None]:
    """Answers one kind of request by itself."""
    return lambda asked, below: response() if asked == method and re.fullmatch(path, below) else None


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
