"""Make a collection: one index of the members of many blobs, which also records the blob that holds each member."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

from blobpack.argument_order import is_new_file, is_there, recognise_swap
from blobpack.collection.held import (
    held_collection,
    opened_collection,
    replacing_collection,
    writing_collection,
)
from blobpack.collection.report import CollectReport
from blobpack.indexfile.open import COLLECTION
from blobpack.model import (
    Duplicates,
    check_callable,
    check_choice,
    check_flag,
    check_several,
)
from blobpack.opening.join import CollectionWriter
from blobpack.opening.kind import COLLECTION_NAME, collection_location, kind_of
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.locations import name_from
from blobpack.progress import counting
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import location_of, output_location
from blobpack.stores.open import open_store
from blobpack.stores.replace import check_replaceable, check_suffix
from blobpack.stores.sink import FileSink
from blobpack.tar.behind import warn_of_left_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobpack.opening.join import Collected
    from blobpack.opening.kind import SourceKind
    from blobpack.progress import ProgressCallback
    from blobpack.stores.location import Location


class _WriterOptions(TypedDict):
    """Options that hold for all blobs; see collect."""

    duplicates: Duplicates
    scan: bool
    concatenated: bool


@recognise_swap(blobs=is_there, target=is_new_file)
@with_remote_options
def collect(
    blobs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str] | None = None,
    *,
    duplicates: Duplicates = "refuse",
    add: bool = False,
    scan: bool = False,
    concatenated: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
    **remote: Unpack[RemoteOptions],
) -> CollectReport:
    """Make one collection of many blobs, in which any name is found without opening the blobs.

    The collection appears whole or not at all, and replaces an existing one. Blobs below its folder are recorded
    relative to that folder, so the folder can be moved with everything in it; other blobs are recorded by their
    absolute path or URL, and open_collection reads them only from places that its caller allows. If blobs are added
    later, collect with `add`, or make the collection again.

    Args:
        blobs: A folder, or a prefix that ends with "/", of which all .tar, .tar.zst and .tzst files are collected; a
            glob, in which `*` stays within a folder and `**` does not; or several blobs, in this order.
        target: Path, or s3://, gs:// or az:// URL, of the collection; None for `collection.idx` in the folder of the blobs.
        duplicates: What to do if two blobs have a member of one name: "refuse", or let the member of the "last" blob be
            found. With "refuse", "a.jpg" and "./a.jpg" count as one name, because both are extracted to one file.
        add: Keep what the collection at the target has, and add the blobs that are not in it yet. The blobs in it are
            not looked at, so make the collection again if one of them was changed or removed. If there is no
            collection, all blobs are collected.
        scan: Scan blobs that have no index, instead of raising an error.
        concatenated: Ignore the indexes of the blobs, and scan each one, also behind end-of-archive markers, for tars that
            were joined by cat. The collection then has no facts.
        force: Replace a file or object that is not a collection, and allow a suffix of another format.
        progress: Called after each blob with the Progress in blobs, and in bytes of these.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        A report of what was collected.

    Raises:
        BlobChangedError: with `add`, another process made or replaced the collection meanwhile.
        BlobNotFoundError: there are no blobs.
        DuplicateNameError: two blobs have a member of one name; the message names both blobs.
        StaleIndexError: an index does not fit its blob as it is now.
        StorageError: a blob has no index, can't be read, or changed meanwhile; or the target can't be written, or is
            a file that is not a collection.
        FormatError: a blob or its index is damaged.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices; several blobs are given without a target; or the target is
            neither a local path nor a URL that can be written to, or its suffix promises another format.
    """
    check_choice("duplicates", duplicates, Duplicates)
    check_flag("add", add)
    check_flag("scan", scan)
    check_flag("concatenated", concatenated)
    check_flag("force", force)
    check_callable("progress", progress)
    access = Access.of("collect", remote)
    given = None if target is None else output_location("target", target, access)
    began = time.perf_counter()
    found, location = _resolve(blobs, given, access)
    if add:
        # a blob that is given twice has one name in the collection, and is added once
        found = list({name_from(location.folder, blob): blob for blob in found}.values())
    check_suffix("target", location, COLLECTION, force=force)
    # before the blobs are read, which may take minutes
    replaces = check_replaceable(location, COLLECTION, force=force)
    make_writer = partial(
        _make_writer,
        location,
        duplicates=duplicates,
        scan=scan,
        concatenated=concatenated,
        progress=progress,
    )
    if add and replaces and _is_collection(location):
        writer, collection_bytes = _add(location, found, make_writer)
    else:
        writer = make_writer(found, None)
        # another process that adds may make the collection meanwhile: then its blobs must not get lost
        collection_bytes = _write_collection(writer, location, new=add and not replaces)
    for url, report in writer.reports.items():
        warn_of_left_out(url, report)
    return _report(writer, location, collection_bytes, time.perf_counter() - began)


def _make_writer(
    location: Location,
    blobs: list[Location],
    before: Collected | None,
    *,
    progress: ProgressCallback | None,
    **options: Unpack[_WriterOptions],
) -> CollectionWriter:
    return CollectionWriter(
        blobs,
        location.folder,
        progress=counting(progress, total=len(blobs) + len(before.shards if before else ())),
        before=before,
        **options,
    )


def _is_collection(location: Location) -> bool:
    """Return whether a file or object is a collection, damaged or not; an empty file is none."""
    with open_store(location, tail=True) as store:
        return store.size > 0 and COLLECTION.recognise(store)


def _add(
    location: Location,
    blobs: list[Location],
    make_writer: Callable[[list[Location], Collected], CollectionWriter],
) -> tuple[CollectionWriter, int]:
    """Replace a collection by one that has more blobs, too; return its writer and its size in bytes."""
    with (
        held_collection(location, location) as check_held,
        opened_collection(location, location) as (before, store),
    ):
        # The names are relative to the folder, so they also fit in a collection that was moved.
        known = {shard.name for shard in before.shards}
        new = [blob for blob in blobs if name_from(location.folder, blob) not in known]
        writer = make_writer(new, before)
        if not new:
            writer.shards = before.shards
            return writer, store.size
        with replacing_collection(location, store.version, check_held) as file:
            writer.write(FileSink(file))
            return writer, file.tell()


def _resolve(
    blobs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: Location | None,
    access: Access,
) -> tuple[list[Location], Location]:
    """Return the locations of the blobs, and of the collection to write."""
    if isinstance(blobs, (str, os.PathLike)):
        given = location_of("blobs", blobs, prefix=True, access=access)
        kind = kind_of(given)
        return list_blobs(given, kind), _beside(given, kind) if target is None else target
    check_several("blobs", blobs, "paths or URLs")
    if target is None:
        raise ValueError("target must be given if blobs are given one by one")
    return [location_of("blobs", blob, access=access) for blob in blobs], target


def _write_collection(writer: CollectionWriter, location: Location, *, new: bool) -> int:
    """Write a collection to a local file or to S3, and return its size in bytes; `new`: there must be none yet."""
    # the writer reads names back to compare them, and may start again if a blob lacks facts that others have
    with writing_collection(location, new=new) as file:
        writer.write(FileSink(file))
        return file.tell()


def _report(
    writer: CollectionWriter, location: Location, collection_bytes: int, seconds: float
) -> CollectReport:
    shards = writer.shards
    return CollectReport(
        url=location.text,
        blobs=len(shards),
        members=shards[-1].row_end if shards else 0,
        payload_bytes=sum(shard.payload_bytes for shard in shards),
        collection_bytes=collection_bytes,
        members_behind=[url for url, report in writer.reports.items() if report.members_behind],
        seconds=seconds,
    )


def _beside(blobs: Location, kind: SourceKind) -> Location:
    """Return the location of a new collection: in a folder or prefix of blobs, or in the folder of one blob."""
    if kind in ("blob", "collection"):
        return blobs.folder.below(COLLECTION_NAME)
    return collection_location(blobs, kind)
