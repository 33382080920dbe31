"""How long a command takes as a whole process, beside bare Python, a bare Typer program and a comparable CLI."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, wall_times

ROUNDS = 15
HELLO = """
import typer
app = typer.Typer()
@app.command()
def hello() -> None:
    print("hello")
app()
"""


def measure() -> list[Figure]:
    """`--version`, `--help` and a flag switch on a warm database."""
    from agentops import embedded

    agentops = str(Path(sys.executable).with_name("agentops"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        environment = {**os.environ, "AGENTOPS_HOME": str(home), "AGENTOPS_TARGET": "local"}
        # As installed: with compiled modules.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {
            "version": [agentops, "--version"],
            "help": [agentops, "--help"],
            "flag": [agentops, "flags", "disable", "chat"],
            "python": [sys.executable, "-c", "pass"],
            "typer": [sys.executable, str(hello)],
        }
        supabase = shutil.which("supabase")
        if supabase:
            commands["supabase"] = [supabase, "--version"]
        embedded.attach(home / "local")
        try:
            seconds = wall_times(commands, environment, ROUNDS)
        finally:
            embedded.remove(home / "local")
    others = f"python -c pass {seconds['python']:.3f} s · bare Typer {seconds['typer']:.3f} s"
    if "supabase" in seconds:
        others += f" · supabase --version {seconds['supabase']:.3f} s"
    goals = {
        "version": ("agentops --version", 0.12),
        "help": ("agentops --help", 0.25),
        "flag": ("flags disable", 0.35),
    }
    return [
        Figure(title, f"{seconds[key]:.3f} s", others, f"≤ {goal} s", seconds[key] <= goal)
        for key, (title, goal) in goals.items()
    ]
