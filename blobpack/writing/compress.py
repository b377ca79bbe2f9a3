"""A plain tar → the same tar as seekable zstd: frames cut where members end, compressed by several threads."""

from __future__ import annotations

import os
import threading
from mmap import ACCESS_READ, mmap
from typing import TYPE_CHECKING

from blobpack.model import check_number
from blobpack.stores.location import Location
from blobpack.stores.zstd_format import (
    INDEX_FRAME_MAGIC,
    NO_CONTENT_CHECKSUM,
    encode_seek_table,
    frame_checksum,
    skippable_header,
)
from blobpack.tar.header import BLOCK
from blobpack.threads import LookAhead, processor_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from blobpack.columns import Columns
    from blobpack.stores.sink import LocalSink, Sink

SUFFIXES = (".tar.zst", ".tzst")
LEVEL = 3
LEVEL_MAX = 22  # zstd's
FRAME_BYTES = 1 << 17
COMPRESSORS_MAX = 8
FRAMES_AHEAD = 4  # frames that each thread may be ahead of the writing


class FrameWriter:
    """Writes frames of one zstd stream to a file, in the order given, and a seek table behind them.

    The same frames at the same level give the same bytes, however many threads there are, with one version
    of zstd. A context manager: left without close, the file is not complete.
    """

    def __init__(self, file: Sink, level: int = LEVEL, *, threads: int | None = None) -> None:
        """Take a file, which must be at its start.

        Args:
            file: Written to from the calling thread only.
            level: Of zstd, 1 to 22.
            threads: How many compress; None for as many as there are processors, up to 8.

        Raises:
            ValueError: no level of zstd.
        """
        threads = threads or processor_count(COMPRESSORS_MAX)
        self._file = file
        self._level = check_level(level)
        # content bytes and frame
        self._compressed: LookAhead[tuple[int, bytes]] = LookAhead(threads, name="compress")
        self._of_thread = threading.local()
        self._ahead_max = threads * FRAMES_AHEAD
        self._frames: list[tuple[int, int, int]] = []
        self._written = 0

    def write_frame(self, content: bytes) -> None:
        """Compress bytes to a frame of their own, now or later."""
        self._compressed.submit(self._compress, content)
        if len(self._compressed) > self._ahead_max:
            self._write_next()

    def close(self, index_region: Buffer | None = None) -> int:
        """Write what waits, the index region in a frame of its own, and the seek table.

        Returns:
            The file's bytes.

        Raises:
            FormatError: the index region is larger than 4 GiB, which no frame can hold.
        """
        while self._compressed:
            self._write_next()
        if index_region is not None:
            region = memoryview(index_region).cast("B")
            header = skippable_header(INDEX_FRAME_MAGIC, len(region))
            self._write(header, 0, NO_CONTENT_CHECKSUM, region)
        table = encode_seek_table(self._frames)
        self._file.write(table)
        self._compressed.close()
        return self._written + len(table)

    def _compress(self, content: bytes) -> tuple[int, bytes]:
        compressor = getattr(self._of_thread, "compressor", None)
        if compressor is None:
            import zstandard

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

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._compressed.close()


def is_compressed_target(target: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a blob is to be compressed."""
    return Location.parse(target, prefix=True).text.lower().endswith(SUFFIXES)


def check_level(level: int) -> int:
    """Return a level that zstd has.

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
    *,
    threads: int | None = None,
    frame_bytes: int = FRAME_BYTES,
) -> int:
    """Compress a plain blob so that each of its members can be read without those before it.

    Args:
        tar: The blob: its archive, and behind it its index region, if there is one.
        columns: Its members, in archive order.
        archive_bytes: Where the archive ends.
        file: Where to, at its start.
        level: Of zstd, 1 to 22.
        threads: How many compress; None for as many as there are processors, up to 8.
        frame_bytes: The size that frames are cut around, before compression.

    Returns:
        The file's bytes.

    Raises:
        FormatError: the index region is larger than 4 GiB, which no frame can hold.
        StorageError: the file can't be written.
    """
    tar.flush()
    fd = tar.fileno()
    region_bytes = os.fstat(fd).st_size - archive_bytes
    skippable_header(INDEX_FRAME_MAGIC, region_bytes)  # before all the work
    ends = (end + -end % BLOCK for end in columns.offset_end)
    with FrameWriter(file, level, threads=threads) as writer:
        start = 0
        for end in cuts(ends, archive_bytes, frame_bytes):
            writer.write_frame(os.pread(fd, end - start, start))
            start = end
        if not region_bytes:
            return writer.close()
        region = memoryview(mmap(fd, 0, access=ACCESS_READ))[archive_bytes:]
        return writer.close(region)


def cuts(ends: Iterable[int], size: int, frame_bytes: int) -> Iterator[int]:
    """Choose where frames end: where a member does, as near to frame_bytes behind the last cut as may be.

    A member of more than frame_bytes has frames of its own, each of frame_bytes but the last.

    Args:
        ends: Where members end; one that is not behind the last is passed over.
        size: Where the archive does: the last cut, if there is anything to cut.
        frame_bytes: The size that frames are cut around.
    """
    cut = last = 0
    for end in ends:
        if end <= last:
            continue
        if end - last > frame_bytes:
            if last > cut:
                yield last
            yield from range(last + frame_bytes, end, frame_bytes)
            yield end
            cut = end
        elif end - cut >= frame_bytes:
            if last > cut and frame_bytes - (last - cut) <= end - cut - frame_bytes:
                yield last
                cut = last
            else:
                yield end
                cut = end
        last = end
    if size > cut:  # the last members, and the end of the archive: seldom more than one frame
        yield from range(cut + 2 * frame_bytes, size, 2 * frame_bytes)
        yield size
