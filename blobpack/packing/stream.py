"""Gather files for a stream, such as an upload: one slice at a time goes to a temporary file, and from there on.

Strategy: the native gather (_native/pack/gather.pyx) writes several members at the same time, each
at its own position, and a stream accepts bytes only in order. A pipe would need one thread that
keeps the order. Instead, slices of about 32 MiB are gathered into a file, and while one slice is
gathered, the threads of the upload send the parts before it. The temporary file has no name, and
never holds more than one slice, or one file that is larger.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack._native import gather as _gather
from blobpack.columns import Columns
from blobpack.errors import SourceError
from blobpack.packing.files import member_bytes_max
from blobpack.quoting import quoted
from blobpack.stores.sink import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack._native.results import Gathered, NotPacked
    from blobpack.packing.files import FileList
    from blobpack.progress import CountCallback
    from blobpack.stores.sink import Sink

# four parts of 8 MiB, which is what an upload sends at the same time (stores/s3/upload.py)
SLICE_BYTES = 32 << 20
# empty files have no bytes, so the number of files bounds a slice, too
SLICE_FILES = 65_536
# after one of these, no blob is made; all other statuses are reasons to skip a file
FATAL_STATUSES = (_gather.FILE_UNREADABLE, _gather.FILE_CHANGED)


def gather_slices(
    gather: Callable[..., Gathered],
    root_fd: int,
    files: FileList,
    sink: Sink,
    *,
    start: int,
    progress: CountCallback | None,
) -> tuple[Columns, int, int, list[NotPacked]]:
    """Gather files into a stream.

    Args:
        gather: The native gather function, with the arguments that are the same for each slice.
        root_fd: Descriptor of the folder that the paths are relative to.
        files: The files.
        sink: Receives the members.
        start: Position of the first member in the blob.
        progress: Called as progress(files, bytes).

    Returns:
        The members, the end of the last one, the error number of a failed write (0 if there was none) and the files
        that were not packed.
    """
    parts: list[Columns] = []
    not_packed: list[NotPacked] = []
    position, failed, sent = start, False, 0
    with parts_of(sink) as staged:
        for first, last in cut_slices(root_fd, files.paths):
            # arguments with defaults keep the values of this turn of the loop
            def show(files: int, size: int, first: int = first, sent: int = sent) -> None:
                if progress:
                    progress(first + files, sent + size)

            gathered = gather(
                root_fd,
                # After a file that can't be read, the other files are only read, so that the error
                # names all files that fail.
                -1 if failed else staged.fd,
                files.paths[first:last],
                files.names[first:last],
                start=position,
                progress=show,
            )
            parts.append(Columns(*gathered.members))
            for left in gathered.not_packed:
                # the native gather counts from the first file of its slice
                not_packed.append(left._replace(file=first + left.file))
                failed = failed or left.status in FATAL_STATUSES
            end = gathered.position
            if gathered.write_error:
                return parts[-1], end, gathered.write_error, not_packed
            if not failed:
                staged.finish(position, end)
            sent += end - position
            position = end
    return Columns.concatenate(parts), position, 0, not_packed


def cut_slices(root_fd: int, paths: list[bytes]) -> Iterator[tuple[int, int]]:
    """Cut a list of files into slices of about SLICE_BYTES; yield at least one slice, even if there are no files."""
    first = size = 0
    for i, path in enumerate(paths):
        size += file_bytes(path, root_fd)
        if size >= SLICE_BYTES or i + 1 - first >= SLICE_FILES:
            yield first, i + 1
            first, size = i + 1, 0
    # an empty slice makes an empty table of members with the right columns
    if first < len(paths) or not paths:
        yield first, len(paths)


def open_root(files: FileList) -> int:
    """Open the folder of the files, and return its descriptor.

    Raises:
        SourceError: the folder can't be opened.
    """
    root = files.root or b"."
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        path = os.fsdecode(root)
        raise SourceError(
            f"nothing was packed: folder {quoted(path)} can't be opened: {exc.strerror}",
            paths=(path,),
        ) from exc


def file_bytes(path: bytes, root_fd: int) -> int:
    """Return the size of a file, or 0 if it can't be found."""
    try:
        return os.stat(path, dir_fd=root_fd).st_size
    except OSError:
        # gathering the file fails, too, and reports the reason
        return 0


def total_bytes(files: FileList) -> int:
    """Return an upper bound for the bytes of a blob of these files, with headers and index."""
    # relative to a descriptor, so that the kernel does not look up the folder's path for each file again
    root_fd = open_root(files)
    try:
        return sum(
            member_bytes_max(name, file_bytes(path, root_fd))
            for path, name in zip(files.paths, files.names, strict=True)
        )
    finally:
        os.close(root_fd)
