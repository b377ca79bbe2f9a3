"""A web server for the reader in JavaScript: files of a folder by ranges, with CORS, ETags and faults as a test wants them."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# reset: no answer; cut: half of the body; short: the same, and Content-Length says so; long: more bytes than asked for; whole: the file in place of a range;
# other: bytes of another range; gzip: says that the body is compressed; flip: one bit of the body is another one;
# stall: the header, and no body
Fault = Literal["reset", "cut", "short", "long", "whole", "other", "gzip", "flip", "stall"] | int
RANGE = re.compile(r"bytes=(\d*)-(\d+)")
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html; charset=utf-8"}
PIECE_BYTES = 1 << 16
STALL_S = 120


@dataclass(frozen=True)
class Request:
    """A request that came: its method, its path with the query, and its headers by lower-case name."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


@dataclass
class Behaviour:
    """What a server does; tests change it while it runs.

    Attributes:
        etag: Which ETag answers have: strong, weak, one that stays when the file changes, or none.
        modified: Whether answers have Last-Modified.
        ranges: Whether Range is obeyed.
        head: Status of answers to HEAD.
        head_is_compressed: Whether answers to HEAD are those of a compressed file.
        cors: Origin that may read the answers; None: no CORS headers.
        exposed: Headers that pages of that origin may read.
        faults: Of the next GETs, one each; None: no fault.
        missing: Status of answers for files that are not there.
        retry_after: Retry-After of answers with a status of faults, in seconds.
        redirects: Path → URL that it redirects to.
        before: Called with each request before it is answered.
    """

    etag: Literal["strong", "weak", "same", "none"] = "strong"
    modified: bool = True
    ranges: bool = True
    head: int = 200
    head_is_compressed: bool = False
    cors: str | None = None
    exposed: str = "ETag, Content-Length, Content-Range"
    faults: list[Fault | None] = field(default_factory=list)
    missing: int = 404
    retry_after: int = 0
    redirects: dict[str, str] = field(default_factory=dict)
    before: Callable[[Request], object] = lambda _: None


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder while its block runs.

    Attributes:
        url: URL of the folder, with "/" at its end.
        requests: All requests that came, in order.
        sent_bytes: Bytes of all bodies that were handed to the system.
        left: Clients that went away before the end of an answer.
        stalled: Set when an answer has stalled.
        does: What the server does.
    """

    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.left = 0
        self.does = Behaviour()
        self.ended = threading.Event()
        self.stalled = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def forget(self) -> None:
        """Forget the requests that came, and behave as a new server."""
        self.requests.clear()
        self.sent_bytes = 0
        self.does = Behaviour()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count clients that went away before the end of an answer; a page aborts requests."""
        self.left += 1


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    # head and body are two writes: with Nagle's algorithm, the second one would wait 40 ms for an ACK
    disable_nagle_algorithm = True
    server: WebServer

    def do_OPTIONS(self) -> None:
        """Answer a preflight, which no test expects."""
        self._note()
        self._send(204, {}, b"")

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer()

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def log_message(self, *args: object) -> None:
        """Keep the output of tests clean."""

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        self.server.requests.append(request)
        self.server.does.before(request)

    def _answer(self) -> None:
        self._note()
        does = self.server.does
        if self.path in does.redirects:
            self._send(302, {"Location": does.redirects[self.path]}, b"")
            return
        if self.command == "HEAD" and does.head != 200:
            self._send(does.head, {}, b"")
            return
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self._send(does.missing, {}, b"no such file")
            return
        fault = does.faults.pop(0) if self.command == "GET" and does.faults else None
        if isinstance(fault, int):
            self._send(fault, {"Retry-After": str(does.retry_after)}, b"an error")
            return
        if fault == "reset":
            self.close_connection = True
            return
        self._send_file(path, fault)

    def _send_file(self, path: Path, fault: Fault | None) -> None:
        does, size = self.server.does, path.stat().st_size
        headers = {"Content-Type": TYPES.get(path.suffix, "application/octet-stream")}
        stamp = path.stat().st_mtime_ns
        tag = {"strong": f'"{stamp:x}"', "weak": 'W/"1"', "same": '"1"', "none": ""}[does.etag]
        headers |= {"ETag": tag} if tag else {}
        headers |= {"Last-Modified": self.date_time_string(stamp // 10**9)} if does.modified else {}
        found = RANGE.fullmatch(self.headers.get("Range", ""))
        start, end, status = 0, size, 200
        if found and does.ranges and fault != "whole":
            start, end = int(found[1] or max(0, size - int(found[2]))), int(found[2]) + 1
            # "-n" means the last n bytes; Python's readers ask so
            end, status = (min(end, size) if found[1] else size), 206
            if start >= size:
                self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
                return
        if fault == "other":
            start, end = start - 1, end - 1
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if fault == "short":
            end -= (end - start + 1) // 2
        if fault == "gzip" or (self.command == "HEAD" and does.head_is_compressed):
            headers["Content-Encoding"] = "gzip"
            end = min(end, start + 123) if self.command == "HEAD" else end
        self._begin(status, headers, end - start + (fault == "long"))
        if self.command == "GET":
            self._stream(path, start, end, fault)

    def _stream(self, path: Path, start: int, end: int, fault: Fault | None) -> None:
        if fault == "stall":
            self.server.stalled.set()
            self.server.ended.wait(STALL_S)
            return
        if fault == "cut":
            end -= (end - start + 1) // 2
            self.close_connection = True
        with path.open("rb") as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(PIECE_BYTES, end - start))
                if fault == "flip":
                    piece = bytes([piece[0] ^ 1]) + piece[1:]
                self.wfile.write(piece)
                self.server.sent_bytes += len(piece)
                start += len(piece)
        if fault == "long":
            self.wfile.write(b"x")

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._begin(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response_only(status)
        does = self.server.does
        if does.cors:
            headers |= {"Access-Control-Allow-Origin": does.cors}
            headers |= {"Access-Control-Expose-Headers": does.exposed} if does.exposed else {}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        with suppress(ConnectionError):
            self.end_headers()
