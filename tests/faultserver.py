"""A fake that injects faults, and nothing else: a proxy in front of the real S3 server.

What it is asked to spoil it spoils; every other answer is the server's own. The Host header passes through
unchanged, so that a request signed for the proxy's endpoint is still rightly signed at the server.
It takes requests without a body: those that read.
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

# the body cut half way, or after a MiB; no answer at all; half of the body and then nothing; the whole object in place of a
# range (which must be public, for boto3's range is signed); an error of S3
Fault = Literal["cut", "short", "reset", "stall", "whole", "301", "307", "400", "403", "500", "503"]

CODES = {
    "301": "PermanentRedirect",
    "307": "TemporaryRedirect",
    "400": "AuthorizationHeaderMalformed",
    "403": "RequestTimeTooSkewed",
    "500": "InternalError",
    "503": "SlowDown",
}
REQUEST_ID = "injected"  # of the answers that are the proxy's own
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: close sends RST
SHORT_BYTES = 1 << 20
STALL_S = 60  # at most; less if the client closes, or the proxy


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes:
        method: GET or HEAD.
        range: Its Range header, or None.
        if_match: Its If-Match header, or None.
        authorization: Its signature, or None.
        client_port: The other end of the connection it came by.
        user_agent: Who says to have sent it.
    """

    method: str
    range: str | None
    if_match: str | None
    authorization: str | None
    client_port: int
    user_agent: str


class FaultServer(ThreadingHTTPServer):
    """The proxy. A context manager that serves from the first line of its block to the last.

    Attributes:
        endpoint: Its URL.
        requests: What it was asked, in order.
        refused: Signatures that are answered by a fault, and by which.
        before_fault: Called when an answer is to be spoiled, before any of it is sent.
    """

    daemon_threads = False  # so that closing waits for them
    request_queue_size = 256  # connections that a batch begins with, at once

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen, in front of the server with that URL, with TLS if a context is given."""
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
        """Spoil the answers to the GETs that come next: one a fault, the whole row of them `times` over.

        None lets one pass.
        """
        with self._lock:
            self._faults = chain(self._faults, chain.from_iterable(repeat(faults, times)))

    def fail_always(self, fault: Fault) -> None:
        """Spoil the answers to all GETs from now on."""
        with self._lock:
            self._faults = repeat(fault)

    def fail_at_rates(self, rates: dict[Fault, float], *, seed: int = 1) -> None:
        """Spoil the answers to GETs from now on by chance: each fault at its rate."""
        chance = random.Random(seed)
        faults: list[Fault | None] = [*rates, None]
        weights = [*rates.values(), 1 - sum(rates.values())]
        with self._lock:
            self._faults = (chance.choices(faults, weights)[0] for _ in repeat(None))

    def count(self, method: str) -> int:
        """Count the requests seen with that method."""
        return sum(request.method == method for request in self.requests)

    def note(self, request: Request) -> Fault | None:
        """Record a request, and say how its answer is to be spoiled."""
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
                with suppress(OSError):  # the client was first
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
        self.server_close()
        if self._errors:
            raise ExceptionGroup("in the fault proxy", self._errors)

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection, and remember it."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, without the good-bye that would come before a reset, and forget it."""
        with self._lock:
            self._connections.discard(request)
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep what went wrong for the end, unless only the client went away."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self._errors.append(error)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, with its own to the server."""

    server: FaultServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Be ready to ask the server."""
        super().setup()
        self.upstream = http.client.HTTPConnection(self.server.upstream)

    def finish(self) -> None:
        """Leave the server."""
        self.upstream.close()
        super().finish()

    def do_GET(self) -> None:
        """Pass a request on, and its answer back, spoiled if that is asked for."""
        headers = self.headers
        fault = self.server.note(
            Request(
                self.command,
                headers["Range"],
                headers["If-Match"],
                headers["Authorization"],
                self.client_address[1],
                headers["User-Agent"] or "",
            )
        )
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close_connection = True
        elif fault in CODES:
            self.answer(int(fault), CODES[fault])
        else:
            self.relay(fault)

    def do_HEAD(self) -> None:
        """Pass a request on, and its answer back."""
        self.do_GET()

    def relay(self, fault: Fault | None) -> None:
        """Ask the server, and answer as it does, unless that is to be spoiled."""
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if fault != "whole" or name in ("Host", "If-Match"):
                self.upstream.putheader(name, value)
        self.upstream.endheaders()
        answer = self.upstream.getresponse()
        body = answer.read()
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
            self.rfile.peek(1)  # until the client gives up

    def answer(self, status: int, code: str) -> None:
        """Answer with an error of S3."""
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("x-amz-request-id", REQUEST_ID)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
