"""`python -m benchmarks [NAME…]` runs the measurements and prints one table."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_PLUMBING = {"__init__", "__main__", "bare", "figures", "load", "project", "stack"}


def main() -> int:
    """Run the named measurements (default: all); 1 where a goal was missed."""
    known = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in _PLUMBING)
    wanted = sys.argv[1:] or known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no measurement is named {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    missed = 0
    for name in wanted:
        print(f"… {name}", file=sys.stderr, flush=True)
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            missed += figure.met is False
            verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
            print(f"{figure.name:<34} {figure.value:<26} goal {figure.goal:<16} {verdict:<7} {figure.comparator}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
