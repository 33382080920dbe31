"""A hosted project for command lines: the fake API on a socket, and an environment that points at it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.fakes.management_api import REF, Deployed, ManagementApi, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

TARGET = f"supabase://{REF}"
SLUGS = (
    "ai-create-voucher",
    "ai-lookup-customer",
    "ai-realtime-webhook",
    "ai-redeem-voucher",
    "ai-void-voucher",
    "ai-whatsapp-webhook",
)


def deployed(slug: str, **fields: Any) -> Deployed:
    """A function that somebody deployed, with a source of one line."""
    now = int(time.time() * 1000)
    entrypoint = f"supabase/functions/{slug}/index.ts"
    row = {"id": f"id-{slug}", "slug": slug, "name": slug, "status": "ACTIVE", "version": 3, "verify_jwt": False}
    row |= {"created_at": now, "updated_at": now, "ezbr_sha256": f"hash-{slug}", "entrypoint_path": entrypoint}
    return Deployed(row | fields, {entrypoint: b"Deno.serve(() => new Response());\n"}, entrypoint)


@contextmanager
def project(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, folder: Path, server: str | None = None
) -> Iterator[ManagementApi]:
    """The project as this process's target; with `server`, by a name that has a stack behind its forwarders."""
    with serving(api):
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        if server is None:
            monkeypatch.setenv("AGENTOPS_TARGET", TARGET)
        else:
            (folder / "agentops.toml").write_text(
                f'target = "prod"\n[targets.prod]\nurl = "{TARGET}"\nserver = "{server}"\n', encoding="utf-8"
            )
        yield api
