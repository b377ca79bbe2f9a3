"""Write files or payloads as the members of an archive, front to back.

Strategy: files are read by the native gather, in several threads and without the GIL, which keeps their order.
Payloads, also those that are fetched from S3, are written one by one as they come.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack._native import facts as _facts, gather as _gather
from blobpack._native.packed import normal_name
from blobpack.columns import Columns, media_type_of
from blobpack.errors import DuplicateNameError, StorageError
from blobpack.index.index import Index
from blobpack.model import Member
from blobpack.packing.files import (
    FileList,
    Skipped,
    match_filters,
    unreadable_error,
    unreadable_reason,
)
from blobpack.packing.options import globs_of
from blobpack.packing.sources import filter_by_name, number_of
from blobpack.packing.stream import gather_slices, open_root
from blobpack.progress import counting
from blobpack.tar.header import check_name, encode_name, member_header, padding
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack._native.results import Gathered, NotPacked
    from blobpack.model import Payload
    from blobpack.packing.options import PackOptions
    from blobpack.packing.sources import ResolvedSource
    from blobpack.progress import CountCallback
    from blobpack.stores.sink import Sink

# By default one thread for each processor, but at most four: each has a buffer of 4 MiB (_native/pack/worker.pxd).
PACK_THREADS_MAX = 4

PROGRESS_EVERY = 1000


def write_members(
    found: ResolvedSource,
    sink: Sink | None,
    skipped: Skipped,
    options: PackOptions,
    *,
    target: str,
    replaced: os.stat_result | None = None,
    start: int = 0,
    held: bytearray | None = None,
) -> tuple[Index, int]:
    """Write files or payloads as members.

    Args:
        found: Files, objects or payloads.
        sink: Receives the members. None: everything is read and nothing is written.
        skipped: Counts what is skipped.
        options: Complete options.
        target: The blob, for messages.
        replaced: The file that the blob replaces. It is skipped if it is among the files.
        start: Position of the first member in the blob.
        held: A buffer that receives the first bytes from `start` on, instead of the sink, until the
            buffer is full. Used for files only. For payloads, a sink that must hold back bytes does
            that itself.

    Returns:
        The members, and the position where the last one ends. The sink stands at that position.

    Raises:
        SourceError: files could not be read, or changed while they were packed.
        DuplicateNameError: two payloads have one name.
        UnsafeNameError: the name of a payload can't be the name of a member.
        StorageError: the blob can't be written.
    """
    found, options = filter_by_name(found, options, skipped)
    progress = counting(options["progress"], total=number_of(found))
    if not isinstance(found, FileList):
        payloads = _chosen_payloads(iter(found), options, skipped)
        return _write_payloads(payloads, sink, progress, start, facts=options["facts"])
    gather = partial(
        _gather.gather,
        # by inode and not by path: a link in the folder may lead to the blob
        target_device=replaced.st_dev if replaced else 0,
        target_inode=replaced.st_ino if replaced else 0,
        images_only=not options["all_files"],
        follow_links=found.follow_links,
        follow_folders=found.follow_folders,
        keep_mtime=options["keep_mtime"],
        facts=options["facts"],
        threads=options["threads"] or processor_count(PACK_THREADS_MAX),
    )
    columns, end, write_error, not_packed = _gather_files(
        gather, found, sink, start, held, progress
    )
    # Checked first: after a failed write, the files that follow are not read, and would be reported
    # as unreadable.
    if write_error:
        raise StorageError(f"{target}: can't be written: {os.strerror(write_error)}")
    _check_not_packed(found, not_packed, skipped)
    return Index._from_columns(columns), end


# Files


def _gather_files(
    gather: Callable[..., Gathered],
    files: FileList,
    sink: Sink | None,
    start: int,
    held: bytearray | None,
    progress: CountCallback | None,
) -> tuple[Columns, int, int, list[NotPacked]]:
    """Gather files natively: all at once into a local file, slice by slice for a stream."""
    # paths are opened relative to the folder, even if the folder is renamed meanwhile
    root_fd = open_root(files)
    try:
        if sink and sink.is_stream:
            return gather_slices(gather, root_fd, files, sink, start=start, progress=progress)
        gathered = gather(
            root_fd,
            sink.local().fileno() if sink else -1,
            files.paths,
            files.names,
            progress=progress,
            start=start,
            held=held,
        )
    finally:
        os.close(root_fd)
    # the native threads write by pwrite, which does not move the position of the file
    if sink:
        sink.local().seek(gathered.position)
    return (
        Columns(*gathered.members),
        gathered.position,
        gathered.write_error,
        gathered.not_packed,
    )


def _check_not_packed(files: FileList, not_packed: list[NotPacked], skipped: Skipped) -> None:
    """Count the files that were skipped, and raise an error if others could not be read.

    Raises:
        SourceError: files could not be read, or changed while they were packed.
    """
    unreadable = []
    for file, status, error in not_packed:
        path = os.path.join(files.root, files.paths[file])  # noqa: PTH118 (bytes)
        if status == _gather.FILE_NOT_IMAGE:
            skipped.add("not an image", files.names[file], path)
        elif status == _gather.FILE_IS_TARGET:
            skipped.add("the blob itself", files.names[file], path)
        elif status == _gather.FILE_NOT_REGULAR:
            skipped.add("not a plain file", files.names[file], path)
        elif status == _gather.FILE_CHANGED:
            # the size in the header would be wrong, or the payload half old and half new
            unreadable.append((path, "changed while it was packed"))
        else:
            unreadable.append((path, unreadable_reason(error, follow=files.follow_links)))
    if unreadable:
        raise unreadable_error(unreadable)


# Payloads


def _chosen_payloads(
    payloads: Iterable[Payload], options: PackOptions, skipped: Skipped
) -> Iterator[tuple[bytes, bytes]]:
    """Check the names of payloads, and leave out those that the filters exclude or that are not images."""
    globs, exclude = globs_of(options)
    seen: set[str] = set()
    for name, payload in payloads:
        encoded = encode_name(name)
        check_name(encoded)
        # before the filters: a pair of equal names is an error whether or not it is packed
        normal = normal_name(name)
        if normal in seen:
            spelled = "" if normal == name else f"; one of them is called {name!r}"
            raise DuplicateNameError(f"two payloads would both be member {normal!r}{spelled}")
        seen.add(normal)
        # a copy of other buffers: len() of a memoryview counts its elements, not bytes
        data = payload if isinstance(payload, bytes) else memoryview(payload).tobytes()
        if (globs or exclude) and not match_filters([encoded], globs, exclude)[0]:
            skipped.add("filtered out", encoded)
        elif not options["all_files"] and not _gather.recognise_image(data, encoded):
            skipped.add("not an image", encoded)
        else:
            yield encoded, data


def _write_payloads(
    payloads: Iterable[tuple[bytes, bytes]],
    sink: Sink | None,
    progress: CountCallback | None,
    first: int,
    *,
    facts: bool,
) -> tuple[Index, int]:
    """Write payloads as members, in their order, from position `first` on."""
    members = []
    position = first
    for name, payload in payloads:
        header = member_header(name, len(payload))
        start = position + len(header)
        known = _facts_of(name, payload) if facts else {}
        members.append(Member(os.fsdecode(name), start, start + len(payload), **known))
        written = b"".join((header, payload, padding(len(payload))))
        position += len(written)
        if sink:
            sink.write(written)
        if progress and len(members) % PROGRESS_EVERY == 0:
            progress(len(members), position - first)
    return Index(members), position


def _facts_of(name: bytes, payload: bytes) -> dict[str, Any]:
    facts = _facts.facts_of(payload, name)
    # a payload has no modification time, so its header says 0, and the index must agree with the header
    return facts._asdict() | {"media_type": media_type_of(facts.media_type) or "", "mtime": 0}
