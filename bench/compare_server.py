"""A file server on loopback that counts requests, and the bytes of the bodies that it sends.

It answers GET and HEAD, with ranges and ETags, for plain HTTP and for S3 clients that address a bucket by its path. It
checks neither signatures nor If-Match, because no file changes while it serves.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

# small, because bytes are counted before they are sent: a client that hangs up early is counted too high by one piece at most
SENT_PIECE_BYTES = 1 << 16


class Counted(NamedTuple):
    """The requests of all clients since the last count.

    Attributes:
        requests: Requests of any method, also those answered by an error.
        bytes: Bytes of the bodies that were sent.
    """

    requests: int
    bytes: int


class CountingServer(ThreadingHTTPServer):
    """Serves a folder from a free port; use it in a with statement."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self._lock = threading.Lock()
        self._counted = Counted(0, 0)

    @property
    def url(self) -> str:
        """The URL of the folder."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        super().__exit__(*_)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up in the middle: one that reads a tar as a stream does so on purpose."""

    def count(self, requests: int, size: int) -> None:
        """Add to the counts."""
        with self._lock:
            self._counted = Counted(self._counted.requests + requests, self._counted.bytes + size)

    def take_counted(self) -> Counted:
        """Return what was counted since the last call."""
        with self._lock:
            counted, self._counted = self._counted, Counted(0, 0)
        return counted


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    # Header and body are two writes. Nagle's algorithm would hold the second one back for 40 ms.
    disable_nagle_algorithm = True
    server: CountingServer

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Answer with the bytes of the range, or with all of them."""
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _answer(self, *, with_body: bool) -> None:
        self.server.count(1, 0)
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        bounds = self._bounds(size)
        start, end = bounds or (0, size)
        self.send_response(206 if bounds else 200)
        if bounds:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size:x}"')
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if with_body:
            with suppress(ConnectionError):
                self._send(path, start, end)

    def _bounds(self, size: int) -> tuple[int, int] | None:
        """Return the requested range, half-open; None without a Range header."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found:
            return None
        first, last = found.groups()
        # a suffix range asks for the last bytes (RFC 9110, 14.1.2)
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def _send(self, path: Path, start: int, end: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(SENT_PIECE_BYTES, end - start))
                # before the write: else the client could have the bytes, and the bench the count, without this piece
                self.server.count(0, len(piece))
                self.wfile.write(piece)
                start += len(piece)
