"""Tasks of single images in S3, below a prefix.

Strategy: a thread goes on with the listing while the annotator works. Objects are fetched ahead, each by one GET.
"""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from typing import TYPE_CHECKING, Unpack

from blobpack.errors import BlobChangedError, BlobNotFoundError
from blobpack.index.index import Index
from blobpack.integrations.prodigy.kept_listing import KeptListing
from blobpack.integrations.prodigy.listing_ahead import ListingAhead
from blobpack.integrations.prodigy.references import S3_SCHEME, object_reference
from blobpack.integrations.prodigy.task_stream import READ_AHEAD, Image, TaskStream
from blobpack.model import (
    Member,
    check_callable,
    check_flag,
    check_several,
    check_text,
    check_texts,
    check_whole,
)
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.location import Location
from blobpack.stores.s3.bucket import Bucket
from blobpack.stores.s3.signing import Signatures
from blobpack.stores.s3.store import S3Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from blobpack.stores.access.listed import Listed
    from blobpack.stores.stats import Stats

log = logging.getLogger(__name__)


class ObjectTasks(TaskStream):
    """The tasks of objects that are not annotated yet; made by `object_tasks`.

    Attributes:
        listing: The kept listing.
    """

    def __init__(
        self,
        bucket: Bucket,
        listing: KeptListing,
        choose: Callable[[list[Listed]], list[Listed]],
        skip: Collection[str],
        *,
        shuffle: int | None,
        url: str | None,
        fields: Mapping[str, Any] | None,
        read_ahead: int,
    ) -> None:
        """Begin to list, in a thread.

        Args:
            bucket: The bucket, which counts the requests.
            listing: The objects.
            choose: Returns those objects of a page that are to be annotated.
            skip: References and keys of objects that are annotated.
            shuffle: See object_tasks.
            url: See object_tasks.
            fields: See object_tasks.
            read_ahead: See object_tasks.
        """
        super().__init__(url=url, fields=fields, read_ahead=read_ahead)
        self.listing = listing
        self._bucket = bucket
        self._signatures = Signatures()
        self._shuffle = shuffle
        self._left_out = 0
        skipped = frozenset(skip)
        self._objects = ListingAhead(
            listing.pages(),
            choose,
            lambda key: key in skipped or object_reference(bucket.name, key) in skipped,
        )

    @property
    def annotated(self) -> int:
        """Number of chosen objects, of those listed so far, that were annotated before. They are never fetched."""
        return self._objects.annotated

    @property
    def total(self) -> int | None:
        """Number of chosen objects, annotated or not; None while the listing goes on."""
        chosen = self._objects.chosen
        return None if chosen is None else chosen - self._left_out

    @property
    def stats(self) -> Stats:
        """Requests made so far, and what they cost."""
        return self._bucket.counters.snapshot()

    def close(self) -> None:
        """Stop reading ahead, and listing. Closing twice is harmless."""
        self._objects.close()
        super().close()

    def _listed(self) -> Iterable[Listed]:
        """Return the objects as they are listed; or shuffled, when all are listed."""
        if self._shuffle is None:
            return self._objects
        return sorted(self._objects, key=self._shuffled_place)

    def _shuffled_place(self, listed: Listed) -> bytes:
        # A hash and not random.shuffle: objects that are added later don't change the order of the others.
        return hashlib.sha256(
            f"{self._shuffle}\0{listed.key}".encode("utf-8", "surrogateescape")
        ).digest()

    @property
    def _group_most(self) -> int:
        return 1

    def _groups(self) -> Iterator[list[Image]]:
        for listed in self._listed():
            reference = object_reference(self._bucket.name, listed.key)
            yield [Image(listed.key, reference, None, listed)]

    def _read(self, group: Sequence[Image]) -> list[bytes | None]:
        return [self._read_object(image.place) for image in group]

    def _read_object(self, listed: Listed) -> bytes | None:
        bucket = self._bucket
        location = Location.in_s3(bucket.name, listed.key, Access(bucket.options))
        try:
            with S3Store(
                location,
                size=listed.size,
                version=listed.version,
                signatures=self._signatures,
                counters=bucket.counters,
            ) as store:
                return store.read_range(0, listed.size)
        # a listing may be weeks old
        except BlobNotFoundError:
            return None
        except BlobChangedError:
            with S3Store(location, counters=bucket.counters) as store:
                return store.read_range(0, store.size)

    def _leave_out(self, image: Image) -> None:
        log.warning("%s is gone, or is no image: left out", image.reference)
        self._left_out += 1


@with_remote_options
def object_tasks(
    bucket: str,
    prefix: str = "",
    *,
    skip: Collection[str] = (),
    globs: str | Iterable[str] = (),
    where: Callable[[Member], object] | None = None,
    shuffle: int | None = None,
    url: str | None = None,
    listing: str | os.PathLike[str] | None = None,
    relist: bool = False,
    fields: Mapping[str, Any] | None = None,
    read_ahead: int = READ_AHEAD,
    **remote: Unpack[RemoteOptions],
) -> ObjectTasks:
    """Return the tasks of the images below a prefix in S3, as an iterator that fetches them when they are needed.

    Each task has `image`, `path`, `meta.key`, `_input_hash` and `_task_hash`. The hashes are made of the reference
    `s3://bucket/key`. Objects whose suffix means something else than an image are not fetched. Those that prove to be no
    images, or are gone, are left out with a warning in the log.

    The listing is kept in a file, and the next call asks only for keys behind its last one.

    Args:
        bucket: Name of the bucket.
        prefix: How the keys begin.
        skip: References and keys of objects that are annotated, from `annotated`. They are never fetched.
        globs: One or several globs; at least one must match the whole key. None given: all keys.
        where: Function that is called with a Member, with the object's key as its name, and its size; returns true to keep
            it.
        shuffle: Seed of a random order; the first task then waits for the whole listing. None for the order of the keys.
        url: URL of the bucket at a web server, with which the keys make URLs. Then `image` is that URL, and no image is
            fetched.
        listing: The file that keeps the listing; None: a file in the user's cache folder.
        relist: List from the start, to find new objects whose keys sort before the last one that was listed.
        fields: More fields of each task, such as `label` or `options`.
        read_ahead: Number of images to fetch ahead.
        remote: How S3 is reached: see RemoteOptions.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the bucket is no name of a bucket, the URL is not an http(s):// URL, or read_ahead is less than 1.
        FormatError: the file is not the listing of this prefix.
        StorageError: S3 refused or could not be reached, or the file can't be written; raised where a task is asked for, if
            not at once.
    """
    access = Access.of("object_tasks", remote)
    check_text("bucket", bucket)
    check_text("prefix", prefix)
    bucket = bucket.removeprefix(S3_SCHEME).rstrip("/")
    if not bucket or "/" in bucket:
        raise ValueError(
            f"bucket must be the name of a bucket, not {bucket!r}; a prefix stands beside it"
        )
    check_several("skip", skip, "references and keys")
    patterns = check_texts("globs", globs)
    check_callable("where", where)
    check_flag("relist", relist)
    if shuffle is not None:
        check_whole("shuffle", shuffle)

    def choose(page: list[Listed]) -> list[Listed]:
        images = [listed for listed in page if _may_be_image(listed)]
        if not patterns and where is None:
            return images
        members = Index(Member(listed.key, 0, listed.size) for listed in images)
        passed = {member.name for member in members.select(*patterns, where=where)}
        return [listed for listed in images if listed.key in passed]

    place = Bucket(bucket, options=access.s3)
    return ObjectTasks(
        place,
        KeptListing(place, prefix, listing, relist=relist),
        choose,
        skip,
        shuffle=shuffle,
        url=url,
        fields=fields,
        read_ahead=read_ahead,
    )


def _may_be_image(listed: Listed) -> bool:
    """Return whether the suffix of a key leaves it open, or says, that the object is an image."""
    # consoles make empty objects with "/" at their end for "new folder"
    if not listed.size or listed.key.endswith("/"):
        return False
    guessed, compression = mimetypes.guess_type(listed.key)
    return compression is None and (guessed is None or guessed.startswith("image/"))
