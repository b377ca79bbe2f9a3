"""The response to one request, and the meaning of its status and headers."""

from __future__ import annotations

import re
from typing import NamedTuple

from blobpack.errors import BlobChangedError, BlobNotFoundError
from blobpack.wording import counted

# The headers that a ranged GET needs. One pass of a regular expression finds them; other headers are never decoded.
HEADERS = re.compile(
    rb"\r\n(content-length|content-range|content-type|etag|connection|transfer-encoding|last-modified|location"
    rb"|x-amz-request-id|accept-ranges|retry-after):[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)

# in place of the id of a request, which a server did not send
NO_ID = "?"
# 200 is among them: a cache on the way may have ignored Range, and another attempt may reach the server.
TRANSIENT = (200, 408, 425, 429, 500, 502, 503, 504)
# 412 means that If-Match or If-Unmodified-Since failed. 416 means that the blob is shorter now: the range was inside it
# when it was opened.
GONE = {
    404: BlobNotFoundError,
    410: BlobNotFoundError,
    412: BlobChangedError,
    416: BlobChangedError,
}
CONTENT_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)")
# This is searched for in a head in lower case, because the options in this header are case-insensitive (RFC 9110, 7.6.1).
CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*\bclose\b")
# Two elements of the XML that describes an S3 error. They are searched for, not parsed: the body may be cut, and if it
# was sent in chunks, the sizes of the chunks are still in it.
ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
# Codes of errors after which one more request may succeed, with fresh credentials or a new signature. A single answer
# may also come from a server whose clock is wrong. Source: Amazon S3, "Error responses".
EXPIRED_CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
)
# S3 answers an expired presigned URL with the code AccessDenied and this message.
EXPIRED_MESSAGE = "request has expired"
# Stands for headers that were compared with the expected lines and not parsed. Compared by identity.
AS_EXPECTED: dict[bytes, bytes] = {}


class Response(NamedTuple):
    """The response to one request.

    Attributes:
        status: HTTP status.
        headers: The headers that HEADERS lists, by lower-case name.
        body: The whole body if it has the expected length; the beginning of the body if the status is an error;
            otherwise empty.
        connect_s: Seconds that connecting took for this request; 0 if the connection was open already.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    connect_s: float = 0.0

    @property
    def request_id(self) -> str:
        """The id under which the server logged the request; NO_ID if the server sent none."""
        found = self.headers.get(b"x-amz-request-id")
        return NO_ID if found is None else found.decode("latin-1")

    @property
    def has_range(self) -> bool:
        """True if the body is a range: also by status 200, as rclone's server sends it, with its Content-Range."""
        return self.status == 206 or (self.status == 200 and b"content-range" in self.headers)

    @property
    def is_empty(self) -> bool:
        """True if the blob has no bytes, as the 200 that answers a GET or a HEAD says."""
        return self.status == 200 and self.headers.get(b"content-length") == b"0"

    @property
    def etag(self) -> str:
        """The ETag; "" if the server sent none."""
        return self.headers.get(b"etag", b"").decode("latin-1")

    @property
    def is_web_page(self) -> bool:
        """True if the server says that it sends a web page."""
        return self.headers.get(b"content-type", b"").startswith(b"text/html")

    @property
    def error(self) -> tuple[str, str]:
        """Code and message of an error of S3; "" for each that the body does not have."""
        found = ERROR_CODE.search(self.body)
        code, message = found.groups(b"") if found else (b"", b"")
        return code.decode("utf-8", "replace"), message.decode("utf-8", "replace")

    @property
    def retry_after_s(self) -> float:
        """Seconds from Retry-After; 0 if the header is missing or holds a date (RFC 9110, 10.2.3, allows both)."""
        seconds = self.headers.get(b"retry-after", b"").strip()
        return float(seconds) if seconds.isdigit() else 0.0


def parse_headers(head: bytes) -> dict[bytes, bytes]:
    """Parse the headers that HEADERS lists from the head of a response."""
    return {name.lower(): value for name, value in HEADERS.findall(head)}


def closes_after(head: bytes) -> bool:
    """Return whether the server closes the connection after the response with this head."""
    lowered = head.lower()
    # Most heads do not hold the word. This test is faster than a search for the expression.
    return b"close" in lowered and CLOSES.search(lowered) is not None


def says_expired(code: str, message: str) -> bool:
    """Return whether an error of S3 says that credentials or a signature have expired, or that the clocks differ."""
    return code in EXPIRED_CODES or EXPIRED_MESSAGE in message.lower()


def describe_attempts(attempts: int, request_id: str) -> str:
    """Return the end of an error message: the number of attempts, and the id of the last request."""
    count = f"after {counted(attempts, 'attempt')}"
    return count if request_id == NO_ID else f"{count}, request {request_id}"


def describe_error(response: Response) -> str:
    """Describe why a response is not what was asked for: S3's error code and message, or else the HTTP status."""
    if response.status == 200 and response.is_web_page:
        return "the server answered with a web page"
    if response.status == 200:
        length = response.headers.get(b"content-length", b"an unknown number of").decode("latin-1")
        return f"all {length} bytes came instead of a range: the server ignored the Range header"
    return ": ".join(filter(None, response.error)) or f"HTTP status {response.status}"
