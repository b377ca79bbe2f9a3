"""Append new members behind those of a blob or collection, without reading or moving the payloads that are already there.

Strategy: a local blob grows in place, in the steps that append_local.py describes. An object in S3
can't be changed, so a new object replaces it. S3 itself copies the old bytes into the new object;
append_object.py describes that. A collection gets another blob; append_shard.py describes that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import recognise_swap
from blobpack.editing.append_local import append_in_place
from blobpack.editing.append_object import append_to_object
from blobpack.editing.append_shard import append_to_collection, collection_at
from blobpack.editing.new_members import NewMembers
from blobpack.model import Duplicates, Property, Stale, check_choice, check_choices
from blobpack.packing.files import Skipped
from blobpack.packing.options import (
    PackOptions,
    complete_options,
    target_access_of,
    with_pack_options,
)
from blobpack.packing.pack import describe_skipped
from blobpack.packing.sources import check_packable, is_packable
from blobpack.quoting import one_line
from blobpack.stores.arguments import output_folder
from blobpack.tar.header import is_blob_file
from blobpack.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable

    from blobpack.editing.new_members import AppendResult
    from blobpack.index.index import Index
    from blobpack.model import IndexPlace, Packable
    from blobpack.stores.location import Location


@recognise_swap(blob=is_blob_file, source=is_packable)
@with_pack_options
def append(
    blob: str | os.PathLike[str],
    source: Packable,
    *,
    duplicates: Duplicates = "refuse",
    stale: Stale = "refuse",
    drop: Property | Iterable[Property] = (),
    **options: Unpack[PackOptions],
) -> AppendReport:
    """Append members to a blob or collection, in time that grows with the new members and with the index.

    The index stays where it was: inside the blob, beside it, or nowhere. If the process is killed at any moment, the
    blob opens as it was before or as it is after. While an append to a local blob runs, a second one fails at once.

    A blob in S3 is neither downloaded nor changed. A new object replaces it, and S3 itself copies
    the old bytes. The new object has the properties of the old one: its headers and metadata, tags,
    access rights (ACL), storage class, encryption, retention and checksum algorithm. Of two appends to an object at the
    same time, at most one succeeds, and the other one leaves nothing behind.

    A collection gets another blob, which holds the new members. It lies beside the collection, has the next free number
    as its name, `00004.tar`, say, and its index inside. The collection's file is replaced when the new blob is
    complete. No other blob is opened, and processes that have the old collection open can go on reading it. If the
    process is killed between the two steps, the new blob is there, and the old collection does not have it. Of two
    appends at the same time, at most one succeeds.

    Args:
        blob: The path of the blob, or its s3://, gs:// or az:// URL. Or a collection: its file, or the folder or prefix that holds its
            `collection.idx`.
        source: Folders, prefixes in S3, files or payloads, named as pack names them.
        duplicates: What to do if the blob or collection already has a member of that name. "refuse": raise
            DuplicateNameError. "last": append the new member, and reads by this name find it; the old member stays in
            the blob, at its place.
        stale: What to do if the index does not fit the blob any more. "refuse": raise StaleIndexError. "rescan": scan
            the blob's headers; not for a collection.
        drop: Properties of an object in S3 that the new object may lack: "tags", "acl", "metadata" or "checksum", one
            or several. They are not copied, so no permissions for them are needed.
        options: Which files are appended, and how: see PackOptions.

    Returns:
        What was appended, what was skipped and why, and the index of all members.

    Raises:
        DuplicateNameError: the blob already has a member of that name, or two files have one member name.
        SourceError: files can't be read, or changed while they were packed.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        BlobNotFoundError: the blob does not exist, or the folder or prefix holds no collection.
        BlobChangedError: a blob in S3 or a collection was replaced meanwhile, or another upload to its key is under way.
        StaleIndexError: the index does not fit the blob any more.
        FormatError: the blob is damaged.
        StorageError: another append is at work on the blob or collection, the blob is compressed, another program
            has written data behind its end, or it can't be written; or a property of the object can't be read or set.
        TypeError: an argument has a wrong type, or an option does not exist.
        ValueError: a choice does not exist, a number is out of range, the blob can't be written to, `drop` is given
            for a local blob, or `drop` or "rescan" for a collection.
    """
    began = time.perf_counter()
    complete = complete_options("append", options)
    location = output_folder("blob", blob, target_access_of(complete))
    check_packable(source, complete)
    check_choice("duplicates", duplicates, Duplicates)
    check_choice("stale", stale, Stale)
    dropped = check_choices("drop", drop, Property)
    if dropped and not location.is_s3:
        raise ValueError(
            "drop is for a blob in S3: an append to a local blob changes the file in place, so it keeps its properties"
            if location.is_local
            else f"drop is for a blob in S3, and {location.text!r} is elsewhere"
        )
    new = NewMembers(source, complete, Skipped(complete["on_skipped"]), duplicates, stale)
    result = _append_there(location, new, dropped)
    return AppendReport(
        appended=len(result.added),
        appended_bytes=result.added.payload_bytes,
        members=len(result.index),
        blob_bytes=result.blob_bytes,
        index_place=result.place,
        skipped=dict(new.skipped.counts),
        examples=new.skipped.examples,
        seconds=time.perf_counter() - began,
        index=result.index,
        stale_offsets=result.stale_offsets,
        shard=result.shard,
        blobs=result.blobs,
    )


def _append_there(
    location: Location, new: NewMembers, dropped: Collection[Property]
) -> AppendResult:
    """Append members to the collection or blob at a location, in the way of its place.

    Raises:
        ValueError: an option is for a single blob, and this is a collection.
    """
    collection = collection_at(location)
    if collection is None:
        if location.is_local:
            return append_in_place(location, new)
        return append_to_object(location, new, dropped)
    if dropped or new.stale != "refuse":
        name = "drop" if dropped else "stale"
        raise ValueError(f"{name} is for a single blob, and {location.text!r} is a collection")
    return append_to_collection(location, collection, new)


@dataclass(frozen=True, slots=True)
class AppendReport:
    """The report of append.

    Attributes:
        appended: Number of members that were appended.
        appended_bytes: Bytes of their payloads.
        members: Number of all members of the blob or collection now.
        blob_bytes: Bytes of the blob now; of a collection, bytes of all its blobs.
        index_place: Where its index is, before and after the append: "embed", "sidecar" or "none".
        skipped: Reason → number of files that were skipped for it.
        examples: Reason → names of the first files.
        seconds: How long it took.
        index: All members of the blob or collection.
        stale_offsets: Path of an offsets file beside the blob that lacks the new members; None if there is no such
            file.
        shard: Path or URL of the blob that was added to a collection; None if `append` was given a single blob, or if
            there was nothing to append.
        blobs: Number of blobs of the collection now; None for a single blob.
    """

    appended: int
    appended_bytes: int
    members: int
    blob_bytes: int
    index_place: IndexPlace
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    # the file is only named, not written again: it may hold a selection that a user made
    stale_offsets: str | None = None
    shard: str | None = None
    blobs: int | None = None

    def __str__(self) -> str:
        where = f", as {one_line(self.shard)}" if self.shard else ""
        of_blobs = "" if self.blobs is None else f" of {counted(self.blobs, 'blob')}"
        text = (
            f"appended {counted(self.appended, 'member')}, {counted(self.appended_bytes, 'byte')}, in {self.seconds:.2f} s"
            f"{where}; the {'collection' if of_blobs else 'blob'} has {counted(self.members, 'member')}, "
            f"{counted(self.blob_bytes, 'byte')}{of_blobs}"
        )
        if self.index_place == "none":
            text += "\nthe blob had no index and has none now: `blobpack index` makes one"
        if self.stale_offsets:
            text += f"\n{self.stale_offsets} does not have the new members: `blobpack offsets` writes it again"
        return text + describe_skipped(self.skipped, self.examples)
