"""The open blobs of an overlay's real buckets."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import FormatError, StorageError
from blobpack.gateway.s3.buckets import Bucket
from blobpack.gateway.served.blob import ServedBlob
from blobpack.opening.open_blob import open_blob
from blobpack.stores.s3.bucket import Bucket as RealBucket, ObjectKey
from blobpack.stores.url import object_url
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.access.s3_options import S3Options

BLOB_IN_KEY = re.compile(r"\.tar(?:\.zst)?(?=/)")
# Opening a blob takes some requests, so it stays open. After this time, one request checks whether it was replaced.
RECHECKED_AFTER_S = 5.0
# each open blob maps a copy of its index; places without a blob are remembered, too
KEPT_MAX = 256
OPENED_AT_ONCE = 8
# Each place in a key costs a request to S3 until it is known, and a key has room for 170.
PLACES_MAX = 4
# what S3 answers where there is no such object: 403 if the key pair may not list the bucket
ABSENT = (403, 404)


class Place(NamedTuple):
    """A possible place of a blob.

    Attributes:
        bucket: Name of the real bucket.
        key: Key of the blob in it.
    """

    bucket: str
    key: str


@dataclass(slots=True)
class Kept:
    """The result of the last look at a place.

    Attributes:
        blob: The blob there; None if there is none.
        version: Its ETag.
        checked_s: Time of that look, by the monotonic clock.
    """

    blob: Bucket | None
    version: str
    checked_s: float


def blobs_in(bucket: str, key: str) -> Iterator[tuple[Place, str]]:
    """Yield the places of blobs that a key may lead into, the outermost first, each with the rest of the key.

    `a/out.tar/cats/1.jpg` may be the member `cats/1.jpg` of `a/out.tar`.
    """
    for found in islice(BLOB_IN_KEY.finditer(key), PLACES_MAX):
        yield Place(bucket, key[: found.end()]), key[found.end() + 1 :]


class OverlayBlobs:
    """Opens blobs in real buckets, and keeps them open. Clients that ask for one blob at the same time share its opening."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._kept: dict[Place, Kept] = {}
        self._opening: dict[Place, asyncio.Task[Bucket | None]] = {}

    async def get(self, place: Place) -> Bucket | None:
        """Return the blob at a place; None if there is none.

        Raises:
            StorageError: the object store could not be asked.
        """
        kept = self._kept.get(place)
        if kept is not None and monotonic() < kept.checked_s + RECHECKED_AFTER_S:
            return kept.blob
        task = self._opening.get(place)
        if task is None:
            task = self._opening[place] = asyncio.create_task(self._open(place, kept))
            task.add_done_callback(lambda _: self._opening.pop(place, None))
        # if a client goes away, others may still wait for the result
        return await asyncio.shield(task)

    def forget(self, place: Place) -> None:
        """Forget a blob that turned out to be replaced."""
        self._kept.pop(place, None)

    async def _open(self, place: Place, kept: Kept | None) -> Bucket | None:
        pool = shared_pool("gateway-open", OPENED_AT_ONCE)
        found = await asyncio.get_running_loop().run_in_executor(
            pool, opened_at, place, kept, self._options
        )
        self._kept.pop(place, None)
        while len(self._kept) >= KEPT_MAX:
            # the oldest one; its blob closes when its last reader has finished
            del self._kept[next(iter(self._kept))]
        self._kept[place] = found
        return found.blob


def opened_at(place: Place, kept: Kept | None, options: S3Options) -> Kept:
    """Return the current state of a place: the kept blob, if it was not replaced.

    Raises:
        StorageError: the object store could not be asked.
    """
    began_s, version = monotonic(), ""
    try:
        bucket = RealBucket(place.bucket, options=options)
        head = ObjectKey(bucket, place.key).head(what="look for a blob")
        version = head["ETag"]
        if kept is not None and kept.version == version:
            return Kept(kept.blob, version, began_s)
        blob = ServedBlob(place.key, open_blob(object_url(place.bucket, place.key), s3=options))
        changed_s = int(head["LastModified"].timestamp())
        return Kept(Bucket(place.bucket, blob, changed_s), version, began_s)
    except FormatError:
        # an object with this name that is not a tar has no members
        return Kept(None, version, began_s)
    except StorageError as exc:
        if isinstance(exc, FileNotFoundError) or exc.status in ABSENT:
            return Kept(None, "", began_s)
        raise
