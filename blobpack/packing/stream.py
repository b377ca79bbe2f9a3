"""Files gathered natively for a stream: a slice at a time into a temporary file, and from there on.

The native gather writes members side by side, each at its place, which a stream can't take. A pipe would put
one thread in charge of the order; slices of some 32 MiB keep the gather as it is, and while one is gathered,
parts of those before go up. The temporary file has no name, and never more than a slice, or one large file.
"""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from blobpack._native import gather as _gather
from blobpack.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack._native.results import Gathered, NotPacked
    from blobpack.model import Progress
    from blobpack.packing.files import FileList
    from blobpack.stores.sink import Sink

SLICE_BYTES = 32 << 20
SLICE_FILES = 65_536
SINK_WRITE_BYTES = 1 << 20
FATAL_STATUSES = (_gather.FILE_UNREADABLE, _gather.FILE_CHANGED)


def gather_slices(
    gather: Callable[..., Gathered],
    root_fd: int,
    sources: FileList,
    sink: Sink,
    *,
    start: int,
    progress: Progress | None,
) -> tuple[Columns, int, int, list[NotPacked]]:
    """Gather files into a stream.

    Args:
        gather: _gather.gather, all but what follows.
        root_fd: The folder that the files' paths start from.
        sources: The files. Once one of them can't be read, the others are only tried.
        sink: Takes the members.
        start: Where in the blob the first one is.
        progress: progress(files, bytes).

    Returns:
        The same as gather, the rows as Columns.
    """
    parts: list[Columns] = []
    not_packed: list[NotPacked] = []
    position, failed, sent = start, False, 0
    with TemporaryFile() as buffer:
        for first, last in cut_slices(root_fd, sources.paths):

            def show(files: int, size: int, first: int = first, sent: int = sent) -> None:
                if progress:
                    progress(first + files, sent + size)

            gathered = gather(
                root_fd,
                -1 if failed else buffer.fileno(),
                sources.paths[first:last],
                sources.names[first:last],
                start=position,
                progress=show,
            )
            parts.append(Columns(*gathered.members))
            for left in gathered.not_packed:
                not_packed.append(left._replace(file=first + left.file))
                failed = failed or left.status in FATAL_STATUSES
            end = gathered.position
            if gathered.write_error:
                return parts[-1], end, gathered.write_error, not_packed
            if not failed:
                _send(buffer.fileno(), position, end, sink)
                os.ftruncate(buffer.fileno(), 0)
            sent += end - position
            position = end
    return Columns.concatenate(parts), position, 0, not_packed


def cut_slices(root_fd: int, paths: list[bytes]) -> Iterator[tuple[int, int]]:
    """Part files into runs of so many bytes or files; at least one run."""
    first = size = 0
    for i, path in enumerate(paths):
        size += file_bytes(path, root_fd)
        if size >= SLICE_BYTES or i + 1 - first >= SLICE_FILES:
            yield first, i + 1
            first, size = i + 1, 0
    if first < len(paths) or not paths:
        yield first, len(paths)


def file_bytes(path: bytes, root_fd: int) -> int:
    """Ask for a file's size; 0 where it can't be had: gathering it tells why."""
    try:
        return os.stat(path, dir_fd=root_fd).st_size
    except OSError:
        return 0


def total_bytes(sources: FileList) -> int:
    """Add up what members of these files take at most, with headers and index."""
    root_fd = os.open(sources.root or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        payloads = sum(file_bytes(path, root_fd) for path in sources.paths)
    finally:
        os.close(root_fd)
    return payloads + sum(3072 + 2 * len(name) for name in sources.names)


def _send(fd: int, start: int, end: int, sink: Sink) -> None:
    for pos in range(start, end, SINK_WRITE_BYTES):
        sink.write(os.pread(fd, min(SINK_WRITE_BYTES, end - pos), pos))
