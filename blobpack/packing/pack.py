"""Many small files → one blob, the same bytes every time, and its index in the same pass."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from blobpack.errors import SourceError
from blobpack.model import IndexPlace, check_choice, check_flag
from blobpack.packing.files import Skipped
from blobpack.packing.members import write_members
from blobpack.packing.objects import Objects
from blobpack.packing.options import PackOptions, complete_options, with_pack_options
from blobpack.packing.sources import check_source, expected_bytes, resolve_source
from blobpack.stores.location import Location, output_location
from blobpack.writing.compress import LEVEL, check_level, is_compressed_target
from blobpack.writing.embed import forget_beside
from blobpack.writing.new_blob import new_blob, unwritten_bytes
from blobpack.writing.target import check_remote_target, check_target

if TYPE_CHECKING:
    import os

    from blobpack.index.index import Index
    from blobpack.model import Packable
    from blobpack.packing.sources import ResolvedSource
    from blobpack.writing.new_blob import NewBlob

EXAMPLES_SHOWN = 3  # of each reason, printed


@with_pack_options
def pack(
    source: Packable,
    target: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    resume: bool = False,
    index: IndexPlace = "embed",
    level: int | None = None,
    **options: Unpack[PackOptions],
) -> PackReport:
    """Pack images into a blob: a plain tar, the same bytes from the same input on any machine.

    The blob appears whole or not at all, and replaces one that is there. It is never packed into itself.
    A target that ends in .tar.zst or .tzst becomes seekable zstd: the index's offsets are then those in the
    tar that it decompresses to, which takes as much room beside the target until it is compressed.
    A target in S3 goes up while it is packed, in bounded memory; if anything fails, nothing is left there.

    Args:
        source: A folder, or a prefix in S3, packed in byte order of the names relative to it; a file or a
            list of files, whose names are their paths as given, without a leading "/"; or (name, payload)
            pairs, packed in their order.
        target: The blob to write: a path, or an s3:// URL.
        dry_run: Read everything, write nothing; blob_bytes is then what they are before compression.
        resume: Of a target in S3, go on with an upload that was interrupted: what went up and is the same is not
            sent again. A failure then leaves it there, for the next time.
        index: Where the index goes: behind the archive in the blob itself, into a file beside it,
            `<blob>.idx`, or nowhere.
        level: Of zstd, 1 to 22, for a target that is compressed; None for 3.
        options: Which files are packed, and how: see PackOptions.

    Returns:
        What was packed and what was skipped and why, with the index.

    Raises:
        SourceError: files can't be read (all are listed) or changed while they were packed; objects the same
            (the first is named); or there is nothing to pack, and a blob that would be replaced.
        DuplicateNameError: two files have one member name.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        StorageError: the blob can't be written, or would replace a file that is no tar.
        TypeError: an argument has another type, or there is no such option.
        ValueError: a choice that there is not, or a number out of range; resume for a target that is not in S3; a
            level for a target that is not compressed; or a compressed target in S3.
    """
    began = time.perf_counter()
    complete = complete_options("pack", options)
    check_source(source)
    check_flag("dry_run", dry_run)
    check_choice("index", index, IndexPlace)
    location = check_target_options(target, level=level, resume=resume)
    far = location.is_s3
    replaced = None if far else check_target(location)
    exists = check_remote_target(location) if far else replaced is not None
    skipped = Skipped()
    found = resolve_source(source, complete, skipped)
    if far and isinstance(found, Objects):
        found = found.without(location, skipped)
    opening = new_blob(
        location,
        level=LEVEL if level is None else level,
        expected_bytes=expected_bytes(found) if far else None,
        resume=resume,
    )
    with nullcontext() if dry_run else opening as blob:
        packed, size = _write_archive(
            found, blob, skipped, complete, location.text, replaced, exists, index
        )
    if blob and not far:
        forget_beside(location)
    if blob and index == "sidecar":
        blob.write_beside(packed)
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
    exists: bool,
    place: IndexPlace,
) -> tuple[Index, int]:
    """Write members and index, or only read them; the index, and the blob's bytes.

    Raises:
        SourceError: there is nothing to pack, and a blob that would be replaced.
    """
    tar = blob.tar if blob else None
    packed, end = write_members(found, tar, skipped, options, target=target, replaced=replaced)
    if blob is None:
        return packed, unwritten_bytes(packed, end, place)
    if exists and not packed:
        raise SourceError(f"nothing to pack, so {target} stays as it is")
    return packed, blob.finish(packed, end, place)


def check_target_options(
    target: str | os.PathLike[str], *, level: int | None, resume: bool = False
) -> Location:
    """Return where a target is, if a blob can be packed to it with these options.

    Raises:
        TypeError: an argument of another type.
        ValueError: as of pack.
    """
    location = output_location("target", target)
    check_flag("resume", resume)
    if level is not None:
        check_level(level)
    compressed, far = is_compressed_target(location), location.is_s3
    if level is not None and not compressed:
        raise ValueError(
            f"level is for a target that ends in .tar.zst, and {target} is a plain tar"
        )
    if resume and not far:
        raise ValueError(f"resume is for a target in S3, and {target} is not there")
    if far and compressed:
        raise ValueError(
            f"target {target}: a compressed blob is packed to a local file, or to S3 in shards (--shard-size); upload it then"
        )
    return location


@dataclass(frozen=True, slots=True)
class PackReport:
    """What pack did.

    Attributes:
        members: Files packed.
        payload_bytes: Their bytes.
        blob_bytes: The blob's.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        dry_run: Nothing was written.
        shards: How many blobs were written.
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

    @property
    def megabytes_per_second(self) -> float:
        """Payload bytes a second, in units of 1,000,000."""
        return mb_per_second(self.payload_bytes, self.seconds)

    def __str__(self) -> str:
        done = "would pack" if self.dry_run else "packed"
        return (
            f"{done} {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"{f'of {self.shards:,} blobs ' if self.shards != 1 else ''}"
            f"in {self.seconds:.2f} s ({self.megabytes_per_second:,.0f} MB/s)"
        ) + describe_skipped(self.skipped, self.examples)


def mb_per_second(size: int, seconds: float) -> float:
    """Compute a rate in MB for each second, where a MB is 1,000,000 bytes."""
    return size / 1e6 / seconds if seconds else 0.0


def describe_skipped(counts: dict[str, int], examples: dict[str, list[str]]) -> str:
    """Say what was left out, a line a reason."""
    text = ""
    for reason, count in sorted(counts.items()):
        named = ", ".join(examples[reason][:EXAMPLES_SHOWN])
        text += f"\nskipped {count:,}: {reason} ({named}{', …' if count > EXAMPLES_SHOWN else ''})"
    return text
