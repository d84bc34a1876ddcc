"""A TCP proxy in front of a server: cuts the server off, and connects it again, without restarting it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

_CHUNK = 1 << 16


class Proxy:
    """Forwards connections from ``port`` on this machine to ``target``, another port on it.

    A context manager: it forwards when ``with`` begins, and has closed everything when it ends.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        # Bound and not listening: nobody else gets the port, and connections to it are refused.
        self._reserved = _bound(0)
        self.port = int(self._reserved.getsockname()[1])

    def restore(self) -> None:
        """Forward connections. Nothing changes if it does already."""
        with self._lock:
            if self._listener is None:
                self._listener, self._reserved = self._reserved, None
                self._listener.listen(128)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Drop all connections and refuse new ones, as if the server had died."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._open = self._open, set()
            if listener is not None:
                _close(listener)
                self._reserved = _bound(self.port)
        for connection in connections:
            _close(connection)

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        if self._reserved is not None:
            self._reserved.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed by `cut`
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(listener, client), daemon=True).start()

    def _serve(self, listener: socket.socket, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
        except OSError:  # the server itself is down
            _close(client)
            return
        server.settimeout(None)
        threads = [threading.Thread(target=_copy, args=ends, daemon=True) for ends in ((client, server), (server, client))]
        with self._lock:
            if self._listener is listener:
                self._open |= {client, server}
            else:  # cut meanwhile
                threads = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            self._open -= {client, server}
        for connection in (client, server):
            _close(connection)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _copy(source: socket.socket, destination: socket.socket) -> None:
    """Pass bytes on until the source says that there are no more; half-closed connections stay half open."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            destination.sendall(data)
    with suppress(OSError):
        destination.shutdown(socket.SHUT_WR)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in `recv` or `accept`
    connection.close()
