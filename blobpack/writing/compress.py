"""Write a plain tar as seekable zstd.

Strategy: the tar is cut into frames of about 128 KiB that end where members end, so that one member is read by
decompressing one frame. Frames are independent, so several threads compress them; one thread writes them in order.
"""

from __future__ import annotations

import os
import threading
from mmap import ACCESS_READ, mmap
from typing import TYPE_CHECKING

from blobpack.closing import Closing
from blobpack.look_ahead import LookAhead
from blobpack.model import check_number
from blobpack.stores.descriptor import read_at
from blobpack.stores.location import Location
from blobpack.stores.zstd.format import (
    INDEX_FRAME_MAGIC,
    NO_CONTENT_CHECKSUM,
    encode_seek_table,
    frame_checksum,
    skippable_header,
)
from blobpack.tar.header import BLOCK
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from blobpack.columns import Columns
    from blobpack.stores.sink import LocalSink, Sink

COMPRESSED_SUFFIXES = (".tar.zst", ".tzst")
# the default of zstd itself
LEVEL = 3
# the highest level of zstd
LEVEL_MAX = 22
# Larger frames gain almost nothing, and a read fetches and decompresses a whole frame. Smaller frames need a larger
# seek table, 12 bytes a frame, which is read when a blob is opened. docs/guides/compression.md has the measurements.
FRAME_BYTES = 1 << 17
COMPRESSORS_MAX = 8
# Frames for each thread that may wait to be written. They bound the memory if the disk is slower than zstd.
FRAMES_AHEAD = 4


class FrameWriter(Closing):
    """Writes zstd frames to a file, in the order given, and a seek table behind them.

    With one version of zstd, equal frames at one level give equal bytes, whatever the number of threads. A context
    manager: if its block ends without close, the file is not complete.
    """

    def __init__(self, file: Sink, level: int = LEVEL) -> None:
        """Prepare to write to a file.

        Args:
            file: The file, at its start. Only the calling thread writes to it.
            level: Compression level, 1 to 22.

        Raises:
            TypeError: the level is no whole number.
            ValueError: zstd has no such level.
        """
        threads = processor_count(COMPRESSORS_MAX)
        self._file = file
        self._level = check_level(level)
        # each result: bytes of the content, and the frame
        self._compressed: LookAhead[tuple[int, bytes]] = LookAhead(threads, name="compress")
        # a compressor can't be shared: zstandard's objects are not safe to use from two threads at once
        self._of_thread = threading.local()
        self._ahead_max = threads * FRAMES_AHEAD
        self._frames: list[tuple[int, int, int]] = []
        self._written = 0

    def write_frame(self, content: bytes) -> None:
        """Hand content over to be compressed to one frame; perhaps write the frame that is due next."""
        self._compressed.submit(self._compress, content)
        if len(self._compressed) > self._ahead_max:
            self._write_next()

    def finish(self, index_region: Buffer | None = None) -> int:
        """Write the frames that wait, the index region in a frame of its own, and the seek table.

        Args:
            index_region: The index, from header to footer; None for a blob without an index inside.

        Returns:
            Bytes of the whole file.

        Raises:
            FormatError: the index region is larger than 4 GiB, which no frame can hold.
        """
        while self._compressed:
            self._write_next()
        if index_region is not None:
            region = memoryview(index_region).cast("B")
            header = skippable_header(INDEX_FRAME_MAGIC, len(region))
            # The seek table must list this frame, too, or the offsets of all frames would be wrong: the format lists
            # a skippable frame with 0 bytes of content.
            self._write(header, 0, NO_CONTENT_CHECKSUM, region)
        table = encode_seek_table(self._frames)
        self._file.write(table)
        self._compressed.close()
        return self._written + len(table)

    def _compress(self, content: bytes) -> tuple[int, bytes]:
        compressor = getattr(self._of_thread, "compressor", None)
        if compressor is None:
            import zstandard

            # The checksum also goes into the seek table. The content's size lets a reader allocate once.
            compressor = zstandard.ZstdCompressor(
                level=self._level, write_checksum=True, write_content_size=True
            )
            self._of_thread.compressor = compressor
        frame: bytes = compressor.compress(content)
        return len(content), frame

    def _write_next(self) -> None:
        content_bytes, frame = self._compressed.pop()
        self._write(frame, content_bytes, frame_checksum(frame))

    def _write(
        self, frame: bytes, content_bytes: int, checksum: int, rest: Buffer | memoryview = b""
    ) -> None:
        self._file.write(frame)
        self._file.write(rest)
        frame_bytes = len(frame) + len(memoryview(rest))
        self._frames.append((frame_bytes, content_bytes, checksum))
        self._written += frame_bytes

    def close(self) -> None:
        """Cancel the compression of frames that were not written."""
        self._compressed.close()


def is_compressed_target(target: str | os.PathLike[str]) -> bool:
    """Return whether a blob is to be compressed, by the suffix of its name."""
    return Location.parse(target, prefix=True).text.lower().endswith(COMPRESSED_SUFFIXES)


def check_level(level: int) -> int:
    """Return the level if zstd has it.

    Raises:
        TypeError: the level is no whole number.
        ValueError: zstd has no such level.
    """
    check_number("level", level, 1, LEVEL_MAX)
    return level


def compress_blob(
    tar: LocalSink,
    columns: Columns,
    archive_bytes: int,
    file: Sink,
    level: int = LEVEL,
) -> int:
    """Compress a plain blob so that each member can be read without the members before it.

    Args:
        tar: The plain blob: the archive, and behind it the index region, if there is one.
        columns: The members of the blob, in archive order.
        archive_bytes: Where the archive ends in the plain blob.
        file: The file or object to write, at its start.
        level: Compression level, 1 to 22.

    Returns:
        Bytes of the compressed blob.

    Raises:
        FormatError: the index region is larger than 4 GiB, which no frame can hold.
        StorageError: the file can't be written.
    """
    tar.flush()
    fd = tar.fileno()
    region_bytes = os.fstat(fd).st_size - archive_bytes
    # raises for an index that is too large, before the work of compressing everything
    skippable_header(INDEX_FRAME_MAGIC, region_bytes)
    ends = (end + -end % BLOCK for end in columns.offset_end)
    with FrameWriter(file, level) as writer:
        start = 0
        for end in frame_ends(ends, archive_bytes, FRAME_BYTES):
            writer.write_frame(read_at(fd, start, end))
            start = end
        if not region_bytes:
            return writer.finish()
        # mapped, not read: an index may take up to 4 GiB
        region = memoryview(mmap(fd, 0, access=ACCESS_READ))[archive_bytes:]
        return writer.finish(region)


def frame_ends(ends: Iterable[int], size: int, frame_bytes: int) -> Iterator[int]:
    """Choose where frames end: at the end of the member that brings the frame's size nearest to frame_bytes.

    A member of more than frame_bytes gets frames of its own: all but the last one have frame_bytes.

    Args:
        ends: Where members end with their padding; an end that is not behind the one before it is ignored.
        size: Where the archive ends; this is the last end of a frame, unless it is 0.
        frame_bytes: Aim for the size of a frame's content.

    Yields:
        Ends of frames, ascending, as offsets in the tar.
    """
    # `cut` is the end of the last frame, `last` the end of the last member
    cut = last = 0
    for end in ends:
        # A hard link has the range of its target, which was seen before.
        if end <= last:
            continue
        # A large member: its frames begin with it, so that reading a part of it decompresses only that part.
        if end - last > frame_bytes:
            if last > cut:
                yield last
            yield from range(last + frame_bytes, end, frame_bytes)
            yield end
            cut = end
        elif end - cut >= frame_bytes:
            # With this member the frame is too large. Without it, is it nearer to its aim?
            if last > cut and frame_bytes - (last - cut) <= end - cut - frame_bytes:
                yield last
                cut = last
            else:
                yield end
                cut = end
        last = end
    # The last members and the end of the archive, usually one frame. Folders without rows in the index may make it longer.
    if size > cut:
        yield from range(cut + 2 * frame_bytes, size, 2 * frame_bytes)
        yield size
