"""A real server for tests: uvicorn in a thread, and clients that send exactly what a test says."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.gateway.server import Listener, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

# the tests' machine may be shared by many
TIMEOUT_S = 120


class Answer(NamedTuple):
    """What a server answered: header names are in lower case; a field that came twice is a test's failure."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(self, port: int, servers: Servers | None = None) -> None:
        """Know a server by its port; if it runs in this process, also by its object."""
        self.port, self.servers = port, servers
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self, target: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send a request for a path that is percent-encoded already; names of headers have "_" for "-"."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        ) as connection:
            connection.request(method, target, body=body, headers=fields)
            with connection.getresponse() as response:
                found = [(name.lower(), value) for name, value in response.getheaders()]
                assert len(dict(found)) == len(found), f"a field came twice: {found}"
                return Answer(response.status, dict(found), response.read())

    def raw(self, request: bytes) -> bytes:
        """Send bytes, and return all that the server sends until it closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S) as connection:
            connection.sendall(request)
            found = b""
            while part := connection.recv(1 << 16):
                found += part
            return found


@contextmanager
def serving(app: Any, ready_answer: Any = None) -> Iterator[Client]:
    """Serve an application, in a thread of this process; see Listener for ready_answer."""
    listener = Listener(app, "127.0.0.1", 0, ready_answer)
    servers = Servers([listener])
    ready = threading.Event()
    thread = threading.Thread(target=servers.run, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    try:
        yield Client(listener.port, servers)
    finally:
        servers.stop()
        thread.join(TIMEOUT_S)
    assert not thread.is_alive()
