"""The sandbox's peers as a child of the supervisor: they end when it does, however it ends.

python -m agentops.server.peers --host 127.0.0.1 --port N
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from agentops.sandbox import addresses
from agentops.server.supervisor import Child

HOST = "127.0.0.1"


def child(port: int) -> Child:
    """The peers' process. It ends after the stack's own, which may still be talking to it."""
    argv = (sys.executable, "-P", "-m", "agentops.server.peers", "--host", HOST, "--port", str(port))
    return Child("sandbox peers", argv, stage=1)


def environment(port: int) -> dict[str, str]:
    """What the stack's own processes are told, so that they talk to the peers and to nobody else."""
    return addresses(port, HOST)


def _leash() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from agentops.sandbox.__main__ import main

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leash, daemon=True).start()
    main(sys.argv[1:])
