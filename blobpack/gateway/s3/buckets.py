"""Blobs as buckets: their names, their keys in order, and pages of these."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from blobpack.gateway.s3.list_objects import (
    ListedKey,
    Listing,
    decode_token,
    encode_token,
    list_page,
)
from blobpack.index.name_order import NameOrder
from blobpack.stores.location import Location
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from blobpack.gateway.blobs import ServedBlob, ServedBlobs, ServedMember
    from blobpack.gateway.s3.list_objects import ListRequest

# S3's rules (User Guide, "General purpose bucket naming rules"); clients check them before they send anything
NAME_LENGTH_MIN, NAME_LENGTH_MAX = 3, 63
LISTINGS_AT_ONCE = 4


class Bucket:
    """A blob as a bucket.

    Attributes:
        name: Name of the bucket.
        blob: The blob.
        changed_s: Time of the blob's last change, in seconds since 1970 UTC; 0 if it is not known.
    """

    def __init__(self, name: str, blob: ServedBlob) -> None:
        self.name, self.blob = name, blob
        self.changed_s = changed_at(blob)
        self._order: Future[NameOrder] | None = None

    def find(self, key: str) -> ServedMember | None:
        """Return the member of a key; None if there is none."""
        return self.blob.find(key)

    def changed_of(self, member: ServedMember) -> int:
        """Return the time of a member's last change, or else that of its blob, in seconds since 1970 UTC.

        S3 knows a time of every object, and pack writes no times of members unless it is told to.
        """
        return self.changed_s if member.mtime is None else member.mtime

    async def page(self, asked: ListRequest, key_prefix: bytes = b"") -> Listing:
        """Return a page of keys.

        Args:
            asked: What was asked for; its prefix begins with key_prefix.
            key_prefix: What stands before each name in its key.

        Raises:
            S3Error: the continuation token is none of this server's.
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
            # a marker of the client's choice: before all keys, or behind all
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


def buckets_of(blobs: ServedBlobs | Iterable[ServedBlob]) -> dict[str, Bucket]:
    """Return the buckets of blobs, by name. Two blobs that would have one name get numbers: `train`, `train-2`."""
    found: dict[str, Bucket] = {}
    for blob in blobs:
        wanted = name = bucket_name(blob.name)
        number = 1
        while name in found:
            number += 1
            name = f"{wanted[: NAME_LENGTH_MAX - len(str(number)) - 1]}-{number}"
        found[name] = Bucket(name, blob)
    return found


def bucket_name(name: str) -> str:
    """Return the name of a blob as the name of a bucket: small letters, digits, "-" and ".", 3 to 63 of them."""
    kept = re.sub("[^a-z0-9.]+", "-", name.lower())
    kept = re.sub(r"[-.]*\.[-.]*", ".", kept)[:NAME_LENGTH_MAX].strip("-.")
    return kept if len(kept) >= NAME_LENGTH_MIN else f"blob-{kept}".strip("-")


def changed_at(blob: ServedBlob) -> int:
    """Return the time of the last change of a blob's file, in seconds since 1970 UTC; 0 if the blob is remote."""
    location = Location.parse(blob.reader.url, prefix=True)
    # of a remote blob, this would take a request; and a time at which this server began would change with each start,
    # upon which tools that synchronise would fetch everything again
    if not location.is_local:
        return 0
    from pathlib import Path

    try:
        return int(Path(location.path).stat().st_mtime)
    except OSError:
        return 0
