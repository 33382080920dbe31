"""The source that runs in a project, as the API gives it back: one multipart answer.

Source: https://supabase.com/docs/reference/api/v1-get-a-function-body
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, NotAuthorised
from agentops.platforms.supabase.sources import Source, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentops.platforms.supabase.management import Management

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|([^;\s]+))""")
_NAME = re.compile(rb"""filename="([^"]*)\"""")
_FIELD = re.compile(rb"""\bname="([^"]*)\"""")
_PATH = re.compile(rb"(?i)^supabase-path:\s*(.+?)\s*$", re.MULTILINE)
# What the API puts before a path that was uploaded: `source/…`, `file:///tmp/user_fn_…/source/…`.
_PREFIX = re.compile(r"^(?:file://.*?/)?source/")


async def download(api: Management, row: dict[str, Any]) -> Source | None:
    """The source of a function that the API lists; None where it cannot be had as files.

    Raises:
        NotAuthorised: the token may not read it.
    """
    try:
        answer = await api.get_parts(f"/functions/{row['slug']}/body")
    except NotAuthorised:
        raise
    except AgentOpsError:
        # Functions that were bundled elsewhere have no files to give; that is said where it matters.
        return None
    files: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    for head, content in _parts(answer.headers.get("content-type", ""), answer.content):
        path = _PATH.search(head) or _NAME.search(head)
        field = _FIELD.search(head)
        if field is not None and field[1] == b"metadata":
            metadata = _json(content)
        elif path is not None:
            files[_uploaded(path[1].decode("utf-8", "surrogateescape"))] = content.decode("utf-8", "surrogateescape")
    entrypoint = _uploaded(metadata.get("deno2_entrypoint_path") or row.get("entrypoint_path"))
    if entrypoint not in files:
        return None
    import_map = _uploaded(row.get("import_map_path"))
    jwt = bool(row.get("verify_jwt", True))
    return source(
        row["slug"],
        files,
        entrypoint,
        origin="downloaded",
        verify_jwt=jwt,
        import_map=import_map if import_map in files else "",
        static_patterns=(),
    )


def _uploaded(path: object) -> str:
    """A path as it was uploaded."""
    return _PREFIX.sub("", str(path or ""))


def _parts(content_type: str, body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each part's head and content; none where the answer is no multipart one, or is cut off."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return
    mark = b"--" + (found[1] or found[2]).encode()
    if not body.rstrip().endswith(mark + b"--"):
        return
    for piece in (b"\r\n" + body).split(b"\r\n" + mark)[1:]:
        head, gap, content = piece.partition(b"\r\n\r\n")
        if gap:
            yield head, content


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
