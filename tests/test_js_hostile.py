"""The reader in JavaScript against servers that lie: no hang, no memory without bound, and a clear error."""

from __future__ import annotations

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from js_reader import Node, node

import blobpack
from blobpack._native.scan import index_header
from blobpack.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["node"]

MEMBERS = {f"{i:04}.png": b"\x89PNG" + bytes(i % 7) for i in range(1500)}
HUGE = 1 << 50
BODY_PIECE = bytes(1 << 16)
# what the buffers of sockets take
SENT_BYTES_MAX = 64 << 20


class LyingServer(ThreadingHTTPServer):
    """Serves one blob as `answer` wants it.

    Attributes:
        blob: The bytes.
        answer: Called with the handler and the range that was asked for (None for HEAD); answers the request.
        begin: Where the index begins, and its first bytes, if the blob claims to be larger than it is.
        requests: Number of requests that came.
        sent_bytes: Bytes of bodies without an end.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, blob: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blob, self.size = blob, len(blob)
        self.answer: Callable[[Handler, tuple[int, int] | None], None] = Handler.honest
        self.begin = (0, b"")
        self.requests = self.sent_bytes = 0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/x.tar"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about clients that go away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LyingServer

    def do_HEAD(self) -> None:
        self.server.requests += 1
        self.server.answer(self, None)

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/x.tar":
            self.reply(404, {"Content-Length": "0"})
            return
        start, end = self.headers["Range"].removeprefix("bytes=").split("-")
        self.server.answer(self, (int(start), int(end) + 1))

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in {"ETag": '"1"', **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def honest(self, asked: tuple[int, int] | None) -> None:
        """Answer as a right server does, whose blob has zeros in front until it has the size that it claims."""
        blob, size = self.server.blob, self.server.size
        if asked is None:
            self.reply(200, {"Content-Length": str(size)})
            return
        start, end = asked[0], min(asked[1], size)
        body = bytearray(end - start)
        for at, part in (self.server.begin, (size - len(blob), blob)):
            low, high = max(at, start), min(at + len(part), end)
            if low < high:
                body[low - start : high - start] = part[low - at : high - at]
        headers = {
            "Content-Length": str(len(body)),
            "Content-Range": f"bytes {start}-{end - 1}/{size}",
        }
        self.reply(206, headers, body)

    def endless(self) -> None:
        """Send a body that does not end."""
        while not self.server.ended.is_set():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(BODY_PIECE), BODY_PIECE))
            self.server.sent_bytes += len(BODY_PIECE)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("hostile") / "x.tar"
    blobpack.pack(MEMBERS, path, all_files=True)
    return path.read_bytes()


@pytest.fixture
def server(blob: bytes) -> Iterator[LyingServer]:
    with LyingServer(blob) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.ended.set()
        found.shutdown()
        thread.join()


def asked_of(node: Node, server: LyingServer, *calls: list[Any], **options: Any) -> dict[str, Any]:
    """Return the error of opening the blob, or of the first call that has one."""
    job = {"url": server.url, "calls": calls or [["read", "0007.png"]]}
    found = node.run(job | {"options": {"retries": 1, **options}})
    if "error" in found:
        return found
    return next((one for one in found["answers"] if "error" in one), found["answers"][-1])


def check_error(found: dict[str, Any], *kinds: str) -> None:
    assert found.get("error") in kinds, found
    assert "x.tar" in found["message"]


@pytest.mark.parametrize(
    "length", ["99999999999999999999", "9007199254740993", "1" * 400, "4503599627370496"]
)
def test_a_length_that_nothing_has(node: Node, server: LyingServer, length: str) -> None:
    server.answer = lambda handler, asked: (
        handler.reply(200, {"Content-Length": length})
        if asked is None
        else Handler.honest(handler, asked)
    )
    found = asked_of(node, server)
    # undici refuses some of these numbers by itself
    assert "value" in found or found["error"] in ("StorageError", "BlobChangedError"), found
    assert server.requests <= 6


@pytest.mark.parametrize(
    "told",
    [
        "bytes 0-0/99999999999999999999",
        "bytes 0-0/*",
        "bytes 0-0/-5",
        "bytes 0-0/1e9",
        "bytes 0-0/",
        "bytes 0-0/12/13",
        "items 1",
        "",
    ],
)
def test_a_total_that_is_no_number_of_bytes(node: Node, server: LyingServer, told: str) -> None:
    def lie(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is None:
            handler.reply(405, {"Content-Length": "0"})
        else:
            handler.reply(206, {"Content-Length": "1", "Content-Range": told}, b"x")

    server.answer = lie
    check_error(asked_of(node, server), "StorageError", "BlobChangedError", "FormatError")


@pytest.mark.parametrize("lie", ["start", "end", "total", "longer", "none"])
def test_a_range_that_is_not_the_one_asked_for(node: Node, server: LyingServer, lie: str) -> None:
    def answer(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is None:
            Handler.honest(handler, None)
            return
        start, end = asked
        told = {
            "start": f"bytes {start + 1}-{end - 1}/{server.size}",
            "end": f"bytes {start}-{end}/{server.size}",
            "total": f"bytes {start}-{end - 1}/{server.size + 512}",
            "longer": f"bytes 0-{server.size - 1}/{server.size}",
        }
        headers = {"Content-Length": str(end - start)}
        if lie != "none":
            headers["Content-Range"] = told[lie]
        handler.reply(206, headers, server.blob[start:end])

    server.answer = answer
    check_error(asked_of(node, server), "StorageError", "BlobChangedError")
    assert server.requests <= 4


@pytest.mark.parametrize("where", ["size", "tail", "hint"])
def test_a_body_without_end_is_cut_off(node: Node, server: LyingServer, where: str) -> None:
    def answer(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is None:
            if where == "tail":
                Handler.honest(handler, None)
            else:
                handler.reply(405, {"Content-Length": "0"})
            return
        start, end = asked
        headers = {
            "Transfer-Encoding": "chunked",
            "Content-Range": f"bytes {start}-{end - 1}/{server.size}",
        }
        handler.reply(206, headers)
        handler.endless()

    server.answer = answer
    options = {"size": server.size} if where == "hint" else {}
    check_error(asked_of(node, server, **options), "StorageError")
    # the connections were closed, so the server's threads fail to write
    assert server.sent_bytes < SENT_BYTES_MAX


@pytest.mark.parametrize("after", ["nothing", "header", "some bytes"])
def test_a_server_that_stops_answering_is_an_error(
    node: Node, server: LyingServer, after: str
) -> None:
    def answer(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is None:
            Handler.honest(handler, None)
            return
        start, end = asked
        if after != "nothing":
            headers = {
                "Content-Length": str(end - start),
                "Content-Range": f"bytes {start}-{end - 1}/{server.size}",
            }
            handler.reply(206, headers, b"x" * (0 if after == "header" else 100))
        server.ended.wait()

    server.answer = answer
    found = asked_of(node, server, stallMs=100)
    check_error(found, "StorageError")
    assert "nothing came for 0.1 seconds" in found["message"]
    assert server.requests == 3


def test_a_slow_server_is_waited_for(node: Node, server: LyingServer) -> None:
    """Each part comes in time, and all of them together take longer."""
    stall_ms, parts = 3000, 8

    def answer(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is None:
            Handler.honest(handler, None)
            return
        start, end = asked
        headers = {
            "Content-Length": str(end - start),
            "Content-Range": f"bytes {start}-{end - 1}/{server.size}",
        }
        handler.reply(206, headers)
        step = -(-(end - start) // parts)
        for at in range(start, end, step):
            handler.wfile.write(server.blob[at : min(at + step, end)])
            server.ended.wait(0.02)

    server.answer = answer
    found = asked_of(node, server, ["read", "0007.png"], stallMs=stall_ms)
    assert found == {"value": MEMBERS["0007.png"].hex()}


# An index whose checksums are right, and whose numbers are not. The blob claims to be huge, so that they fit.


def forged(blob: bytes, **numbers: int) -> bytes:
    """Return a blob with other numbers in its footer, behind an archive of zeros that nobody sends."""
    places = {
        "region_bytes": 8,
        "archive_bytes": 16,
        "row_count": 32,
        "last_end": 48,
        "block_count": 56,
        "directory": 64,
        "lookup": 72,
        "lookup_pages": 80,
        "guide": 96,
        "guide_bytes": 104,
        "flags": 116,
        "scanned": 120,
        "blobs": 320,
        "blobs_bytes": 328,
    }
    footer = bytearray(blob[-512:])
    # of the archive's last 4,096 bytes
    struct.pack_into("<I", footer, 24, crc32c(bytes(4096)))
    for name, number in numbers.items():
        struct.pack_into("<I" if name == "flags" else "<Q", footer, places[name], number)
    struct.pack_into("<I", footer, 0, crc32c(bytes(footer[4:])))
    return blob[:-512] + bytes(footer)


LIES: list[dict[str, int]] = [
    {"row_count": (1 << 32) - 2, "block_count": 1 << 22},
    {"row_count": HUGE * 1000, "block_count": -(-HUGE * 1000 // 1024)},
    {"guide": 0, "guide_bytes": HUGE // 4},
    {"guide": 0, "guide_bytes": 0, "lookup_pages": HUGE >> 14},
    {"guide_bytes": 0, "lookup_pages": 0, "row_count": HUGE // 8, "block_count": HUGE >> 13},
    {"directory": HUGE // 4},
    {"directory": 0},
    {"guide": 0},
    {"lookup": 1, "guide_bytes": 0},
]


@pytest.mark.parametrize("lie", LIES, ids=[" ".join(lie) for lie in LIES])
@pytest.mark.parametrize("call", [["read", "0007.png"], ["read", 7], ["select", "*7.png"]])
def test_an_index_of_huge_numbers_is_an_error(
    node: Node, server: LyingServer, blob: bytes, lie: dict[str, int], call: list[Any]
) -> None:
    region = HUGE // 2
    server.size = HUGE
    archive = HUGE - region - 512
    server.begin = archive, index_header(region) + b"BLOBIDX\n"
    server.blob = forged(blob, region_bytes=region, archive_bytes=archive, **lie)

    def answer(handler: Handler, asked: tuple[int, int] | None) -> None:
        if asked is not None and asked[1] - asked[0] > SENT_BYTES_MAX:
            server.sent_bytes += asked[1] - asked[0]
            handler.reply(500, {"Content-Length": "0"})
            return
        Handler.honest(handler, asked)

    server.answer = answer
    check_error(asked_of(node, server, call), "FormatError", "ChecksumError")
    assert server.sent_bytes == 0
    assert server.requests < 12


@pytest.mark.parametrize("target", ["itself", "another", "nowhere", "file"])
def test_redirects_end(node: Node, server: LyingServer, target: str) -> None:
    urls = {
        "itself": "/x.tar",
        "another": "http://127.0.0.1:9/x.tar",
        "nowhere": "//",
        "file": "file:///etc/passwd",
    }
    server.answer = lambda handler, asked: handler.reply(
        302, {"Location": urls[target], "Content-Length": "0"}
    )
    check_error(asked_of(node, server, retries=0), "StorageError")
    assert server.requests < 30
