"""A fake of Google Cloud Storage on loopback: the part of its XML API that obstore uses, with objects in memory.

No emulator that installs here can be written to by the XML API: fake-gcs-server and gcp-storage-emulator know the JSON API.
So this is a fake, written after Google's reference: docs "XML API", "Request preconditions" and "Multipart uploads".
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

RANGE = re.compile(r"bytes=(\d*)-(\d*)")
PART = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
KEPT = ("content-type",)
PAGE_KEYS = 100


class Stored(NamedTuple):
    """An object: its bytes, the headers that come back with them, and the number of this version."""

    data: bytes
    headers: dict[str, str]
    generation: int

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data + str(self.generation).encode()).hexdigest()}"'


class GcsServer(ThreadingHTTPServer):
    """The server. It runs while the block runs.

    Attributes:
        buckets: Bucket → key → object.
        unfinished: Upload id → bucket, key, headers and parts.
        asked: Method and path of each request.
        denied: Status and error code that answer every request; None: requests are served.
        lost: Answers to the next PUTs of objects that are carried out: statuses of errors, or 0 for none at all.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.unfinished: dict[str, tuple[str, str, dict[str, str], dict[int, bytes]]] = {}
        self.generations = itertools.count(1_700_000_000_000_001)
        self.asked: list[tuple[str, str]] = []
        self.denied: tuple[int, str] | None = None
        self.lost: list[int] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> GcsServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    def store(self, bucket: str, key: str, data: bytes, headers: dict[str, str]) -> Stored:
        stored = Stored(data, headers, next(self.generations))
        self.buckets[bucket][key] = stored
        return stored

    def handle_error(self, request: Any, client_address: Any) -> None:
        # clients may close connections at any time
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: GcsServer

    def log_message(self, *args: object) -> None:
        pass

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, size: int = -1
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size < 0 else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        message = f"<Error><Code>{code}</Code><Message>refused: {code}</Message></Error>"
        self._answer(status, b"" if status == 304 else message.encode())

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.query = {
            name: values[0]
            for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        bucket, _, key = parts.path[1:].partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key)
        self.server.asked.append((self.command, self.path))
        if self.server.denied:
            self._refuse(*self.server.denied)
            return
        if self.bucket not in self.server.buckets:
            self._refuse(404, "NoSuchBucket")
            return
        with self.server.lock, suppress(ConnectionError):
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 (names of http.server)

    def _described(self, stored: Stored) -> dict[str, str]:
        return {
            **stored.headers,
            "ETag": stored.etag,
            "x-goog-generation": str(stored.generation),
            "Last-Modified": "Mon, 30 Nov 2026 06:00:00 GMT",
        }

    def _get(self) -> None:
        if not self.key:
            self._list()
            return
        stored = self.server.buckets[self.bucket].get(self.key)
        if stored is None:
            self._refuse(404, "NoSuchKey")
            return
        if self.headers.get("If-Match", stored.etag) != stored.etag:
            self._refuse(412, "PreconditionFailed")
            return
        size, asked = len(stored.data), RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, stored.data, self._described(stored), size)
            return
        start = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        end = min(size, int(asked[2]) + 1) if asked[1] and asked[2] else size
        if start >= size:
            self._refuse(416, "InvalidRange")
            return
        found = {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self._answer(206, stored.data[start:end], self._described(stored) | found)

    _head = _get

    def _list(self) -> None:
        begin, after = self.query.get("prefix", ""), self.query.get("continuation-token", "")
        objects = self.server.buckets[self.bucket]
        keys = sorted(key for key in objects if key.startswith(begin) and key > after)
        page, more = keys[:PAGE_KEYS], len(keys) > PAGE_KEYS
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key].data)}</Size>"
            f"<ETag>{escape(objects[key].etag)}</ETag><Generation>{objects[key].generation}</Generation>"
            "<LastModified>2026-11-30T06:00:00.000Z</LastModified></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        self._answer(
            200, f"<ListBucketResult>{truncated}{token}{listed}</ListBucketResult>".encode()
        )

    def _put(self) -> None:
        if "uploadId" in self.query:
            parts = self.server.unfinished[self.query["uploadId"]][3]
            parts[int(self.query["partNumber"])] = self.body
            self._answer(200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})
            return
        found = self.server.buckets[self.bucket].get(self.key)
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            self._refuse(412, "PreconditionFailed")
            return
        stored = self.server.store(self.bucket, self.key, self.body, self._given())
        if not self.server.lost:
            self._answer(200, b"", self._described(stored))
        elif status := self.server.lost.pop(0):
            self._refuse(status, "Lost")
        else:
            self.close_connection = True

    def _given(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.headers.items()
            if name.lower() in KEPT or name.lower().startswith("x-goog-meta-")
        }

    def _post(self) -> None:
        if "uploads" in self.query:
            number = f"upload{next(self.server.generations)}"
            self.server.unfinished[number] = (self.bucket, self.key, self._given(), {})
            answer = f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, answer.encode())
            return
        bucket, key, headers, parts = self.server.unfinished.pop(self.query["uploadId"])
        data = b"".join(parts[int(number)] for number in PART.findall(self.body))
        stored = self.server.store(bucket, key, data, headers)
        done = f"<CompleteMultipartUploadResult><ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>"
        self._answer(200, done.encode(), self._described(stored))

    def _delete(self) -> None:
        if "uploadId" in self.query:
            self.server.unfinished.pop(self.query["uploadId"])
        elif self.server.buckets[self.bucket].pop(self.key, None) is None:
            self._refuse(404, "NoSuchKey")
            return
        self._answer(204)
