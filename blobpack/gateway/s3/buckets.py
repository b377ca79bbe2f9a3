"""Blobs as buckets: their names, their keys in order, and pages of these."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.gateway.s3.list_objects import (
    ListedKey,
    Listing,
    decode_token,
    encode_token,
    list_page,
)
from blobpack.index.name_order import NameOrder
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from blobpack.gateway.s3.list_objects import ListRequest
    from blobpack.gateway.served.blob import ServedBlob, ServedMember
    from blobpack.stores.location import Location

# S3's rules (User Guide, "General purpose bucket naming rules"); clients check names before they send a request
NAME_LENGTH_MIN, NAME_LENGTH_MAX = 3, 63
LISTINGS_AT_ONCE = 4


class Bucket:
    """A blob as a bucket.

    Attributes:
        name: Name of the bucket.
        blob: The blob.
        changed_s: Time of the blob's last change, in seconds since 1970 UTC; 0 if it is not known.
    """

    def __init__(self, name: str, blob: ServedBlob, changed_s: int) -> None:
        self.name, self.blob, self.changed_s = name, blob, changed_s
        self._order: Future[NameOrder] | None = None

    def find(self, key: str) -> ServedMember | None:
        """Return the member of a key; None if there is none."""
        return self.blob.find(key)

    def changed_of(self, member: ServedMember) -> int:
        """Return the time of a member's last change, or else that of its blob, in seconds since 1970 UTC.

        In S3, every object has such a time, but `pack` writes times of members only with --keep-mtime.
        """
        return self.changed_s if member.mtime is None else member.mtime

    async def page(self, asked: ListRequest, key_prefix: bytes = b"") -> Listing:
        """Return a page of keys.

        Args:
            asked: What was asked for; its prefix begins with key_prefix.
            key_prefix: Prefix that is added to each name to make its key.

        Raises:
            S3Error: the continuation token is not one of this server.
        """
        pool = shared_pool("gateway-list", LISTINGS_AT_ONCE)
        if self._order is None:
            self._order = pool.submit(NameOrder, self.blob.index)
        order = await asyncio.shield(asyncio.wrap_future(self._order))
        # a page takes some milliseconds, in which the event loop could answer a hundred requests
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, self._page, order, asked, key_prefix)

    def _page(self, order: NameOrder, asked: ListRequest, key_prefix: bytes) -> Listing:
        after = asked.marker if asked.token is None else decode_token(asked.token)
        if not after.startswith(key_prefix):
            # the client may choose any marker: it may lie before all keys, or behind all keys
            if after > key_prefix:
                return Listing([], [], b"", is_truncated=False)
            after = key_prefix
        page = list_page(
            order,
            asked.prefix[len(key_prefix) :],
            asked.delimiter,
            after[len(key_prefix) :],
            asked.max_keys,
        )
        last = key_prefix + page.last
        return Listing(
            [self._listed(order, place, key_prefix) for place in page.places],
            [key_prefix + prefix for prefix in page.prefixes],
            encode_token(last) if asked.api == "2" else last,
            page.is_truncated,
        )

    def _listed(self, order: NameOrder, place: int, key_prefix: bytes) -> ListedKey:
        member = self.blob.at(order.row_at(place))
        key = key_prefix + order[place]
        return ListedKey(key, member.etag.decode(), member.size, self.changed_of(member))


def buckets_of(blobs: Iterable[ServedBlob]) -> dict[str, Bucket]:
    """Return the buckets of blobs, by name."""
    return {
        name: Bucket(name, blob, changed_at(blob)) for name, blob in blobs_by_bucket(blobs).items()
    }


def blobs_by_bucket(blobs: Iterable[ServedBlob]) -> dict[str, ServedBlob]:
    """Return blobs by the names of their buckets. If two would have one name, the second gets a number: `train-2`."""
    found: dict[str, ServedBlob] = {}
    for blob in blobs:
        wanted = name = bucket_name(blob.name)
        number = 1
        while name in found:
            number += 1
            name = f"{wanted[: NAME_LENGTH_MAX - len(str(number)) - 1]}-{number}"
        found[name] = blob
    return found


def bucket_name(name: str) -> str:
    """Return the name of a blob as the name of a bucket: 3 to 63 lower-case letters, digits, "-" and "."."""
    kept = re.sub("[^a-z0-9.]+", "-", name.lower())
    kept = re.sub(r"[-.]*\.[-.]*", ".", kept)[:NAME_LENGTH_MAX].strip("-.")
    return kept if len(kept) >= NAME_LENGTH_MIN else f"blob-{kept}".strip("-")


def changed_at(blob: ServedBlob) -> int:
    """Return the time of the last change of a blob's file or object, in seconds since 1970 UTC; 0 if it is not known.

    0, and not the time of this server's start: after each start, tools that synchronise would fetch everything again.
    """
    location = blob.reader._location
    if location is None:
        return 0
    try:
        if location.is_local:
            return int(Path(location.path).stat().st_mtime)
        # a prefix of blobs is no object
        if location.is_s3 and location.key and not location.key.endswith("/"):
            return changed_in_s3(location)
    except OSError:
        return 0
    return 0


def changed_in_s3(location: Location) -> int:
    """Return the time of an object's last change, in seconds since 1970 UTC.

    Raises:
        StorageError: S3 refused the request, or could not be reached.
    """
    # imported here: it loads boto3, which takes a second
    from blobpack.stores.s3.bucket import ObjectKey

    head = ObjectKey.at(location).head(what="look for the time of its last change")
    return int(head["LastModified"].timestamp())
