"""Deploys and secrets on a hosted project, beside Supabase's own command line doing the same on the same server.

The two take turns; each sets another value each time and deploys changed sources, so that both have all of it to do.
Their command line (`npm install supabase`) is found on PATH or by SUPABASE_CLI; without it agentops is measured alone.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.project import serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 7
REF = "abcdefghijklmnopqrst"
SHARE, UNCHANGED_SECONDS = 0.5, 0.7
# No word to anybody but the server under measurement.
_QUIET = {"DO_NOT_TRACK": "1", "SUPABASE_TELEMETRY_DISABLED": "1", "SUPABASE_NO_UPDATE_NOTIFIER": "1"}


def measure() -> list[Figure]:
    """`deploy all` of six functions, the same unchanged, and `secrets set`."""
    supabase = os.environ.get("SUPABASE_CLI") or shutil.which("supabase")
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place, serving() as addresses:
        folder = Path(place) / "project"
        folder.mkdir()
        environment = _environment(Path(place), addresses)
        agentops = str(Path(sys.executable).with_name("agentops"))
        _run([agentops, "init", "--edge", "--ref", REF], folder, environment)
        shared = folder / "supabase/functions/_shared/agentops.ts"
        text = shared.read_text(encoding="utf-8")
        for turn in range(ROUNDS + 1):
            lines = {
                "deploy": [agentops, "deploy", "all"],
                "unchanged": [agentops, "deploy", "all"],
                "secret": [agentops, "secrets", "set", f"X=a{turn}"],
            }
            if supabase:
                remote = ["--yes", f"--remote={REF}"]
                lines["their deploy"] = [supabase, "functions", "deploy", "--use-api", *remote]
                lines["their secret"] = [supabase, "secrets", "set", f"X=b{turn}", *remote]
            for name, line in lines.items():
                if name != "unchanged":
                    shared.write_text(f"{text}// {name} {turn}\n", encoding="utf-8")
                seconds = _run(line, folder, environment)
                if turn:  # the first round warms the file cache
                    taken.setdefault(name, []).append(seconds)
            # What the other one deployed would be fetched and compared: here only what is unchanged is measured.
            _run([agentops, "deploy", "all", "--force"], folder, environment)
    median = {name: statistics.median(times) for name, times in taken.items()}
    return [
        _beside("deploy all, 6 functions", median["deploy"], median.get("their deploy")),
        _beside("secrets set", median["secret"], median.get("their secret")),
        Figure(
            "deploy all, unchanged",
            f"{median['unchanged']:.3f} s",
            f"changed {median['deploy']:.3f} s",
            f"≤ {UNCHANGED_SECONDS} s",
            median["unchanged"] <= UNCHANGED_SECONDS,
        ),
    ]


def _beside(name: str, mine: float, theirs: float | None) -> Figure:
    if theirs is None:
        return Figure(name, f"{mine:.3f} s", "no supabase here (npm install supabase)", f"≤ {SHARE} × supabase", None)
    value = f"{mine:.3f} s, {mine / theirs:.2f} ×"
    return Figure(name, value, f"supabase {theirs:.3f} s", f"≤ {SHARE} × supabase", mine <= SHARE * theirs)


def _environment(place: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """Both find the same server: agentops by SUPABASE_API_URL, the other one by a profile."""
    url = addresses["SUPABASE_API_URL"]
    profile = place / "profile.yaml"
    profile.write_text(
        f"name: measured\napi_url: {url}\ndashboard_url: {url}\ndocs_url: {url}\nproject_host: supabase.co\n"
    )
    # As installed: with compiled modules. A stranger's settings stay out.
    left = {"PYTHONDONTWRITEBYTECODE", "AGENTOPS_TARGET"}
    own = {name: value for name, value in os.environ.items() if name not in left}
    homes = {"AGENTOPS_HOME": str(place / "home"), "SUPABASE_HOME": str(place / "their-home")}
    return own | dict(addresses) | homes | _QUIET | {"SUPABASE_PROFILE": str(profile)}


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=dict(environment), check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return seconds
