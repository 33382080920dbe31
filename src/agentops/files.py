"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file in one step, on disk when this returns; for its owner alone from the first byte.

    Args:
        file: its folder must be there.
        content: all of it.
        mode: what it has in the end.

    Raises:
        OSError: it could not be written; what was there still is, and nothing else is left behind.
    """
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), mode)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
