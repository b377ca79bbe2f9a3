"""A proxy in front of the real S3 server that injects faults into its answers.

Strategy: only the answers that a test selects are spoiled; all others are the server's own. The Host header passes
unchanged, because it is signed: a request that was signed for the proxy's endpoint is then valid at the server.
Only requests without a body pass, which is enough for reading.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

# cut: half of the body, then the connection is closed; short: the same after a MiB; reset: no answer at all;
# stall: half of the body, then silence; whole: the whole object instead of a range (the object must be public, because
# boto3 signs the Range header, which is dropped here); flip: one bit in the middle of the body is another one; "expired"
# and numbers: an error answer of S3
Fault = Literal[
    "cut",
    "short",
    "reset",
    "stall",
    "whole",
    "flip",
    "expired",
    "301",
    "307",
    "400",
    "403",
    "500",
    "503",
]

# status and code of the errors
CODES = {
    "301": (301, "PermanentRedirect"),
    "307": (307, "TemporaryRedirect"),
    "400": (400, "AuthorizationHeaderMalformed"),
    "403": (403, "RequestTimeTooSkewed"),
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
}
# in the answers that the proxy makes itself
REQUEST_ID = "injected"
# SO_LINGER for 0 s: close() sends RST instead of FIN, see socket(7)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SHORT_BYTES = 1 << 20
# the longest silence; it ends earlier if the client or the proxy closes the connection
STALL_S = 60


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes:
        method: GET or HEAD.
        range: The Range header, or None.
        if_match: The If-Match header, or None.
        authorization: The Authorization header with the signature, or None.
        client_port: The client's port, which identifies the connection.
        user_agent: The User-Agent header, or "".
        path: Path and query of the URL.
    """

    method: str
    range: str | None
    if_match: str | None
    authorization: str | None
    client_port: int
    user_agent: str
    path: str = ""


class FaultServer(ThreadingHTTPServer):
    """The proxy: a context manager that serves while its block runs.

    Attributes:
        endpoint: URL of the proxy.
        requests: All requests that came, in order.
        refused: Authorization header → the fault that answers each request with it.
        before_fault: Called before a spoiled answer is sent.
    """

    # server_close() then waits for the threads of all connections
    daemon_threads = False
    # a batch opens up to 128 connections at once, and the default backlog of 5 would drop some
    request_queue_size = 256

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port, in front of the server with that URL; with TLS if a context is given."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream).netloc
        self.tls = tls
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        self.requests: list[Request] = []
        self.refused: dict[str | None, Fault] = {}
        self.before_fault: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._errors: list[Exception] = []
        self._faults: Iterator[Fault | None] = iter(())
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def fail_next(self, *faults: Fault | None, times: int = 1) -> None:
        """Spoil the answers to the next GETs, one fault each; repeat the whole series `times` times.

        None as a fault leaves an answer as it is.
        """
        with self._lock:
            self._faults = chain(self._faults, chain.from_iterable(repeat(faults, times)))

    def fail_always(self, fault: Fault) -> None:
        """Spoil the answers to all GETs from now on."""
        with self._lock:
            self._faults = repeat(fault)

    def fail_at_rates(self, rates: dict[Fault, float], *, seed: int = 1) -> None:
        """Spoil the answers to GETs at random from now on, each fault at its rate, between 0 and 1."""
        chance = random.Random(seed)
        faults: list[Fault | None] = [*rates, None]
        weights = [*rates.values(), 1 - sum(rates.values())]
        with self._lock:
            self._faults = (chance.choices(faults, weights)[0] for _ in repeat(None))

    def count(self, method: str) -> int:
        """Return the number of requests with that method."""
        return sum(request.method == method for request in self.requests)

    def note(self, request: Request) -> Fault | None:
        """Record a request, and return the fault for its answer, or None."""
        with self._lock:
            self.requests.append(request)
            if fault := self.refused.get(request.authorization):
                return fault
            return next(self._faults, None) if request.method == "GET" else None

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                # OSError: the client has closed the connection already
                with suppress(OSError):
                    # wakes the thread that waits for the next request on this connection
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        if self._errors:
            raise ExceptionGroup("in the fault proxy", self._errors)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection, and remember it, so that it can be closed at the end."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, and forget it."""
        # without shutdown(), which would send FIN before the RST of a "reset"
        with self._lock:
            self._connections.discard(request)
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep an error for the end of the block, unless it only says that the client went away."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self._errors.append(error)


def flipped(body: bytes) -> bytes:
    """Return a body with one other bit."""
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 1
    return bytes(damaged)


class Handler(BaseHTTPRequestHandler):
    """Serves one connection of a client, over one connection to the server."""

    server: FaultServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Prepare the connection to the server."""
        super().setup()
        self.upstream = http.client.HTTPConnection(self.server.upstream)

    def finish(self) -> None:
        """Close the connection to the server."""
        self.upstream.close()
        super().finish()

    def do_GET(self) -> None:
        """Pass a GET to the server, and its answer to the client, spoiled if a test has asked for that."""
        headers = self.headers
        fault = self.server.note(
            Request(
                self.command,
                headers["Range"],
                headers["If-Match"],
                headers["Authorization"],
                self.client_address[1],
                headers["User-Agent"] or "",
                self.path,
            )
        )
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close_connection = True
        elif fault in CODES:
            self.answer(*CODES[fault])
        else:
            self.relay(fault)

    def do_HEAD(self) -> None:
        """Pass a HEAD to the server, and its answer to the client."""
        self.do_GET()

    def relay(self, fault: Fault | None) -> None:
        """Send the request to the server, and its answer to the client, with a fault if there is one."""
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if fault != "whole" or name in ("Host", "If-Match"):
                self.upstream.putheader(name, value)
        self.upstream.endheaders()
        answer = self.upstream.getresponse()
        body = answer.read()
        if fault == "flip":
            body = flipped(body)
        if fault:
            self.server.before_fault()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = answer.headers["Content-Length"] if self.command == "HEAD" else len(body)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault in ("cut", "stall", "short"):
            self.wfile.write(body[: SHORT_BYTES if fault == "short" else len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)
        if fault == "stall":
            self.connection.settimeout(STALL_S)
            # returns when the client closes the connection, or raises TimeoutError
            self.rfile.peek(1)

    def answer(self, status: int, code: str) -> None:
        """Send an error as S3 does."""
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("x-amz-request-id", REQUEST_ID)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
