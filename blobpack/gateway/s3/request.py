"""A request to the S3 face, path style, parsed once: method, bucket, key, query and headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from blobpack.gateway.app import raw_path_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# the unreserved characters of RFC 3986 beside letters and digits: SigV4 leaves them unquoted
UNRESERVED = "-._~"


@dataclass(frozen=True, slots=True)
class S3Request:
    """A request.

    Attributes:
        method: The method, in capital letters.
        raw_path: The path as it was sent, percent-encoded.
        bucket: Name of the bucket; "" if the path names none. As in all texts here, surrogates stand for bytes that are
            not UTF-8 (PEP 383).
        key: The key; "" if the path names none.
        query: Names and values, decoded, in the order sent.
        headers: Names in lower case, and values, in the order sent.
    """

    method: str
    raw_path: bytes
    bucket: str
    key: str
    query: tuple[tuple[bytes, bytes], ...]
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of_scope(cls, scope: MutableMapping[str, Any]) -> S3Request:
        """Parse the scope of an ASGI server."""
        # The whole path is signed, and the part below the place where this application is mounted names the object.
        raw_path = scope.get("raw_path") or quoted(scope["path"].encode()).encode()
        path = unquote_to_bytes(raw_path_of(scope))
        bucket, _, key = path.removeprefix(b"/").partition(b"/")
        return cls(
            scope["method"].upper(),
            raw_path,
            text_of(bucket),
            text_of(key),
            tuple(_pairs(scope.get("query_string", b""))),
            tuple((name.lower(), value) for name, value in scope["headers"]),
        )

    def param(self, name: str) -> str | None:
        """Return the first value of a query parameter; None if it is not there."""
        wanted = name.encode()
        for found, value in self.query:
            if found == wanted:
                return text_of(value)
        return None

    def header(self, name: bytes) -> bytes | None:
        """Return the values of a header, joined by commas as SigV4 joins them; None if it is not there."""
        values = [b" ".join(value.split()) for found, value in self.headers if found == name]
        return b",".join(values) if values else None


def text_of(value: bytes) -> str:
    """Decode bytes without loss: bytes that are not UTF-8 become surrogates."""
    return value.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Encode a text: the opposite of text_of."""
    return text.encode("utf-8", "surrogateescape")


def quoted(value: bytes, safe: str = "/") -> str:
    """Percent-encode as SigV4 does (AWS, "Create a signed AWS API request", UriEncode).

    Args:
        value: Bytes.
        safe: Further characters that stay as they are; "" in queries, "/" in paths.
    """
    return quote_from_bytes(value, UNRESERVED + safe)


def _pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    """Decode a query. As in S3, both "+" and %20 mean a space."""
    # not parse_qsl: it would replace bytes that are not UTF-8, and such names of members exist
    pairs = (part.partition(b"=") for part in query.replace(b"+", b"%20").split(b"&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]
