"""Pack many small files into one blob, the same bytes every time, and make its index in the same pass."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import recognise_swap
from blobpack.errors import SourceError
from blobpack.model import IndexPlace, check_choice, check_flag
from blobpack.packing.files import Skipped
from blobpack.packing.members import write_members
from blobpack.packing.objects import Objects
from blobpack.packing.options import (
    PackOptions,
    complete_options,
    target_access_of,
    with_pack_options,
)
from blobpack.packing.sources import (
    check_packable,
    expected_bytes,
    is_blob_target,
    is_packable,
    resolve_source,
)
from blobpack.quoting import quoted
from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.arguments import output_location
from blobpack.stores.replace import check_suffix
from blobpack.wording import counted, setting
from blobpack.writing.compress import LEVEL, check_level, is_compressed_target
from blobpack.writing.new_blob import new_blob, unwritten_bytes
from blobpack.writing.target import check_target, kind_of, replacing_unseen

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.model import Packable
    from blobpack.packing.sources import ResolvedSource
    from blobpack.stores.location import Location
    from blobpack.writing.new_blob import NewBlob

# Names shown for each reason, so that a reason fits on one line of the report.
EXAMPLES_SHOWN = 3


@recognise_swap(source=is_packable, target=is_blob_target)
@with_pack_options
def pack(
    source: Packable,
    target: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    resume: bool = False,
    index: IndexPlace = "embed",
    level: int | None = None,
    allow_empty: bool = False,
    force: bool = False,
    **options: Unpack[PackOptions],
) -> PackReport:
    """Pack images into a blob, a plain tar. The same input gives the same bytes on any machine.

    The blob appears whole or not at all, and replaces a blob that is already there. The index file and offsets file
    beside the old blob are removed first. Without `force`, no file of another kind is replaced. A blob is never packed
    into itself. A target that ends in .tar.zst or .tzst becomes seekable zstd. The offsets in its index are offsets in
    the tar that it decompresses to. That tar needs space until it is compressed: beside the target, or in the temporary
    folder if the target is in S3. A target in S3 is uploaded while it is packed, in bounded memory. If anything fails,
    nothing is left there.

    Args:
        source: A folder or a prefix in S3: names are relative to it. Or a file, or a list of files, folders and
            prefixes: names begin with their paths as given, without ".." at the front; of an absolute path or a URL,
            only the last part remains. These are packed in byte order of their names. Or payloads, packed in their
            order: a mapping of names to bytes, or (name, bytes) pairs.
        target: The blob to write: a path, or an s3://, gs:// or az:// URL.
        dry_run: Read everything and write nothing. Then `blob_bytes` is the size before compression.
        resume: For a target in S3: continue an upload that was interrupted. Parts that S3 already
            has with equal bytes are not sent again. If this upload fails, too, S3 keeps its parts,
            and the next call can resume.
        index: Where the index goes: behind the archive in the blob itself, into a file beside it,
            `<blob>.idx`, or nowhere.
        level: Compression level of zstd, 1 to 22, for a target that is compressed. None: 3.
        allow_empty: Make a blob without members if there is nothing to pack. Otherwise that is an error.
        force: Replace a file or object that is not a tar, and allow a suffix of another format, such as .zip.
        options: Which files are packed, and how: see PackOptions.

    Returns:
        What was packed, what was skipped and why, and the index.

    Raises:
        SourceError: files can't be read (all are named) or changed while they were packed; an object can't be
            read or changed (the first one is named); or there is nothing to pack.
        DuplicateNameError: two files have one member name; the message names both.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..", or `strip` leaves nothing of it.
        StorageError: the blob can't be written, or would replace a file that is not a tar.
        TypeError: an argument has a wrong type, or an option does not exist.
        ValueError: a choice does not exist or a number is out of range; `resume` is set and the target is not in S3;
            a level is given and the target is not compressed; or its suffix promises another format.
    """
    began = time.perf_counter()
    # Check all arguments, and the target, before anything is read: reading may take hours.
    complete = complete_options("pack", options)
    check_packable(source, complete)
    check_flag("dry_run", dry_run)
    check_choice("index", index, IndexPlace)
    access = target_access_of(complete)
    location = check_target_options(target, access, level=level, resume=resume, force=force)
    check_flag("allow_empty", allow_empty)
    remote = location.has_key
    exists = check_target(location, index, force=force)
    # the file by which pack recognises the blob among its sources
    replaced = os.stat(location) if exists and not remote else None  # noqa: PTH116 (a path of any kind)
    skipped = Skipped(complete["on_skipped"])
    found = resolve_source(source, complete, skipped)
    # a local blob is recognised by its inode when it is read; an object is recognised by its key
    if remote and isinstance(found, Objects):
        found = found.without(location, skipped)
    opening = new_blob(
        location,
        level=LEVEL if level is None else level,
        # An upload chooses the size of its parts before it knows the size of the blob, and S3
        # allows at most 10,000 parts.
        expected_bytes=expected_bytes(found) if remote else None,
        resume=resume,
        new=exists is None,
    )
    with replacing_unseen(exists), nullcontext() if dry_run else opening as blob:
        packed, size = _write_archive(
            found, blob, skipped, complete, location.text, replaced, index, allow_empty
        )
    return PackReport(
        members=len(packed),
        payload_bytes=packed.payload_bytes,
        blob_bytes=size,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=packed,
        dry_run=dry_run,
    )


def _write_archive(
    found: ResolvedSource,
    blob: NewBlob | None,
    skipped: Skipped,
    options: PackOptions,
    target: str,
    replaced: os.stat_result | None,
    place: IndexPlace,
    allow_empty: bool,
) -> tuple[Index, int]:
    """Write members and index, or only read the members if there is no blob.

    Returns:
        The index, and the bytes of the blob.

    Raises:
        SourceError: there is nothing to pack.
    """
    tar = blob.tar if blob else None
    packed, end = write_members(found, tar, skipped, options, target=target, replaced=replaced)
    # Raised inside the block that writes the blob, so that an old blob stays.
    if not packed and not allow_empty:
        raise nothing_to_pack(target, skipped)
    if blob is None:
        return packed, unwritten_bytes(packed, end, place)
    return packed, blob.finish(packed, end, place)


def nothing_to_pack(target: str, skipped: Skipped) -> SourceError:
    """Return the error for a source in which nothing is left to pack; it says what was skipped."""
    # most likely a filter that matches nothing, or the wrong folder
    return SourceError(
        f"nothing to pack, so {target} is not written ({setting('allow_empty', True)} writes an empty blob)"
        # on the command line, only an indented line stays a line of its own
        + describe_skipped(dict(skipped.counts), skipped.examples).replace("\n", "\n  ")
    )


def check_target_options(
    target: str | os.PathLike[str],
    access: Access = NO_ACCESS,
    *,
    level: int | None,
    resume: bool = False,
    force: bool = False,
) -> Location:
    """Parse the target, and check that a blob can be packed to it with these options; nothing is read.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the target can't be written to, or an option is not for this kind of target; see pack.
    """
    location = output_location("target", target, access)
    check_flag("resume", resume)
    check_flag("force", force)
    check_suffix("target", location, kind_of(location), force=force)
    if level is not None:
        check_level(level)
    if level is not None and not is_compressed_target(location):
        raise ValueError(
            f"level is for a target that ends in .tar.zst, but {target} is a plain tar"
        )
    if resume and not location.is_s3:
        raise ValueError(f"resume is for a target in S3, but {target} is not in S3")
    return location


@dataclass(frozen=True, slots=True)
class PackReport:
    """The report of pack.

    Attributes:
        members: Number of files that were packed.
        payload_bytes: Bytes of their payloads.
        blob_bytes: Bytes of the blob.
        skipped: Reason → number of files that were skipped for it.
        examples: Reason → names of the first files.
        seconds: How long it took.
        index: The members of the blob.
        dry_run: Whether pack only read everything, and wrote nothing.
        shards: Number of blobs that were written.
        members_behind: Of repack: the offset of members behind the end of the archive, which were left out; 0 if there
            are none.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    dry_run: bool = False
    shards: int = 1
    members_behind: int = 0

    @property
    def megabytes_per_second(self) -> float:
        """Payload bytes for each second, in units of 1,000,000."""
        return mb_per_second(self.payload_bytes, self.seconds)

    def __str__(self) -> str:
        done = "would pack" if self.dry_run else "packed"
        return (
            f"{done} {counted(self.members, 'member')}, {counted(self.payload_bytes, 'byte')}, into {counted(self.blob_bytes, 'byte')} "
            f"{f'of {self.shards:,} blobs ' if self.shards != 1 else ''}"
            f"in {self.seconds:.2f} s ({self.megabytes_per_second:,.0f} MB/s)"
            f"{self._described_names() if self.dry_run and self.members else ''}"
        ) + describe_skipped(self.skipped, self.examples)

    def _described_names(self) -> str:
        """Describe how members would be named, by the first names and the last one."""
        # the last one, too: if several folders are packed, it mostly is of another folder than the first ones
        names = self.index.names
        named = [*names[:EXAMPLES_SHOWN], *names[EXAMPLES_SHOWN:][-1:]]
        texts = list(map(quoted, named))
        if self.members > len(named):
            texts.insert(EXAMPLES_SHOWN, "…")
        return f"\nnames: {', '.join(texts)}"


def mb_per_second(size: int, seconds: float) -> float:
    """Compute a rate in MB for each second, where a MB is 1,000,000 bytes."""
    # Python promises no resolution for perf_counter, so the difference of two times may be 0
    return size / 1e6 / seconds if seconds else 0.0


def describe_skipped(counts: dict[str, int], examples: dict[str, list[str]]) -> str:
    """Describe what was skipped: a line for each reason, each after a line break."""
    text = ""
    for reason, count in sorted(counts.items()):
        named = ", ".join(map(quoted, examples[reason][:EXAMPLES_SHOWN]))
        text += f"\nskipped {count:,}: {reason} ({named}{', …' if count > EXAMPLES_SHOWN else ''})"
    return text
