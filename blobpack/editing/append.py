"""New members behind those of a blob: the payloads that are there are neither moved nor read.

A local blob grows in place, in steps that inplace.py tells; one in S3 is made anew there, which anew.py tells.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from blobpack.editing.append_local import append_in_place
from blobpack.editing.append_s3 import append_in_s3
from blobpack.editing.new_members import NewMembers
from blobpack.model import Duplicates, Stale, check_choice
from blobpack.packing.files import Skipped
from blobpack.packing.options import PackOptions, complete_options, with_pack_options
from blobpack.packing.pack import describe_skipped
from blobpack.packing.sources import check_source
from blobpack.stores.location import output_location

if TYPE_CHECKING:
    import os

    from blobpack.index.index import Index
    from blobpack.model import IndexPlace, Packable


@with_pack_options
def append(
    blob: str | os.PathLike[str],
    source: Packable,
    *,
    duplicates: Duplicates = "refuse",
    stale: Stale = "refuse",
    **options: Unpack[PackOptions],
) -> AppendReport:
    """Add members to a blob, in time that grows with what is added, and with the index.

    The index stays where it was: inside the blob, beside it, or nowhere. Killed at any moment, the blob opens as
    before or as after. Two appends can't be at work on one blob: the second one is refused at once.

    A blob in S3 is neither downloaded nor changed: a new one takes its place, of which S3 copies the old part by
    itself. Of two appends at once at most one succeeds there, and nothing is left of the other one.

    Args:
        blob: The blob's path, or an s3:// URL.
        source: A folder, a prefix in S3, files, or (name, payload) pairs, as in pack.
        duplicates: What to do about a name that the blob has already: "refuse", or let the "last" one count. The
            old member stays in the blob, and in the order of its members.
        stale: What to do with an index that is not of the blob as it is now: refuse, or scan the blob.
        options: Which files are added, and how: see PackOptions.

    Returns:
        What was added and what was skipped and why, with the index of all members.

    Raises:
        DuplicateNameError: the blob has a member of that name; or two files have one.
        SourceError: files can't be read, or changed meanwhile.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        BlobNotFoundError: there is no such blob.
        BlobChangedError: of a blob in S3, another one took its place meanwhile, or another upload is under way.
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the blob is damaged, or compressed.
        StorageError: another append is at work on the blob; something else stands behind its end; or it can't
            be written.
        TypeError: an argument has another type, or there is no such option.
        ValueError: a choice that there is not, or a number out of range; or the blob is neither local nor in S3.
    """
    began = time.perf_counter()
    complete = complete_options("append", options)
    location = output_location("blob", blob)
    check_source(source)
    check_choice("duplicates", duplicates, Duplicates)
    check_choice("stale", stale, Stale)
    new = NewMembers(source, complete, Skipped(), duplicates, stale)
    done = (append_in_place if location.is_local else append_in_s3)(location, new)
    return AppendReport(
        appended=len(done.added),
        appended_bytes=done.added.payload_bytes,
        members=len(done.index),
        blob_bytes=done.blob_bytes,
        index_place=done.before.place,
        skipped=dict(new.skipped.counts),
        examples=new.skipped.examples,
        seconds=time.perf_counter() - began,
        index=done.index,
        stale_offsets=done.stale_offsets,
    )


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What append did.

    Attributes:
        appended: Members added.
        appended_bytes: Their payloads' bytes.
        members: All that the blob has now.
        blob_bytes: Its bytes.
        index_place: Where its index is: "embed", "sidecar" or "none", as before.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        stale_offsets: The offsets file beside the blob, which does not have the new members; None when there
            is none.
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
    stale_offsets: str | None = None

    def __str__(self) -> str:
        text = (
            f"appended {self.appended:,} members, {self.appended_bytes:,} bytes, in {self.seconds:.2f} s; "
            f"the blob has {self.members:,} members, {self.blob_bytes:,} bytes"
        )
        if self.index_place == "none":
            text += "\nthe blob had no index, and has none now: `blobpack index` makes one"
        if self.stale_offsets:
            text += f"\n{self.stale_offsets} does not have the new members: `blobpack offsets` makes it anew"
        return text + describe_skipped(self.skipped, self.examples)
