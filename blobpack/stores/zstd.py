"""A blob compressed as seekable zstd, read as the tar that it decompresses to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import FormatError
from blobpack.stores.base import TAIL_BYTES, Store
from blobpack.stores.zstd_format import SeekTable, decode_frame, decode_seek_table, seek_table_bytes
from blobpack.threads import RecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE_BYTES = 1 << 24


class SeekableStore(Store):
    """A seekable zstd file as the blob that was compressed: sizes and offsets are those of the tar inside.

    The index region, if the file has one, follows the tar as in a plain blob; in the file it is not compressed. A
    range is one read of the frames that cover it. Up to 16 MiB of decompressed frames are kept, or the last frame
    if it alone is larger, so that members which lie together are decompressed once. Closing the store closes the
    store of the file.

    Attributes:
        base: The store of the compressed file.
        table: Its seek table.
        content_bytes: Bytes of the tar.
    """

    is_compressed = True

    def __init__(self, base: Store, table: SeekTable, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Join the store of a file and the file's seek table.

        Args:
            base: The store of the compressed file.
            table: Its seek table; open_seekable reads it.
            cache_bytes: Bytes of decompressed frames that are kept.
        """
        self.url = base.url
        self.version = base.version
        self.base: Store = base
        self.location, self.is_remote = base.location, base.is_remote
        self.counters, self.cache = base.counters, base.cache
        self.table = table
        self.content_bytes = table.content_bytes
        region_start, region_end = table.index_range() or (base.size, base.size)
        self.size = self.content_bytes + region_end - region_start
        # the file's offset of the index region, less ours; negative if compression saved bytes
        self._behind = region_start - self.content_bytes
        self._cache_bytes = cache_bytes
        self._frames: RecentlyUsed[int, bytes] = RecentlyUsed(cache_bytes)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the compressed file."""
        return self.base.size

    def uncompressed(self, offset: int) -> tuple[Store, int]:
        """Return the compressed file's store, and where in it a byte of the index lies.

        Raises:
            FormatError: the byte is one of the tar, which is compressed: no index can begin there.
        """
        if offset < self.content_bytes:
            raise FormatError(
                f"{self.url}: its index begins at byte {offset}, within the tar", offset=offset
            )
        return self.base, offset + self._behind

    def fetch(self, start: int, end: int) -> bytes:
        """Decompress the bytes start to end."""
        return self._read(start, end, self.base.read_range)

    def forget(self, start: int, end: int) -> bool:
        """Drop the frames that hold these bytes, here and in the store of the file; see Store."""
        content_end = min(end, self.content_bytes)
        if start >= content_end:
            return self.base.forget(start + self._behind, end + self._behind)
        self._frames.clear()
        frames = self.table.frames_of(start, content_end)
        return self._forget_frames(frames[0], frames[-1])

    def _forget_frames(self, first: int, last: int) -> bool:
        bounds = self.table.frame_bounds
        return self.base.forget(bounds[first], bounds[last + 1])

    def peek(self, start: int, end: int) -> bytes:
        """Read the index region without a request if the file's tail holds it; else as read_range. See Store."""
        if self.closed or not self.content_bytes <= start <= end <= self.size:
            return self.read_range(start, end)
        return self._read(start, end, self.base.peek)

    def _read(self, start: int, end: int, read: Callable[[int, int], bytes]) -> bytes:
        content_end = min(end, self.content_bytes)
        if start >= content_end:
            return read(start + self._behind, end + self._behind)
        bounds = self.table.content_bounds
        frames = self.table.frames_of(start, content_end)
        contents = self._frames.get_many(frames)
        missing = [i for i in frames if i not in contents and bounds[i] < bounds[i + 1]]
        if missing:
            try:
                fresh = self._decompress(missing)
            except FormatError:
                if not self._forget_frames(missing[0], missing[-1]):
                    raise
                # the cache had kept damaged bytes; now they are fetched
                fresh = self._decompress(missing)
            for i, content in fresh.items():
                self._frames.put(i, content, len(content))
            contents |= fresh
        first = frames[0]
        if len(frames) == 1 and end == content_end:
            return contents[first][start - bounds[first] : end - bounds[first]]
        parts = [memoryview(contents[i]) for i in frames if i in contents]
        parts[-1] = parts[-1][: content_end - bounds[frames[-1]]]
        parts[0] = parts[0][start - bounds[first] :]
        if end > content_end:
            parts.append(memoryview(read(content_end + self._behind, end + self._behind)))
        return b"".join(parts)

    def _decompress(self, frames: list[int]) -> dict[int, bytes]:
        """Read frames, and all that lies between them, in one read, and decompress them.

        Raises:
            FormatError: a frame is damaged; `offset` is where its content begins in the tar.
        """
        table = self.table
        begin = table.frame_bounds[frames[0]]
        compressed = memoryview(self.base.read_range(begin, table.frame_bounds[frames[-1] + 1]))
        contents = {}
        for i in frames:
            start, end = table.frame_bounds[i], table.frame_bounds[i + 1]
            offset = table.content_bounds[i]
            checksum = table.checksums[i] if table.checksums is not None else None
            frame = bytes(compressed[start - begin : end - begin])
            try:
                contents[i] = decode_frame(frame, table.content_bounds[i + 1] - offset, checksum)
            except FormatError as exc:
                raise type(exc)(
                    f"{self.url}: zstd frame {i}, the file's bytes {start} to {end}: {exc}, "
                    f"at byte {offset}",
                    offset=offset,
                ) from exc
        return contents

    def close(self) -> None:
        """Close the store of the file, and drop the frames; closing twice is harmless."""
        super().close()
        self._frames.clear()
        self.base.close()

    def __reduce__(self) -> tuple[Callable[..., SeekableStore], tuple[Store, SeekTable, int]]:
        return _reopen, (self.base, self.table, self._cache_bytes)


def open_seekable(store: Store, tail_bytes: int = TAIL_BYTES) -> SeekableStore | None:
    """Open what a file decompresses to, if it is seekable zstd.

    That takes one read of the file's end, and a second one if the seek table is longer. The second read also fetches
    the end of an index that lies before the table.

    Args:
        store: The store of the file; closing the result closes it.
        tail_bytes: Bytes of the first read.

    Returns:
        A store of the decompressed stream; None if the file does not end in a seek table.

    Raises:
        FormatError: the seek table is damaged.
        StorageError: the file can't be read.
    """
    tail = store.peek(max(0, store.size - tail_bytes), store.size)
    try:
        size = seek_table_bytes(tail, store.size)
        if size is None:
            return None
        if size > len(tail):
            start = max(0, store.size - size - tail_bytes)
            tail = store.read_range(start, store.size - len(tail)) + tail
            if store.tail:
                store.tail = tail
        return SeekableStore(store, decode_seek_table(tail[len(tail) - size :], store.size))
    except FormatError as exc:
        raise type(exc)(f"{store.url}: {exc}", offset=exc.offset) from exc


def _reopen(base: Store, table: SeekTable, cache_bytes: int) -> SeekableStore:
    return SeekableStore(base, table, cache_bytes=cache_bytes)
