"""A project folder with TypeScript functions, as `supabase functions new` leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SERVE = "Deno.serve(() => new Response('{text}'));\n"


@dataclass(frozen=True)
class Folder:
    """The folder that `supabase/` stands in."""

    path: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """A file below `supabase/`."""
        file = self.path / "supabase" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def function(self, slug: str, text: str = "one", imports: str = "") -> None:
        """A function that answers `text`."""
        self.write(f"functions/{slug}/index.ts", imports + SERVE.format(text=text))

    def config(self, text: str) -> None:
        """The `config.toml`."""
        self.write("config.toml", text)
