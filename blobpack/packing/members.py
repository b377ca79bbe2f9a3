"""Files and payloads → the members of an archive that is written front to back, and its end."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack._native import facts as _facts, gather as _gather
from blobpack.columns import Columns, media_type_of
from blobpack.errors import DuplicateNameError, StorageError
from blobpack.index.index import Index
from blobpack.model import Member
from blobpack.packing.files import FileList, Skipped, match_filters, unreadable_error
from blobpack.packing.options import globs_of
from blobpack.packing.sources import filter_by_name
from blobpack.packing.stream import gather_slices
from blobpack.tar.header import check_name, encode_name, member_header, padding
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack._native.results import Gathered, NotPacked
    from blobpack.model import Payload, Progress
    from blobpack.packing.options import PackOptions
    from blobpack.packing.sources import ResolvedSource
    from blobpack.stores.sink import Sink

PACK_THREADS_MAX = 4


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
    """Write members.

    Args:
        found: What to pack.
        sink: Takes them; None writes nothing.
        skipped: Takes what was left out.
        options: What is left out, and how the rest is packed; complete.
        target: The blob, for messages.
        replaced: The file that must not be packed: the blob, as it is.
        start: Where in the blob the first member goes.
        held: Takes the first bytes from there on, which are not written, when files are packed.

    Returns:
        The members, and where the last one ends: the sink's position, too.
    """
    found, options = filter_by_name(found, options, skipped)
    if not isinstance(found, FileList):
        wanted = _chosen_payloads(iter(found), options, skipped)
        return _write_payloads(wanted, sink, options["progress"], start, facts=options["facts"])
    gather = partial(
        _gather.gather,
        target_device=replaced.st_dev if replaced else 0,
        target_inode=replaced.st_ino if replaced else 0,
        images_only=not options["all_files"],
        follow_links=found.follow_links,
        keep_mtime=options["keep_mtime"],
        facts=options["facts"],
        threads=options["threads"] or processor_count(PACK_THREADS_MAX),
    )
    columns, end, write_error, not_packed = _gathered(
        gather, found, sink, start, held, options["progress"]
    )
    if write_error:
        raise StorageError(f"{target}: can't be written: {os.strerror(write_error)}")
    _check_not_packed(found, not_packed, skipped)
    return Index.from_columns(columns), end


# Files


def _gathered(
    gather: Callable[..., Gathered],
    sources: FileList,
    sink: Sink | None,
    start: int,
    held: bytearray | None,
    progress: Progress | None,
) -> tuple[Columns, int, int, list[NotPacked]]:
    """Gather files natively: into a local file at once, for a stream slice by slice."""
    root_fd = os.open(sources.root or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sink and sink.is_stream:
            return gather_slices(gather, root_fd, sources, sink, start=start, progress=progress)
        gathered = gather(
            root_fd,
            sink.local().fileno() if sink else -1,
            sources.paths,
            sources.names,
            progress=progress,
            start=start,
            held=held,
        )
    finally:
        os.close(root_fd)
    if sink:
        sink.local().seek(gathered.position)
    return (
        Columns(*gathered.members),
        gathered.position,
        gathered.write_error,
        gathered.not_packed,
    )


def _check_not_packed(sources: FileList, not_packed: list[NotPacked], skipped: Skipped) -> None:
    """Count what was skipped.

    Raises:
        SourceError: files could not be read, or changed meanwhile.
    """
    unreadable = []
    for file, status, error in not_packed:
        path = os.path.join(sources.root, sources.paths[file])  # noqa: PTH118 (bytes)
        if status == _gather.FILE_NOT_IMAGE:
            skipped.add("not an image", sources.names[file])
        elif status == _gather.FILE_IS_TARGET:
            skipped.add("the blob itself", sources.names[file])
        elif status == _gather.FILE_NOT_REGULAR:
            skipped.add("not a plain file", sources.names[file])
        elif status == _gather.FILE_CHANGED:
            unreadable.append((path, "changed while it was packed"))
        else:
            unreadable.append((path, os.strerror(error)))
    if unreadable:
        raise unreadable_error(unreadable)


# Payloads


def _chosen_payloads(
    payloads: Iterable[Payload], options: PackOptions, skipped: Skipped
) -> Iterator[tuple[bytes, bytes]]:
    """Check names, and leave out what is filtered or no image."""
    globs, exclude = globs_of(options)
    seen: set[bytes] = set()
    for name, payload in payloads:
        encoded = encode_name(name)
        check_name(encoded)
        if encoded in seen:
            raise DuplicateNameError(f"two payloads would both be member {name!r}")
        seen.add(encoded)
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
    progress: Progress | None,
    first: int,
    *,
    facts: bool,
) -> tuple[Index, int]:
    """Write payloads as members, in their order, the first one at a position."""
    members = []
    position = first
    for name, payload in payloads:
        header = member_header(name, len(payload))
        start = position + len(header)
        taken = _facts_of(name, payload) if facts else {}
        members.append(Member(os.fsdecode(name), start, start + len(payload), **taken))
        written = b"".join((header, payload, padding(len(payload))))
        position += len(written)
        if sink:
            sink.write(written)
        if progress and len(members) % 1000 == 0:
            progress(len(members), position - first)
    return Index(members), position


def _facts_of(name: bytes, payload: bytes) -> dict[str, Any]:
    facts = _facts.facts_of(payload, name)
    return facts._asdict() | {"media_type": media_type_of(facts.media_type) or "", "mtime": 0}
