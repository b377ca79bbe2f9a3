"""Pages of a bucket's keys: what a request for a page asks for, and which members and common prefixes are on it.

Strategy: a page is found by binary search in the order of the names, and only its own names are looked at. Behind a
common prefix, the search goes on at the first name that does not begin with it. So a page of folders of a million
members takes as long as one of a hundred.

Source: Amazon S3 API Reference, ListObjects and ListObjectsV2.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, NamedTuple

from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.request import bytes_of

if TYPE_CHECKING:
    from blobpack.gateway.s3.request import S3Request
    from blobpack.index.name_order import NameOrder

# S3's own limit
KEYS_MAX = 1000
TOKEN_BEGIN = b"after:"


class ListRequest(NamedTuple):
    """A request for a page.

    Attributes:
        api: "1" for ListObjects, "2" for ListObjectsV2, "versions" for ListObjectVersions.
        prefix: What the keys begin with, as bytes, like all parts of keys here.
        delimiter: Text that ends a common prefix; empty: no common prefixes.
        marker: The page begins behind this key or common prefix; empty for the first page.
        token: What to use in place of the marker, if it is not None: the last page's NextContinuationToken.
        max_keys: Number of keys and common prefixes on the page, 0 to 1000.
        asked: The parameters that the answer repeats, by the names of their elements, in S3's order.
        is_url_encoded: Whether the answer percent-encodes keys, since XML can't hold all of them.
        with_owner: Whether the answer names the owner of each key.
    """

    api: str
    prefix: bytes
    delimiter: bytes
    marker: bytes
    token: str | None
    max_keys: int
    asked: dict[str, str]
    is_url_encoded: bool
    with_owner: bool


class ListedKey(NamedTuple):
    """A key in a listing.

    Attributes:
        key: The key.
        etag: Its entity tag, with quotes.
        size: Size in bytes.
        changed_s: Time of its last change, in seconds since 1970 UTC.
    """

    key: bytes
    etag: str
    size: int
    changed_s: int


class Listing(NamedTuple):
    """A page as it is answered.

    Attributes:
        keys: The keys.
        prefixes: The common prefixes.
        follow: Where the next page begins: a token for ListObjectsV2, else a key or common prefix; empty if there is no
            next page.
        is_truncated: Whether there is a next page.
    """

    keys: list[ListedKey]
    prefixes: list[bytes]
    follow: bytes
    is_truncated: bool


class Page(NamedTuple):
    """A page, as places in the order of a blob's names.

    Attributes:
        places: Places in the order of the members whose names are on it.
        prefixes: The common prefixes. Each of them replaces all names that begin with it.
        last: The last name or common prefix; the next page begins behind it.
        is_truncated: Whether there is a next page.
    """

    places: list[int]
    prefixes: list[bytes]
    last: bytes
    is_truncated: bool


def list_request(request: S3Request) -> ListRequest:
    """Parse a request for a page.

    Raises:
        S3Error: a parameter is malformed.
    """
    api = "2" if request.param("list-type") == "2" else "1"
    if request.param("versions") is not None:
        api = "versions"
    encoding = request.param("encoding-type")
    if encoding not in (None, "", "url"):
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    marker = {"1": "marker", "2": "start-after", "versions": "key-marker"}[api]
    token = request.param("continuation-token") if api == "2" else None
    asked = {"Prefix": request.param("prefix") or ""}
    for name, element in (
        ("delimiter", "Delimiter"),
        (marker, {"1": "Marker", "2": "StartAfter", "versions": "KeyMarker"}[api]),
    ):
        value = request.param(name)
        # ListObjects and ListObjectVersions always name their markers
        if value or element in ("Marker", "KeyMarker"):
            asked[element] = value or ""
    if token is not None:
        asked["ContinuationToken"] = token
    return ListRequest(
        api,
        bytes_of(asked["Prefix"]),
        bytes_of(request.param("delimiter") or ""),
        bytes_of(request.param(marker) or ""),
        token,
        _max_keys(request.param("max-keys")),
        asked,
        encoding == "url",
        api != "2" or request.param("fetch-owner") == "true",
    )


def _max_keys(value: str | None) -> int:
    if not value:
        return KEYS_MAX
    if not re.fullmatch("[0-9]{1,10}", value):
        raise S3Error(
            "InvalidArgument",
            "Provided max-keys not an integer or within integer range",
            ArgumentName="max-keys",
            ArgumentValue=value,
        )
    return min(int(value), KEYS_MAX)


def encode_token(last: bytes) -> bytes:
    """Return the continuation token of the page that begins behind a key or common prefix."""
    return base64.urlsafe_b64encode(TOKEN_BEGIN + last)


def decode_token(token: str) -> bytes:
    """Return the key or common prefix of a continuation token.

    Raises:
        S3Error: this is not such a token.
    """
    try:
        found = base64.b64decode(token.encode("utf-8", "replace"), b"-_", validate=True)
    except binascii.Error:
        found = b""
    if not found.startswith(TOKEN_BEGIN):
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        )
    return found.removeprefix(TOKEN_BEGIN)


def list_page(
    order: NameOrder, prefix: bytes, delimiter: bytes, after: bytes, max_keys: int
) -> Page:
    """Find the members and common prefixes of a page.

    Args:
        order: The order of the names.
        prefix: What the names begin with.
        delimiter: What ends a common prefix; empty if there are none.
        after: The page begins behind this name or common prefix; empty for the first page.
        max_keys: Number of names and common prefixes on the page.
    """
    places: list[int] = []
    prefixes: list[bytes] = []
    place, last = _first_place(order, prefix, delimiter, after), b""
    while place < len(order) and (name := order[place]).startswith(prefix):
        if len(places) + len(prefixes) >= max_keys:
            return Page(places, prefixes, last, is_truncated=max_keys > 0)
        common = _rolled_up(name, prefix, delimiter)
        last = common or name
        if common:
            prefixes.append(common)
            place = _first_past(order, common, place)
        else:
            places.append(place)
            place += 1
    return Page(places, prefixes, last, is_truncated=False)


def _first_place(order: NameOrder, prefix: bytes, delimiter: bytes, after: bytes) -> int:
    if not after or after < prefix:
        return order.first_from(prefix)
    # The last page ended with a common prefix, so the names that begin with this prefix are skipped.
    if after.startswith(prefix) and _rolled_up(after, prefix, delimiter) == after:
        return _first_past(order, after, 0)
    # no name lies between a name and this one
    return order.first_from(after + b"\0")


def _rolled_up(name: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """Return the common prefix that replaces a name; empty if none does."""
    cut = name.find(delimiter, len(prefix)) if delimiter else -1
    return name[: cut + len(delimiter)] if cut >= 0 else b""


def _first_past(order: NameOrder, prefix: bytes, low: int) -> int:
    """Return the first place from `low` on whose name is above all names that begin with a prefix."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return len(order)
    return order.first_from(stem[:-1] + bytes((stem[-1] + 1,)), low)
