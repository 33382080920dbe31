from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from agentops import settings
from agentops.server import hold
from tests.fakes.servers import eventually

if TYPE_CHECKING:
    from pathlib import Path


def test_only_one_holds_a_target_and_others_read_who(tmp_path: Path) -> None:
    file = tmp_path / "home" / "local" / "up.lock"
    assert hold.read(file) is None
    taken = hold.take(file)
    assert taken is not None
    assert hold.take(file) is None
    assert hold.read(file) == hold.Held(os.getpid(), None, ready=False)
    taken.say("http://127.0.0.1:54321", ready=False)
    taken.say("http://127.0.0.1:1", ready=True)
    assert hold.read(file) == hold.Held(os.getpid(), "http://127.0.0.1:1", ready=True)
    taken.release()
    assert hold.read(file) is None
    assert (file.stat().st_mode & 0o777, file.parent.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_killed_holder_holds_no_more(tmp_path: Path) -> None:
    import asyncio

    file = tmp_path / "local" / "up.lock"
    script = (
        "import sys, time, pathlib; from agentops.server import hold; "
        "held = hold.take(pathlib.Path(sys.argv[1])); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(file)])
    asyncio.run(eventually(lambda: hold.read(file)))
    holder.kill()
    holder.wait()
    assert hold.read(file) is None


def test_each_target_has_a_file_of_its_own(tmp_path: Path) -> None:
    targets = ["local", "sandbox", "postgresql://a@one/x", "postgresql://a@two/x"]
    files = {hold.path(settings.process(target, {"AGENTOPS_HOME": str(tmp_path)})) for target in targets}
    assert len(files) == len(targets)
