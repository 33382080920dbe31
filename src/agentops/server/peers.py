"""The sandbox's peers as a child of the supervisor: they end when it does, however it ends.

python -m agentops.server.peers --host 127.0.0.1 --port N
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from agentops.sandbox import APP_SECRET, WEBHOOK_URL, addresses
from agentops.server.supervisor import Child

HOST = "127.0.0.1"


def child(port: int, url: str | None, app_secret: str | None) -> Child:
    """The peers' process. It ends after the stack's own, which may still be talking to it.

    Args:
        port: where it listens.
        url: where the stack's functions are: the webhook there is told what becomes of each message.
        app_secret: signs what the webhook is told, as the stack knows it now; another one is heard at the next start.
    """
    argv = (sys.executable, "-P", "-m", "agentops.server.peers", "--host", HOST, "--port", str(port))
    told = {WEBHOOK_URL: f"{url}/functions/v1/ai-whatsapp-webhook", APP_SECRET: app_secret} if app_secret else {}
    return Child("sandbox peers", argv, environment=told, stage=1)


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
