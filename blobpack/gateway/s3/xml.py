"""The answers of S3 in XML.

Source: Amazon S3 API Reference; the order of the elements is that of its examples.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from blobpack.gateway.http_range import SECONDS_MAX
from blobpack.gateway.s3.list_objects import encode_token
from blobpack.gateway.s3.request import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.gateway.blobs import ServedMember
    from blobpack.gateway.s3.errors import S3Error
    from blobpack.gateway.s3.list_objects import ListRequest, Page

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER = "<Owner><ID>blobpack</ID><DisplayName>blobpack</DisplayName></Owner>"
# What S3 itself writes for characters that XML can't hold or would change. Names with them need encoding-type=url.
SPECIAL = re.compile('[&<>"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escaped(text: str) -> str:
    """Return a text as it stands in XML. A byte that is not UTF-8 becomes U+FFFD."""
    return SPECIAL.sub(_reference, text)


def _reference(found: re.Match[str]) -> str:
    char = found[0]
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return NAMED.get(char) or f"&#x{ord(char):X};"


def element(name: str, text: str) -> str:
    """Return an element that holds a text."""
    return f"<{name}>{escaped(text)}</{name}>"


def iso_time(seconds: int) -> str:
    """Return a time as S3 writes it in XML.

    Args:
        seconds: Seconds since 1970 UTC, of which a tar's header may hold any number.
    """
    moment = time.gmtime(min(max(seconds, 0), SECONDS_MAX))
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", moment)


def error_xml(error: S3Error, resource: str, request_id: str) -> bytes:
    """Return the body of an error."""
    details = "".join(element(name, text) for name, text in error.details.items())
    return (
        f"{DECLARATION}<Error>{element('Code', error.code)}{element('Message', error.message)}{details}"
        f"{element('Resource', resource)}{element('RequestId', request_id)}</Error>"
    ).encode()


def buckets_xml(buckets: Iterable[tuple[str, int]]) -> bytes:
    """Return the body of ListBuckets.

    Args:
        buckets: Names, and times in seconds since 1970 UTC.
    """
    inner = "".join(
        f"<Bucket>{element('Name', name)}<CreationDate>{iso_time(made_s)}</CreationDate></Bucket>"
        for name, made_s in buckets
    )
    return _document("ListAllMyBucketsResult", f"{OWNER}<Buckets>{inner}</Buckets>")


def location_xml() -> bytes:
    """Return the body of GetBucketLocation. The empty location is us-east-1, where every client starts."""
    return _document("LocationConstraint", "")


def versioning_xml() -> bytes:
    """Return the body of GetBucketVersioning for a bucket that never had versions."""
    return _document("VersioningConfiguration", "")


def page_xml(
    bucket: str,
    asked: ListRequest,
    page: Page,
    members: Iterable[tuple[bytes, ServedMember, int]],
    *,
    key_prefix: bytes = b"",
) -> bytes:
    """Return the body of a page of keys.

    Args:
        bucket: Name of the bucket.
        asked: What was asked for.
        page: The page.
        members: Names, members and times of last changes, in seconds since 1970 UTC, of the page's places.
        key_prefix: What stands before each name in its key.
    """
    writer = KeyWriter(asked, key_prefix)
    parts = [element("Name", bucket), *_asked_elements(asked, writer)]
    parts.append(element("MaxKeys", str(asked.max_keys)))
    if asked.api == "2":
        parts.append(element("KeyCount", str(len(page.places) + len(page.prefixes))))
    if asked.is_url_encoded:
        parts.append(element("EncodingType", "url"))
    parts.append(element("IsTruncated", str(page.is_truncated).lower()))
    parts.extend(_next(asked, page, writer))
    parts.extend(writer.members(members))
    parts.extend(
        f"<CommonPrefixes><Prefix>{writer.key(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    )
    root = "ListVersionsResult" if asked.api == "versions" else "ListBucketResult"
    return _document(root, "".join(parts))


class KeyWriter:
    """Writes keys of one page, percent-encoded if the client asked for that."""

    def __init__(self, asked: ListRequest, key_prefix: bytes) -> None:
        self._asked, self._before = asked, key_prefix

    def text(self, key: bytes) -> str:
        """Return part of a key as it stands in XML."""
        if self._asked.is_url_encoded:
            return quoted(key)
        return escaped(key.decode("utf-8", "surrogateescape"))

    def key(self, name: bytes) -> str:
        """Return the key of a name as it stands in XML."""
        return self.text(self._before + name)

    def members(self, members: Iterable[tuple[bytes, ServedMember, int]]) -> Iterator[str]:
        """Yield an element for each member."""
        is_version = self._asked.api == "versions"
        begin, end = ("<Version>", "</Version>") if is_version else ("<Contents>", "</Contents>")
        version = "<VersionId>null</VersionId><IsLatest>true</IsLatest>" if is_version else ""
        owner = OWNER if self._asked.with_owner else ""
        for name, member, changed_s in members:
            etag = escaped(member.etag.decode())
            yield (
                f"{begin}<Key>{self.key(name)}</Key>{version}<LastModified>{iso_time(changed_s)}</LastModified>"
                f"<ETag>{etag}</ETag><Size>{member.size}</Size>{owner}<StorageClass>STANDARD</StorageClass>{end}"
            )


def _asked_elements(asked: ListRequest, writer: KeyWriter) -> Iterator[str]:
    for name, value in asked.asked.items():
        # a token is opaque, and never encoded
        encoded = value.encode("utf-8", "surrogateescape")
        text = escaped(value) if name == "ContinuationToken" else writer.text(encoded)
        yield f"<{name}>{text}</{name}>"


def _next(asked: ListRequest, page: Page, writer: KeyWriter) -> Iterator[str]:
    """Yield what leads to the next page."""
    if not page.is_truncated:
        return
    if asked.api == "2":
        yield element("NextContinuationToken", encode_token(page.last))
    elif asked.api == "versions":
        yield f"<NextKeyMarker>{writer.key(page.last)}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>"
    # without a delimiter, the marker of the next page is the last key (S3 API Reference, ListObjects, NextMarker)
    elif asked.delimiter:
        yield f"<NextMarker>{writer.key(page.last)}</NextMarker>"


def _document(root: str, inner: str) -> bytes:
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{inner}</{root}>'.encode()
