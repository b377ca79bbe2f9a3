"""A tar, compressed or not, wherever it lies → a blob, in one pass, with no file of it unpacked to disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack._native.gather import recognise_image
from blobpack.errors import SourceError
from blobpack.model import (
    IndexPlace,
    check_callable,
    check_choice,
    check_flag,
    check_number,
    check_texts,
)
from blobpack.packing.files import IMAGE_HEAD_BYTES, Skipped, match_filters
from blobpack.packing.pack import check_target_options, pack
from blobpack.stores.location import location_of
from blobpack.stores.open import open_store
from blobpack.tar.header import encode_name

if TYPE_CHECKING:
    import os
    import tarfile
    from collections.abc import Iterable, Iterator

    from blobpack.model import Progress
    from blobpack.packing.pack import PackReport
    from blobpack.stores.base import Store

MEMBER_BYTES_MAX = 1 << 30


def repack(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    globs: Iterable[str] = (),
    exclude: Iterable[str] = (),
    all_files: bool = False,
    dry_run: bool = False,
    index: IndexPlace = "embed",
    level: int | None = None,
    member_bytes_max: int = MEMBER_BYTES_MAX,
    progress: Progress | None = None,
) -> PackReport:
    """Make a blob of a tar that can't be read by offsets, such as a .tar.gz; of any other, too.

    The source is read once, front to back: plain, or compressed by gzip, zstd, xz or bzip2, as its first bytes
    say. Members keep their order and names; everything else about them is as pack makes it. Memory holds one
    member at a time and what the decompressor needs, at most 128 MiB for zstd.

    Args:
        source: A path, file:// or s3:// URL.
        target: The blob to write; compressed if it ends in .tar.zst or .tzst.
        globs: Repack only names that match one of these; `*` crosses "/".
        exclude: And none of these.
        all_files: Repack every file, not only images.
        dry_run: Read everything, write nothing.
        index: Where the index goes, as of pack.
        level: Of zstd, 1 to 22, for a target that is compressed; None for 3.
        member_bytes_max: The largest payload that is taken into memory.
        progress: progress(members, bytes), called now and then.

    Returns:
        What was repacked, and what was skipped and why: links, devices and sparse files. What a hard link
        points at is further up the stream, so it is skipped, too.

    Raises:
        BlobNotFoundError: there is no such source.
        FormatError: the source is damaged, cut (TruncatedError), or no tar; nothing is written then.
        SourceError: a payload is larger than member_bytes_max.
        DuplicateNameError, UnsafeNameError, StorageError, TypeError, ValueError: as of pack.
    """
    globs, exclude = check_texts("globs", globs), check_texts("exclude", exclude)
    location_of("source", source)
    check_target_options(target, level=level)
    check_choice("index", index, IndexPlace)
    check_flag("all_files", all_files)
    check_flag("dry_run", dry_run)
    check_number("member_bytes_max", member_bytes_max, 1)
    check_callable("progress", progress)
    skipped = Skipped()
    with open_store(source) as store:
        payloads = _payloads(store, skipped, globs, exclude, not all_files, member_bytes_max)
        report = pack(
            payloads,
            target,
            all_files=True,
            dry_run=dry_run,
            index=index,
            level=level,
            progress=progress,
        )
    return replace(report, skipped=dict(skipped.counts), examples=skipped.examples)


def _payloads(
    store: Store,
    skipped: Skipped,
    globs: list[str],
    exclude: list[str],
    images_only: bool,
    most: int,
) -> Iterator[tuple[str, bytes]]:
    """Read the members that are wanted, one at a time."""
    from blobpack.tar.stream import decompressed, read_members, translated_errors

    with translated_errors(store), decompressed(store) as stream:
        for member, file in read_members(stream):
            name = encode_name(member.name)
            reason = _no_payload(member)
            if reason is None and not match_filters([name], globs, exclude)[0]:
                reason = "filtered out"
            if reason is not None:
                skipped.add(reason, name)
            elif file is not None:
                head = file.read(IMAGE_HEAD_BYTES)
                if images_only and not recognise_image(head, name):
                    skipped.add("not an image", name)
                    continue
                if member.size > most:
                    raise SourceError(
                        f"{store.url}: member {member.name!r} has {member.size} bytes, more than the "
                        f"{most} that may be taken into memory"
                    )
                yield member.name, head + file.read()


def _no_payload(member: tarfile.TarInfo) -> str | None:
    """Say why a member has no payload that can be repacked; None for files, and for folders, which have none."""
    if member.issym():
        return "symbolic links"
    if member.islnk():
        return "hard links"
    if member.issparse():
        return "sparse files"
    return None if member.isfile() or member.isdir() else "not a plain file"
