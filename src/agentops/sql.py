"""SQL in the open: reads `-- name --` sections of a .sql file that stands beside the module using it.

    -- active --
    select slug, version from agentops.deployments;

Sections hold one statement each, with `%(name)s` parameters.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_HEADING = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*) --$", re.MULTILINE)


@cache
def statements(module_file: str) -> dict[str, str]:
    """The statements of the .sql file beside `module_file` (pass `__file__`), by section name.

    Raises:
        ValueError: a section name stands twice (a defect of ours, found by the test that prepares every statement).
    """
    return parse(Path(module_file).with_suffix(".sql").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, str]:
    """Split a file's text in its sections; what stands above the first heading is a comment."""
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    found: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        name = heading["name"]
        if name in found:
            message = f"section {name!r} stands twice"
            raise ValueError(message)
        found[name] = text[heading.end() : end].strip().removesuffix(";")
    return found
