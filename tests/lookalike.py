"""A fake of other S3 servers: a proxy that makes a real server behave as they do.

Strategy: requests pass to the real server unchanged, so their signatures stay valid: the Host header, which is signed,
passes too. Some requests the proxy refuses by itself. Of the answers that pass it changes status, headers or framing.
No service was contacted: each trait is what a service is documented or reported to do.
"""

from __future__ import annotations

import http.client
import re
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import Endpoint

Trait = Literal[
    "conditional writes: 501",
    "parts of one size",
    "part copies: 501",
    "conditional part copies: 501",
    "part copies have no ETag",
    "lists of uploads: 403",
    "lists of uploads: 501",
    "suffix ranges: 200",
    "suffix ranges: 400",
    "suffix ranges: 416",
    "no right to list",
    "ranges by status 200",
    "no ETag",
    "ETags without quotes",
    "weak ETags",
    "chunked answers",
    "a web page",
]
# A service → the traits that it is documented or reported to have.
LIKE: dict[str, tuple[Trait, ...]] = {
    "like R2": ("parts of one size", "conditional part copies: 501"),
    "like B2": ("conditional writes: 501",),
    "like Storj": ("part copies: 501", "lists of uploads: 501"),
    "like Azure": ("suffix ranges: 400", "conditional writes: 501", "weak ETags"),
    "like GCS": ("part copies: 501", "conditional writes: 501", "chunked answers"),
}
# Each trait by itself → what it means, behind "The server …".
TRAITS: dict[Trait, str] = {
    "conditional writes: 501": "refuses If-Match and If-None-Match of writes with 501",
    "parts of one size": "wants all parts of an upload but the last to have one size",
    "part copies: 501": "refuses UploadPartCopy with 501",
    "conditional part copies: 501": "refuses UploadPartCopy with a condition",
    "part copies have no ETag": "answers UploadPartCopy without an ETag",
    "lists of uploads: 403": "refuses ListMultipartUploads with 403",
    "lists of uploads: 501": "refuses ListMultipartUploads with 501",
    "suffix ranges: 200": "ignores a range of the last bytes",
    "suffix ranges: 400": "refuses a range of the last bytes with 400",
    "suffix ranges: 416": "refuses a range of the last bytes with 416",
    "no right to list": "lets the caller list nothing, and answers 403 for a missing object",
    "ranges by status 200": "answers a range with status 200",
    "no ETag": "sends no ETags",
    "ETags without quotes": "sends ETags without quotes",
    "weak ETags": "sends weak ETags",
    "chunked answers": "sends ranges in chunks, without Content-Length",
    "a web page": "answers every request with a web page",
}
PAGE = b"<!DOCTYPE html>\n<html><head><title>Console</title></head><body>Sign in</body></html>\n"
# Headers of one connection only (RFC 9110, 7.6.1), and those that this proxy writes itself.
NOT_PASSED = ("connection", "content-length", "expect", "keep-alive", "transfer-encoding")
CHUNK_BYTES = 1000


class Asked(NamedTuple):
    """A request as the proxy reads it.

    Attributes:
        method: GET, HEAD, PUT, POST or DELETE.
        path: Path of the URL, still quoted.
        query: The query's parameters; those without a value have "".
        headers: Headers by lower-case name.
        body: The body.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def is_part_copy(self) -> bool:
        """Return whether this is UploadPartCopy."""
        return "uploadId" in self.query and "x-amz-copy-source" in self.headers

    @property
    def is_write(self) -> bool:
        """Return whether this is PutObject or CompleteMultipartUpload."""
        if self.method == "POST":
            return "uploadId" in self.query
        return self.method == "PUT" and "uploadId" not in self.query

    @property
    def is_read(self) -> bool:
        """Return whether this is GetObject or HeadObject."""
        has_key = "/" in self.path.strip("/")
        return self.method in ("GET", "HEAD") and has_key and "uploadId" not in self.query

    @property
    def suffix(self) -> bool:
        """Return whether this asks for the last bytes of an object."""
        return self.method == "GET" and self.headers.get("range", "").startswith("bytes=-")


class Answer(NamedTuple):
    """An answer of the server or of the proxy; header names as they came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lookalike(ThreadingHTTPServer):
    """The proxy: a context manager that serves while its block runs.

    Attributes:
        endpoint: URL of the proxy.
        traits: How the server behaves; tests change them while it runs.
        requests: Method and path with query of all requests that came, in order.
        spoiled: Requests whose answers are spoiled, each once; see spoil.
    """

    daemon_threads = True
    block_on_close = False
    # A batch opens up to 128 connections at once.
    request_queue_size = 256

    def __init__(self, upstream: Endpoint, *traits: Trait) -> None:
        """Listen on a free port, in front of a server."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.traits = {*traits}
        self.requests: list[tuple[str, str]] = []
        self.spoiled: list[tuple[Callable[[Asked], bool], Answer | None, bool]] = []
        # The sizes of the parts of uploads, by upload and number.
        self.sizes: dict[str, dict[int, int]] = {}
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Lookalike:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        if self._errors:
            raise ExceptionGroup("in the proxy", self._errors)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep an error for the end of the block, unless it only says that the client went away."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self._errors.append(error)

    def spoil(
        self, wanted: Callable[[Asked], bool], answer: Answer | None = None, *, is_done: bool = True
    ) -> None:
        """Spoil the answer to the next request that `wanted` recognises.

        Args:
            wanted: Recognises the request.
            answer: What the client gets; None: nothing, and the connection is closed.
            is_done: Whether the server carries out the request.
        """
        self.spoiled.append((wanted, answer, is_done))

    def refuse(self, asked: Asked) -> Answer | None:
        """Return the error with which the server answers a request that it does not know; None if it knows it."""
        traits, conditions = self.traits, {"if-match", "if-none-match"} & asked.headers.keys()
        if "a web page" in traits:
            return Answer(200, {"Content-Type": "text/html"}, PAGE)
        if "conditional writes: 501" in traits and asked.is_write and conditions:
            return error(501, "NotImplemented", "A header that you provided is not implemented.")
        if asked.is_part_copy and (
            "part copies: 501" in traits
            or (
                "conditional part copies: 501" in traits
                and "x-amz-copy-source-if-match" in asked.headers
            )
        ):
            return error(501, "NotImplemented", "UploadPartCopy is not implemented.")
        if asked.method == "GET" and "uploads" in asked.query:
            for status, code in ((403, "AccessDenied"), (501, "NotImplemented")):
                if f"lists of uploads: {status}" in traits:
                    return error(status, code, "ListMultipartUploads")
        is_list = asked.method == "GET" and {"list-type", "uploads"} & asked.query.keys()
        if "no right to list" in traits and is_list:
            return error(403, "AccessDenied", "Access Denied")
        if "parts of one size" in traits:
            return self._refuse_parts(asked)
        return self._refuse_suffix(asked)

    def _refuse_suffix(self, asked: Asked) -> Answer | None:
        if not asked.suffix:
            return None
        if "suffix ranges: 400" in self.traits:
            return error(400, "InvalidHeaderValue", "The value of one of the headers is invalid.")
        if "suffix ranges: 416" in self.traits:
            return error(416, "InvalidRange", "The requested range is not satisfiable")
        return None

    def _refuse_parts(self, asked: Asked) -> Answer | None:
        """Note the size of a part; refuse to complete an upload whose parts have several sizes."""
        upload = self.sizes.setdefault(asked.query.get("uploadId", ""), {})
        if asked.method == "PUT" and "partNumber" in asked.query:
            first, _, last = asked.headers.get("x-amz-copy-source-range", "")[6:].partition("-")
            size = int(last) + 1 - int(first) if last else len(asked.body)
            upload[int(asked.query["partNumber"])] = size
        elif asked.method == "POST" and upload:
            *sizes, last = (
                upload[int(number)]
                for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", asked.body)
            )
            if len({*sizes}) > 1 or (sizes and last > sizes[0]):
                return error(
                    400, "InvalidPart", "All non-trailing parts must have the same length."
                )
        return None

    def change(self, asked: Asked, answer: Answer) -> Answer:
        """Return the answer that the client gets in place of the real server's."""
        status, headers, body = answer
        traits = self.traits
        if "suffix ranges: 200" in traits and asked.suffix and status == 206:
            return self._whole(asked, headers)
        if "no right to list" in traits and asked.is_read and status == 404:
            return error(403, "AccessDenied", "Access Denied")
        if "ranges by status 200" in traits and status == 206:
            status = 200
        if "part copies have no ETag" in traits and asked.is_part_copy:
            body = re.sub(rb"<ETag>.*?</ETag>", b"", body)
        # Without the ETags of parts, no upload could end.
        if "no ETag" in traits and not (asked.method == "PUT" and "uploadId" in asked.query):
            headers.pop("ETag", None)
            body = re.sub(rb"<ETag>.*?</ETag>", b"", body) if b"<Contents>" in body else body
        if "ETags without quotes" in traits:
            body = body.replace(b"&quot;", b"") if body[:5] == b"<?xml" else body
            headers = {
                name: value.strip('"') if name == "ETag" else value
                for name, value in headers.items()
            }
        if "weak ETags" in traits and asked.is_read and "ETag" in headers:
            headers = headers | {"ETag": f"W/{headers['ETag']}"}
        return Answer(status, headers, body)

    def _whole(self, asked: Asked, headers: dict[str, str]) -> Answer:
        bucket, _, key = unquote(asked.path).lstrip("/").partition("/")
        headers.pop("Content-Range", None)
        return Answer(200, headers, self.upstream.stored(bucket, key))


def error(status: int, code: str, message: str) -> Answer:
    """Return an error as S3 sends it."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())


class Handler(BaseHTTPRequestHandler):
    """Serves one connection of a client, over one connection to the server."""

    server: Lookalike
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Prepare the connection to the server."""
        super().setup()
        self.upstream = http.client.HTTPConnection(urlsplit(self.server.upstream.endpoint).netloc)

    def finish(self) -> None:
        """Close the connection to the server."""
        self.upstream.close()
        # the client may have gone
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        """Answer any request."""
        self.server.requests.append((self.command, self.path))
        path, _, query = self.path.partition("?")
        asked = Asked(
            self.command,
            path,
            {name: values[-1] for name, values in parse_qs(query, True).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers["Content-Length"] or 0)),
        )
        spoiled = next((each for each in self.server.spoiled if each[0](asked)), None)
        if spoiled is not None:
            self.server.spoiled.remove(spoiled)
            if spoiled[2]:
                self.relay(asked)
            if spoiled[1] is None:
                self.close_connection = True
                return
        answer = spoiled[1] if spoiled else self.server.refuse(asked)
        if answer is None:
            answer = self.server.change(asked, self.relay(asked))
        self.send(asked, answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (names of http.server)

    def relay(self, asked: Asked) -> Answer:
        """Send the request to the server, and return its answer."""
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                self.upstream.putheader(name, value)
        self.upstream.endheaders(asked.body)
        answer = self.upstream.getresponse()
        body = answer.read()
        headers = dict(answer.getheaders())
        if asked.method == "HEAD":
            headers["content-length-of-head"] = answer.headers["Content-Length"] or "0"
        return Answer(answer.status, headers, body)

    def send(self, asked: Asked, answer: Answer) -> None:
        """Send an answer to the client."""
        self.send_response_only(answer.status)
        length = answer.headers.pop("content-length-of-head", str(len(answer.body)))
        for name, value in answer.headers.items():
            if name.lower() not in NOT_PASSED:
                self.send_header(name, value)
        is_chunked = "chunked answers" in self.server.traits and answer.status == 206
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", length)
        self.end_headers()
        if asked.method == "HEAD":
            return
        if not is_chunked:
            self.wfile.write(answer.body)
            return
        for start in range(0, len(answer.body), CHUNK_BYTES):
            piece = answer.body[start : start + CHUNK_BYTES]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
