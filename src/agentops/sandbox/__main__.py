"""`python -m agentops.sandbox`: the peers as a process of their own.

It prints nothing. With `--port 0` the system chooses a port; `--port-file` is where to read it, and the file appears
when the port accepts connections. `SANDBOX_WEBHOOK_URL` and `SANDBOX_APP_SECRET` say whom Graph's peer tells what
became of its messages, and with which signature.
"""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Serve until told to stop (SIGINT, SIGTERM)."""
    import uvicorn

    from agentops.sandbox.peers import app
    from agentops.sandbox.statuses import Statuses

    parser = argparse.ArgumentParser(prog="python -m agentops.sandbox", description="local stand-ins for the providers")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="write the port here once it accepts connections")
    options = parser.parse_args(argv)
    with socket.create_server((options.host, options.port), backlog=1024) as listener:
        if options.port_file:
            written = options.port_file.with_name(options.port_file.name + ".new")
            written.write_text(f"{listener.getsockname()[1]}\n", encoding="ascii")
            written.replace(options.port_file)
        config = uvicorn.Config(
            app(Statuses.told(os.environ)),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,  # clients keep their connections open
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
