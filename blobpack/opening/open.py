"""Open whatever lies at a path or URL: a blob, a collection, or many blobs that were not collected yet.

Strategy: the name decides where it can, because a look may cost a request. Blobs in a folder without a collection are
joined to one in memory, by the code that `collect` uses. So they are read, and fail, as a collection in a file does.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, Unpack

from blobpack.errors import BlobNotFoundError, MissingIndexWarning, warn_caller
from blobpack.index.index import Index
from blobpack.index.origin import origin_of
from blobpack.indexfile.open import open_stored, read_shards
from blobpack.model import Duplicates, Hedge, Stale, check_choice, check_number
from blobpack.opening.collection import OPEN_BLOBS_MAX, Collection, open_collection
from blobpack.opening.join import CollectionWriter
from blobpack.opening.kind import BLOB_SUFFIXES, collection_location, kind_of
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.locations import allowed_places
from blobpack.opening.open_blob import cache_in, open_blob
from blobpack.opening.reader import Reader
from blobpack.stores.access.remote import (
    NO_ACCESS,
    Access,
    RemoteOptions,
    with_remote_options,
)
from blobpack.stores.arguments import is_place, local_path_of, location_of
from blobpack.stores.memory import MemorySink, MemoryStore
from blobpack.stores.stats import Counters
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.header import is_blob_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.opening.blob import Blob
    from blobpack.opening.kind import SourceKind
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location


class _CollectionOptions(TypedDict, total=False):
    """Options of open_collection."""

    allow: Iterable[Location]
    open_blobs: int
    cache: str | os.PathLike[str] | None
    cache_bytes: int
    hedge: Hedge


@with_remote_options
def open(
    url: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    *,
    stale: Stale = "refuse",
    duplicates: Duplicates = "refuse",
    allow: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    open_blobs: int = OPEN_BLOBS_MAX,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = 10 << 30,
    hedge: Hedge = "batches",
    **remote: Unpack[RemoteOptions],
) -> Blob | Collection:
    """Open a blob, a collection, or a folder, prefix or glob of blobs, to read its members.

    If a folder holds the file `collection.idx`, this collection is opened. Otherwise the indexes of the folder's blobs
    are joined to a collection in memory, as `collect` joins them, which takes some requests for each remote blob. Blobs
    without an index are scanned, with a MissingIndexWarning.

    A name may contain the characters of a glob, such as `photos [2024].tar`. If there is a file or object of this name,
    it is opened, and the name is not used as a glob. An http(s):// URL is never a glob.

    Args:
        url: Path, or file://, s3://, gs://, az:// or http(s):// URL, of a blob or of a collection's file, `<name>.idx`; a folder, or
            a prefix that ends with "/"; or a glob of blobs, in which `*` stays within a folder and `**` does not.
        index: For a single blob: an index, or the path or URL of an index file, an offsets file or the index of another program;
            see open_blob.
        stale: What to do with an index that does not fit its blob any more, or is damaged; see open_blob.
        duplicates: For blobs that are joined here: what to do if two of them have a member of one name; see collect.
        allow: For a collection: other places from which its blobs may be read; see open_collection.
        open_blobs: For a collection: largest number of blobs that are kept open.
        cache: A folder that keeps the bytes that are read from remote blobs; see open_blob.
        cache_bytes: Largest size of that folder, in bytes.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        A Blob or a Collection. Both have the methods of a reader.

    Raises:
        BlobNotFoundError: there is no such blob or collection, or there are no blobs.
        DuplicateNameError: two blobs that are joined here have a member of one name; the message names both blobs.
        StaleIndexError: an index does not fit its blob as it is now.
        FormatError: a blob, an index or the collection is damaged.
        StorageError: a store could not be reached, refused the request, or can't be listed.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices, a number is out of range, or the URL has an unsupported
            scheme.
    """
    access = Access.of("open", remote)
    given = location_of("url", url, prefix=True, access=access)
    if index is not None and not isinstance(index, Index):
        index = location_of("index", index, access=access)
    check_choice("stale", stale, Stale)
    check_choice("duplicates", duplicates, Duplicates)
    check_choice("hedge", hedge, Hedge)
    check_number("open_blobs", open_blobs, 0)
    allowed = allowed_places(allow, access)
    kept = cache_in(cache, cache_bytes)
    kind = kind_of(given) if index is None else "blob"
    if kind == "blob":
        return open_blob(
            given, index, stale=stale, cache=cache, cache_bytes=cache_bytes, hedge=hedge
        )
    found = stored_collection(
        given,
        kind,
        allow=allowed,
        open_blobs=open_blobs,
        cache=cache,
        cache_bytes=cache_bytes,
        hedge=hedge,
    )
    # not by its truth: a collection without members is false
    if found is not None:
        return found
    return _joined(
        given,
        kind,
        stale=stale,
        duplicates=duplicates,
        open_blobs=open_blobs,
        cache=kept,
        hedge=hedge,
    )


def is_blob(value: object) -> bool:
    """Return whether a value may be meant for blobs: an open reader, a URL, or a path where a blob or index lies.

    It is for messages about wrong arguments, and opens nothing.
    """
    path = local_path_of(value)
    if path is None:
        return is_place(value) or isinstance(value, Reader)
    try:
        return any(name.endswith((".idx", *BLOB_SUFFIXES)) for name in os.listdir(path))  # noqa: PTH208 (a str)
    except OSError:
        return is_blob_file(value)


def stored_collection(
    given: Location, kind: SourceKind, **options: Unpack[_CollectionOptions]
) -> Collection | None:
    """Open the collection of a file, or the one that lies in a folder or prefix, or before a glob.

    Returns:
        The collection; None if a folder has none, or one whose blobs are not those that match the glob.
    """
    try:
        found = open_collection(collection_location(given, kind), **options)
    except BlobNotFoundError:
        if kind == "collection" or given.kind == "http":
            raise
        return None
    try:
        if kind != "glob" or _is_of(found, list_blobs(given, kind)):
            return found
    except BaseException:
        found.close()
        raise
    found.close()
    return None


def _is_of(collection: Collection, blobs: Iterable[Location]) -> bool:
    """Return whether a collection has exactly these blobs, in any order."""
    # `train-*.tar` must not find members of `test-0.tar`, which lies in the same collection, and must find those of a
    # blob that was packed later
    return {blob.url for blob in collection.blobs} == {
        os.path.abspath(blob.path) if blob.is_local else blob.whole  # noqa: PTH100 (keeps links)
        for blob in blobs
    }


def _joined(
    given: Location,
    kind: SourceKind,
    *,
    stale: Stale,
    duplicates: Duplicates,
    open_blobs: int,
    cache: Cache | None,
    hedge: Hedge,
) -> Collection:
    """Join the indexes of the blobs of a folder, prefix or glob to a collection in memory."""
    folder = collection_location(given, kind).folder
    counters = Counters()
    writer = CollectionWriter(
        list_blobs(given, kind, counters),
        folder,
        duplicates=duplicates,
        scan=True,
        stale=stale,
        cache=cache,
        counters=counters,
    )
    sink = MemorySink()
    footer = writer.write(sink)
    _warn_of_blobs(given, writer)
    store = MemoryStore(sink.contents(), given.text)
    return Collection(
        given,
        folder,
        open_stored(store, 0, footer),
        read_shards(store, footer),
        open_blobs=open_blobs,
        cache=cache,
        hedge=hedge,
        counters=counters,
    )


def _warn_of_blobs(given: Location, writer: CollectionWriter) -> None:
    """Warn of blobs that were scanned, and of members behind the end of an archive."""
    if writer.scanned:
        warn_caller(
            f"{given}: {len(writer.scanned)} of {len(writer.blobs)} blobs have no index, so their headers were "
            f"scanned; `blobpack collect --scan {given}` makes a collection that opens at once",
            MissingIndexWarning,
        )
    for url, report in writer.reports.items():
        warn_of_left_out(url, report)


def source_of(name: str, source: object, access: Access = NO_ACCESS) -> Reader | Location:
    """Return an argument that is an open blob or collection, or the location of one that can be opened.

    Raises:
        TypeError: the value is neither.
        ValueError: the path is empty, or the URL has an unsupported scheme.
    """
    if isinstance(source, Reader):
        return source
    return location_of(name, source, prefix=True, access=access)


def reader_of(index: Index) -> Reader | None:
    """Return the open blob or collection that reads by an index, or by the index that it was cut from; None if none does."""
    for rows in (index, origin_of(index).base()):
        reader = rows._reader() if rows is not None and rows._reader is not None else None
        if isinstance(reader, Reader):
            return reader
    return None


@contextmanager
def opened(
    source: Reader | str | os.PathLike[str], *, duplicates: Duplicates = "refuse"
) -> Iterator[Reader]:
    """Yield an open blob or collection as it is, or open a path or URL as `open` does, and close it after the block."""
    # a reader that the caller opened is the caller's to close
    if isinstance(source, Reader):
        yield source
        return
    with open(source, duplicates=duplicates) as fresh:
        yield fresh
