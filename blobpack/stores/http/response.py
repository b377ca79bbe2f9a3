"""What servers answered, and how it is told: the answer to a GET, and what its status means."""

from __future__ import annotations

import re
from typing import NamedTuple

from blobpack.errors import BlobChangedError, BlobNotFoundError

HEADERS = re.compile(
    rb"\r\n(content-length|content-range|etag|connection|transfer-encoding|last-modified|location"
    rb"|x-amz-request-id|accept-ranges|retry-after):[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)

TRANSIENT = (200, 408, 425, 429, 500, 502, 503, 504)  # 200: a cache that ignored the range
GONE = {
    404: BlobNotFoundError,
    410: BlobNotFoundError,
    412: BlobChangedError,
    416: BlobChangedError,
}
CONTENT_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)")
ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
AS_EXPECTED: dict[bytes, bytes] = {}  # stands for headers that were as expected


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        status: HTTP's.
        headers: Those we know, by their names in lower case.
        body: Whole if it had the length wanted; of an error, its beginning; else empty.
        connect_s: How long connecting for it took; 0 by a connection that was kept.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    connect_s: float = 0.0

    @property
    def request(self) -> str:
        """The server's name for the request."""
        return self.headers.get(b"x-amz-request-id", b"?").decode("latin-1")

    @property
    def retry_after_s(self) -> float:
        """How long the server asks to be left alone; 0 if it does not say, or says it by a date."""
        said = self.headers.get(b"retry-after", b"").strip()
        return float(said) if said.isdigit() else 0.0


def headers_of(head: bytes) -> dict[bytes, bytes]:
    """Find the headers that we know in the head of an answer."""
    return {name.lower(): value for name, value in HEADERS.findall(head)}


def after(attempts: int, request: str) -> str:
    """Say how often it was tried, and the server's name for the last request."""
    return f"after {attempts} attempt{'s' * (attempts > 1)}, request {request}"


def described(answer: Answer) -> str:
    """Say what a refusal says of itself: S3's code and message, or its status; of a 200, what came."""
    if answer.status == 200:
        length = answer.headers.get(b"content-length", b"an unknown number of").decode("latin-1")
        return f"all {length} bytes came instead of a range: the server ignored it"
    code = ERROR_CODE.search(answer.body)
    if code is None:
        return f"HTTP status {answer.status}"
    said = [part.decode("utf-8", "replace") for part in code.groups() if part]
    return ": ".join(said)
