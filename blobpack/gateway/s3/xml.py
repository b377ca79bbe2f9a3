"""The answers of S3 in XML.

Source: Amazon S3 API Reference. Elements have the order of its examples.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from blobpack.gateway.http_range import SECONDS_MAX
from blobpack.gateway.s3.request import bytes_of, quoted, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.gateway.s3.errors import S3Error
    from blobpack.gateway.s3.list_objects import ListedKey, Listing, ListRequest

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
OWNER = "<Owner><ID>blobpack</ID><DisplayName>blobpack</DisplayName></Owner>"
# S3's escapes for characters that XML can't hold or would change. Names with such characters need encoding-type=url.
SPECIAL = re.compile('[&<>"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escaped(text: str) -> str:
    """Escape a text for XML. A byte that is not UTF-8 becomes U+FFFD."""
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


def listing_xml(bucket: str, asked: ListRequest, listing: Listing) -> bytes:
    """Return the body of a page of keys.

    Args:
        bucket: Name of the bucket.
        asked: What was asked for.
        listing: The page.
    """
    return _document(
        "ListVersionsResult" if asked.api == "versions" else "ListBucketResult",
        "".join(
            (
                element("Name", bucket),
                *_asked_elements(asked),
                f"<MaxKeys>{asked.max_keys}</MaxKeys>",
                f"<KeyCount>{len(listing.keys) + len(listing.prefixes)}</KeyCount>"
                if asked.api == "2"
                else "",
                "<EncodingType>url</EncodingType>" if asked.is_url_encoded else "",
                f"<IsTruncated>{str(listing.is_truncated).lower()}</IsTruncated>",
                _next(asked, listing.follow) if listing.is_truncated else "",
                *_keys(asked, listing.keys),
                *(
                    f"<CommonPrefixes><Prefix>{_key(asked, prefix)}</Prefix></CommonPrefixes>"
                    for prefix in listing.prefixes
                ),
            )
        ),
    )


def _key(asked: ListRequest, key: bytes) -> str:
    """Return a key, or a part of one, as it stands in XML: percent-encoded if the client asked for that."""
    if asked.is_url_encoded:
        return quoted(key)
    return escaped(text_of(key))


def _asked_elements(asked: ListRequest) -> Iterator[str]:
    for name, value in asked.asked.items():
        # a token is opaque, and never encoded
        is_token = name == "ContinuationToken"
        text = escaped(value) if is_token else _key(asked, bytes_of(value))
        yield f"<{name}>{text}</{name}>"


def _keys(asked: ListRequest, keys: Iterable[ListedKey]) -> Iterator[str]:
    is_version = asked.api == "versions"
    begin, end = ("<Version>", "</Version>") if is_version else ("<Contents>", "</Contents>")
    version = "<VersionId>null</VersionId><IsLatest>true</IsLatest>" if is_version else ""
    owner = OWNER if asked.with_owner else ""
    for key, etag, size, changed_s in keys:
        yield (
            f"{begin}<Key>{_key(asked, key)}</Key>{version}<LastModified>{iso_time(changed_s)}</LastModified>"
            f"<ETag>{escaped(etag)}</ETag><Size>{size}</Size>{owner}<StorageClass>STANDARD</StorageClass>{end}"
        )


def _next(asked: ListRequest, follow: bytes) -> str:
    """Return what leads to the next page."""
    if asked.api == "2":
        return element("NextContinuationToken", follow.decode())
    if asked.api == "versions":
        return f"<NextKeyMarker>{_key(asked, follow)}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>"
    # without a delimiter, the marker of the next page is the last key (S3 API Reference, ListObjects, NextMarker)
    return f"<NextMarker>{_key(asked, follow)}</NextMarker>" if asked.delimiter else ""


def _document(root: str, inner: str) -> bytes:
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{inner}</{root}>'.encode()
