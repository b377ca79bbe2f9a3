"""Make a blob of any tar, compressed or not, local or remote, in one pass, without unpacking it to disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from blobpack._native.gather import recognise_image
from blobpack._native.stream import TarStream
from blobpack.argument_order import is_file_there, is_new_file, recognise_swap
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
from blobpack.stores.access.remote import CopyOptions, accesses_of, with_copy_options
from blobpack.stores.arguments import location_of
from blobpack.stores.open import open_store
from blobpack.tar.behind import Behind, recognise, warn_of_left_out
from blobpack.tar.names import is_apple_double
from blobpack.wording import counted, setting

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.packing.pack import PackReport
    from blobpack.progress import ProgressCallback
    from blobpack.stores.base import Store

# Few images are as large as this. It bounds the memory if a compressed archive of a few MB claims a member of many GB.
MEMBER_BYTES_MAX = 1 << 30

# why members are skipped, by the kinds of MemberKinds; folders are not counted
NO_PAYLOAD = {
    "hard_links": "hard links",
    "symbolic_links": "symbolic links",
    "sparse": "sparse files",
    "devices": "not a plain file",
    "other": "not a plain file",
}


@recognise_swap(source=is_file_there, target=is_new_file)
@with_copy_options
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
    concatenated: bool = False,
    apple_double: bool = False,
    allow_empty: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
    **remote: Unpack[CopyOptions],
) -> PackReport:
    """Make a blob of a tar that can't be read by offsets, such as a .tar.gz, or of any other tar.

    The source is read once, front to back. It may be plain, or compressed by gzip, zstd, xz or bzip2; its first bytes
    decide which. Members keep their order and names; all other fields of their headers get the values that pack writes.
    One member at a time is held in memory, besides what the decompressor needs, at most 128 MiB for zstd.

    Args:
        source: A path, file:// or s3:// URL.
        target: The blob to write; compressed if it ends in .tar.zst or .tzst.
        globs: Repack only members whose names match one of these patterns; `*` also matches "/".
        exclude: Do not repack members whose names match one of these patterns.
        all_files: Repack every file, not only images.
        dry_run: Read everything and write nothing.
        index: Where the index goes; see pack.
        level: Compression level of zstd, 1 to 22, for a target that is compressed. None: 3.
        member_bytes_max: The largest payload that is read into memory.
        concatenated: Continue behind end-of-archive markers, into tars that were appended with cat. Otherwise their
            members are left out, with a LeftOutWarning.
        apple_double: Also repack AppleDouble files, which macOS puts beside other files; their names begin with `._`.
        allow_empty: Make a blob without members if no member is chosen; see pack.
        force: Replace a file or object that is not a tar, and allow a suffix of another format; see pack.
        progress: Called from time to time with the Progress in members, and in bytes of the new blob. No total is known.
        remote: How remote blobs are reached: see CopyOptions.

    Returns:
        What was repacked, and what was skipped and why: links, devices and sparse files. A hard
        link is skipped because its payload is earlier in the stream, where it can't be read again.

    Raises:
        BlobNotFoundError: the source does not exist.
        FormatError: the source is damaged, cut (TruncatedError) or not a tar; then nothing is written.
        SourceError: a payload is larger than member_bytes_max, or no member is chosen.
        DuplicateNameError, UnsafeNameError, StorageError, TypeError, ValueError: as described for pack.
    """
    # before the source is opened: pack would find a wrong argument, too, but after a request
    globs, exclude = check_texts("globs", globs), check_texts("exclude", exclude)
    source_access, access = accesses_of("repack", remote)
    found = location_of("source", source, access=source_access)
    location = check_target_options(target, access, level=level, force=force)
    check_choice("index", index, IndexPlace)
    check_flag("all_files", all_files)
    check_flag("dry_run", dry_run)
    check_flag("concatenated", concatenated)
    check_flag("apple_double", apple_double)
    check_flag("allow_empty", allow_empty)
    check_number("member_bytes_max", member_bytes_max, 1)
    check_callable("progress", progress)
    skipped = Skipped()
    behind: list[Behind] = []
    with open_store(found) as store:
        payloads = _payloads(
            *(store, skipped, globs, exclude),
            images_only=not all_files,
            most=member_bytes_max,
            concatenated=concatenated,
            apple_double=apple_double,
            behind=behind,
        )
        report = pack(
            payloads,
            location,
            # _payloads has left out what is not an image, before its payload was read into memory
            all_files=True,
            dry_run=dry_run,
            index=index,
            level=level,
            allow_empty=allow_empty,
            force=force,
            progress=progress,
        )
    # pack itself skipped nothing: _payloads has counted everything that was skipped.
    report = replace(report, skipped=dict(skipped.counts), examples=skipped.examples)
    for left_out in behind:
        remedy = f"{setting('concatenated', True)} takes them"
        warn_of_left_out(store.url, left_out, remedy=remedy)
        report = replace(report, members_behind=left_out.members_behind)
    return report


def _payloads(
    store: Store,
    skipped: Skipped,
    globs: list[str],
    exclude: list[str],
    *,
    images_only: bool,
    most: int,
    concatenated: bool,
    apple_double: bool,
    behind: list[Behind],
) -> Iterator[tuple[str, bytes]]:
    """Read the members that pass the filters, one at a time.

    Args:
        store: The tar, compressed or not.
        skipped: Counts the members that are left out.
        globs: See repack.
        exclude: See repack.
        images_only: Leave out what is not an image.
        most: The largest payload.
        concatenated: See repack.
        apple_double: See repack.
        behind: Gets what lies behind the end of the archive, if it is not read.

    Raises:
        SourceError: a payload has more bytes than `most`.
    """
    from blobpack.tar.stream import decompressed, translated_errors

    filtered = bool(globs or exclude)
    with translated_errors(store), decompressed(store) as stream:
        tar = TarStream(stream.readinto, store.url, concatenated=concatenated)
        for name, kind, size in tar:
            if kind == "folders":
                continue
            reason = NO_PAYLOAD.get(kind)
            if reason is None and filtered and not match_filters([name], globs, exclude)[0]:
                reason = "filtered out"
            text = name.decode("utf-8", "surrogateescape")
            if reason is None and not apple_double and is_apple_double(text):
                reason = "an AppleDouble file"
            # the head alone decides, so a large member that is not an image never fills memory
            if reason is None and images_only:
                head = tar.head(IMAGE_HEAD_BYTES)
                reason = None if recognise_image(head, name) else "not an image"
            if reason is not None:
                skipped.add(reason, name)
                continue
            if size > most:
                raise SourceError(
                    f"{store.url}: member {text!r} has {counted(size, 'byte')}, more than the {most:,} that may be read "
                    f"into memory; {setting('member_bytes_max', size)} allows it"
                )
            yield text, tar.payload()
    if tar.behind:
        behind.append(recognise(tar.behind, tar.block_behind, b""))
