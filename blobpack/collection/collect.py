"""Blobs → a collection: one index of all their members, beside them, that also says in which blob each is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.collection.collection import COLLECTION_NAME, collection_of
from blobpack.collection.join import Joining
from blobpack.collection.list_blobs import has_glob, list_blobs
from blobpack.errors import StorageError
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.model import (
    Duplicates,
    check_callable,
    check_choice,
    check_flag,
    check_several,
)
from blobpack.stores.location import Location, location_of, output_location
from blobpack.stores.output import replacing, writing
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.model import ProgressCallback

COPY_BYTES = 8 << 20


def collect(
    blobs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str] | None = None,
    *,
    duplicates: Duplicates = "refuse",
    scan: bool = False,
    progress: ProgressCallback | None = None,
) -> CollectReport:
    """Make one collection of many blobs, in which any name is found without opening them.

    The collection appears whole or not at all, and replaces one that is there. It says where its blobs lie from
    its own folder, so both can be moved together; blobs elsewhere by their whole path or URL. Blobs that are
    added later are not in it until it is made anew.

    Args:
        blobs: A folder, or a prefix that ends with "/", of which all .tar, .tar.zst and .tzst are taken; a glob,
            whose `*` stays within a folder and whose `**` does not; or blobs one by one, taken in their order.
        target: Where to: a path or an s3:// URL; None for `collection.idx` in that folder.
        duplicates: What to do when two blobs have one name: "refuse", or let the member of the "last" blob be found.
        scan: Scan blobs that have no index.
        progress: progress(blobs, members), called after each blob.

    Returns:
        What was collected.

    Raises:
        BlobNotFoundError: there are no blobs.
        DuplicateNameError: two blobs have one name; both are said.
        StaleIndexError: a blob's index is not of the blob as it is now.
        StorageError: a blob has no index, can't be read or changed meanwhile; or the target can't be written, or
            is no collection.
        FormatError: a blob or its index is damaged.
        TypeError: an argument has another type.
        ValueError: a choice that there is not; the blobs are given one by one, and the target is not; or the target
            is neither local nor in S3.
    """
    check_choice("duplicates", duplicates, Duplicates)
    check_flag("scan", scan)
    check_callable("progress", progress)
    given = None if target is None else output_location("target", target)
    began = time.perf_counter()
    found, location = _located(blobs, given)
    check_collection_target(location)
    joining = Joining(found, location.folder, duplicates=duplicates, scan=scan, progress=progress)
    collection_bytes = _write(joining, location)
    return CollectReport(
        url=location.text,
        blobs=len(found),
        members=joining.shards[-1].row_end if joining.shards else 0,
        payload_bytes=sum(shard.payload_bytes for shard in joining.shards),
        collection_bytes=collection_bytes,
        seconds=time.perf_counter() - began,
    )


def _located(
    blobs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: Location | None,
) -> tuple[list[Location], Location]:
    """Return where the blobs lie, and where their collection goes."""
    if isinstance(blobs, (str, os.PathLike)):
        place = location_of("blobs", blobs, prefix=True)
        return list_blobs(place), _beside(place) if target is None else target
    check_several("blobs", blobs, "paths or URLs")
    if target is None:
        raise ValueError("target must be given where blobs are given one by one")
    return [location_of("blobs", blob) for blob in blobs], target


def _write(joining: Joining, location: Location) -> int:
    """Write a collection, in place or up to S3, which takes no file that is begun anew; its bytes."""
    if location.is_local:
        with replacing(location) as file:
            joining.write(FileSink(file))
            return file.tell()
    with tempfile.TemporaryFile() as temporary:
        joining.write(FileSink(temporary))
        collection_bytes = temporary.tell()
        temporary.seek(0)
        with writing(location, expected_bytes=collection_bytes) as upload:
            shutil.copyfileobj(temporary, upload, COPY_BYTES)
    return collection_bytes


def check_collection_target(location: Location) -> None:
    """Refuse to lose a file that is no index.

    Raises:
        StorageError: it is there, and is none.
    """
    if not location.is_local:
        return
    try:
        with open(location, "rb") as file:  # noqa: PTH123 (a path of any kind)
            begins = file.read(len(INDEX_MAGIC))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"{location}: can't be replaced: {exc.strerror}") from exc
    if begins and begins != INDEX_MAGIC:
        raise StorageError(
            f"{location}: exists and is no collection; it is not replaced: remove it first"
        )


def _beside(blobs: Location) -> Location:
    """Return where the collection of a folder, prefix or glob goes; for one blob, into its folder."""
    is_folder = blobs.text.endswith("/") or (blobs.is_local and os.path.isdir(blobs.path))  # noqa: PTH112
    if is_folder or has_glob(blobs):
        return collection_of(blobs)
    return blobs.folder.below(COLLECTION_NAME)


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What collect did.

    Attributes:
        url: The collection.
        blobs: How many it is of.
        members: Theirs.
        payload_bytes: Their bytes.
        collection_bytes: The collection's.
        seconds: How long it took.
    """

    url: str
    blobs: int
    members: int
    payload_bytes: int
    collection_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"collected {self.members:,} members, {self.payload_bytes:,} bytes, of {self.blobs:,} blobs in "
            f"{self.seconds:.2f} s: {self.url}, {self.collection_bytes:,} bytes"
        )
