"""Parts that all answers share: header fields, errors as JSON, and media types by suffix.

Source: RFC 9110 (HTTP), RFC 9457 (problem details), the Fetch standard (CORS, CORP, nosniff), RFC 6266 and 8187
(Content-Disposition).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from http import HTTPStatus
from mimetypes import MimeTypes
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blobpack.errors import (
    BlobChangedError,
    BlobNotFoundError,
    BlobpackError,
    FormatError,
    StorageError,
)
from blobpack.gateway.payloads import BusyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    Fields = list[tuple[bytes, bytes]]
    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

# Sent even if a request has no Origin: otherwise, a cache that ignores Vary would send an answer without them to a page
# of another origin. No cookies are used, so with "*" a page can read only what its URL or token already allows.
CORS: Fields = [
    (b"access-control-allow-origin", b"*"),
    # Content-Length, Content-Type and Last-Modified are readable anyway (Fetch, "CORS-safelisted response-header name")
    (b"access-control-expose-headers", b"ETag, Content-Range, Accept-Ranges"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]
NOSNIFF = (b"x-content-type-options", b"nosniff")
# a preflight is asked again after a day; browsers cap it at 2 hours or a day
PREFLIGHT: Fields = [
    *CORS,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Authorization, Range, If-Match, If-None-Match, If-Range, If-Modified-Since, If-Unmodified-Since",
    ),
    (b"access-control-max-age", b"86400"),
]
# A script in an SVG or an HTML page would run with the rights of this server's origin, and could read its gallery.
SANDBOX = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
)
# of these, a browser runs nothing, unless they are XML (WHATWG, MIME Sniffing, "XML MIME type")
HARMLESS = frozenset(("image", "audio", "video", "font"))
HARMLESS_TYPES = frozenset(
    ("application/octet-stream", "application/json", "application/pdf", "text/plain", "text/csv")
)
# Of several media types with commas between them, a browser takes the last one (Fetch, "extract a MIME type").
ONE_MEDIA_TYPE = re.compile(r"(([a-z]+)/[a-z0-9.-]+)[ \t]*(?:;[^,]*)?", re.IGNORECASE)
OCTETS = "application/octet-stream"
# 0: there was no answer
ASKED_TO_WAIT = (0, 429, 500, 502, 503, 504)
PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")
PROBLEM_JSON = b"application/problem+json"

# the defaults of Python, and not those of this machine: answers must not depend on the machine
_types = MimeTypes().types_map
TYPE_OF_SUFFIX = {
    **_types[0],
    **_types[1],
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jxl": "image/jxl",
    ".jp2": "image/jp2",
    ".webp": "image/webp",
}


class AnswerError(Exception):
    """A request is answered with an error.

    Attributes:
        status: The status of the answer.
        detail: The reason.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def media_type_of(name: str) -> str:
    """Return the media type for the suffix of a name."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return TYPE_OF_SUFFIX.get(f".{suffix.lower()}", OCTETS) if dot else OCTETS


@lru_cache(maxsize=256)
def type_fields(media_type: str) -> Fields:
    """Return the fields for a payload's media type. They stop browsers from running scripts in the payload."""
    fields: Fields = [(b"content-type", media_type.encode()), NOSNIFF]
    found = ONE_MEDIA_TYPE.fullmatch(media_type)
    if not found or not (found[2].lower() in HARMLESS or found[1].lower() in HARMLESS_TYPES):
        fields.append(SANDBOX)
    return fields


def disposition_of(name: str) -> bytes:
    """Return the Content-Disposition of a member: shown in the browser, and saved under the last part of its name."""
    base = name.rpartition("/")[2]
    # most names need no encoding, and this is done for each image
    if base.isascii() and PLAIN_NAME.fullmatch(base):
        return b"inline; filename*=UTF-8''" + base.encode()
    # RFC 8187 knows UTF-8 only, and a name may hold other bytes
    shown = base.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return b"inline; filename*=UTF-8''" + quote(shown, safe="").encode()


def problem(status: int, detail: str, **more: object) -> bytes:
    """Return the body of an error: a JSON object with type, title, status and detail (RFC 9457)."""
    title = HTTPStatus(status).phrase
    return json.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    ).encode()


# One body for members that don't exist and members that a token does not cover. Otherwise a client could find out which
# members exist.
NOT_FOUND = problem(404, "There is no such member here, or the token does not cover it.")
UNAUTHORIZED = problem(401, "This server asks for a token: /k/<token>/… or Authorization: Bearer.")
CHALLENGE = (b"www-authenticate", b'Bearer realm="blobpack"')


async def send_whole(
    send: Send, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes = b""
) -> None:
    """Send an answer whose body is in memory; its Content-Length is among the fields."""
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_problem(
    send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send an error with the fields that pages of other origins need to read it."""
    fields = [
        *CORS,
        NOSNIFF,
        (b"content-type", PROBLEM_JSON),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *more,
    ]
    await send_whole(send, status, fields, body)


def status_of(error: BlobpackError) -> tuple[int, str]:
    """Return the status and a sentence for an error of a read. The sentence shows no path or URL of the server."""
    if isinstance(error, (BlobChangedError, BlobNotFoundError)):
        return 409, "The blob has changed since this server opened it, so nothing is read from it."
    if isinstance(error, BusyError):
        return 503, f"The server is busy: {error}."
    if isinstance(error, FormatError):
        return 503, "The bytes of this member are not those that the blob's index was made from."
    status = error.status if isinstance(error, StorageError) else 0
    if status in ASKED_TO_WAIT:
        return 503, "The store of this blob does not answer, or asks for fewer requests."
    return 502, f"The store of this blob refused the request with status {status}."


async def send_error(send: Send, error: BlobpackError, where: str) -> int:
    """Send the answer to a read that failed, and return its status.

    Args:
        send: Sends the answer.
        error: What failed.
        where: `blob/member`, as the client named it.
    """
    status, detail = status_of(error)
    body = problem(status, detail, member=where)
    more = ((b"retry-after", b"1"),) if status == 503 else ()
    await send_problem(send, status, body, more)
    return status
