"""Prefect's server for one command, as a process that ends when its owner does, however that ends.

``flows.servers.own_server`` runs this file with a listening socket as its argument. Standard input is a pipe that only the owner
holds open: reading it ends when the owner does, ``kill -9`` included.
"""

import os
import signal
import socket
import sys
import threading
import time

_ENDING_S = 5.0


def _end_with_owner() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_ENDING_S)
    os._exit(1)


def _serve(listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    threading.Thread(target=_end_with_owner, daemon=True).start()
    _serve(socket.socket(fileno=int(sys.argv[1])))
