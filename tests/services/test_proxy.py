"""The proxy that stands between servers in tests of faults."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.services.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that sends back what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def sent_back(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data) and (part := connection.recv(1 << 16)):
        answer += part
    return answer


def test_what_is_sent_through_arrives_in_both_directions(echo: int) -> None:
    with Proxy(echo) as proxy, connected(proxy.port) as first, connected(proxy.port) as second:
        assert sent_back(first, b"a" * 300_000) == b"a" * 300_000
        assert sent_back(second, b"b") == b"b"


def test_a_cut_drops_connections_and_refuses_new_ones_until_it_is_restored(echo: int) -> None:
    with Proxy(echo) as proxy:
        for _ in range(2):
            with connected(proxy.port) as connection:
                assert sent_back(connection, b"before") == b"before"
                proxy.cut()
                assert connection.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                connected(proxy.port)
            proxy.restore()
            with connected(proxy.port) as connection:
                assert sent_back(connection, b"after") == b"after"


def test_a_server_that_is_down_closes_the_connection_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Proxy(port) as proxy, connected(proxy.port) as connection:
        assert connection.recv(1) == b""
