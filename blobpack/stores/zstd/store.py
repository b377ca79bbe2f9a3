"""A blob compressed as seekable zstd, read as the decompressed tar.

Strategy: the seek table says which frames hold a range. One read fetches these frames, and they are decompressed whole.
Recently used frames are kept, because members that lie together are usually read together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import FormatError
from blobpack.recently_used import RecentlyUsed
from blobpack.stores.base import OPENING_TAIL_BYTES, Store
from blobpack.stores.zstd.format import SeekTable, decode_frame, decode_seek_table, seek_table_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_CACHE_BYTES = 1 << 24


class SeekableStore(Store):
    """A store of the tar in a seekable zstd file. Sizes and offsets are those of the decompressed tar.

    The index, if the file has one, follows the tar as in a plain blob; it is not compressed. Up to 16 MiB of
    decompressed frames are kept, or the last frame alone if it is larger. Closing this store closes the store of the
    file.

    Attributes:
        base: The store of the compressed file.
        table: Seek table of the file.
        content_bytes: Size of the decompressed tar in bytes.
    """

    is_compressed = True

    def __init__(self, base: Store, table: SeekTable) -> None:
        """Wrap the store of a compressed file.

        Args:
            base: The store of the compressed file.
            table: Seek table of the file; open_seekable reads it.
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
        # Offset of the index region in the file minus its offset here. Negative if compression saved bytes.
        self._region_shift = region_start - self.content_bytes
        self._frames: RecentlyUsed[int, bytes] = RecentlyUsed(FRAME_CACHE_BYTES)

    @property
    def stored_bytes(self) -> int:
        """Size of the compressed file in bytes."""
        return self.base.size

    def uncompressed(self, offset: int) -> tuple[Store, int]:
        """Return the store of the compressed file, and the offset in it of a byte of the index.

        Raises:
            FormatError: the byte belongs to the tar, which is compressed, so no index can begin there.
        """
        if offset < self.content_bytes:
            # The offset comes from a footer, which may be damaged or hostile.
            raise FormatError(
                f"{self.url}: its index begins at byte {offset}, within the tar", offset=offset
            )
        return self.base, offset + self._region_shift

    def fetch(self, start: int, end: int) -> bytes:
        """Read the frames that hold the bytes start to end, and decompress them."""
        return self._read(start, end, self.base.read_range)

    def forget(self, start: int, end: int) -> bool:
        """Drop the frames that hold these bytes from this store and the store of the file; see Store."""
        content_end = min(end, self.content_bytes)
        if start >= content_end:
            return self.base.forget(start + self._region_shift, end + self._region_shift)
        self._frames.clear()
        frames = self.table.frames_of(start, content_end)
        return self._forget_frames(frames[0], frames[-1])

    def _forget_frames(self, first: int, last: int) -> bool:
        bounds = self.table.frame_bounds
        return self.base.forget(bounds[first], bounds[last + 1])

    def peek(self, start: int, end: int) -> bytes:
        """Read the index region from the tail of the file if the tail holds it; otherwise like read_range. See Store."""
        if self.closed or not self.content_bytes <= start <= end <= self.size:
            return self.read_range(start, end)
        return self._read(start, end, self.base.peek)

    def _read(self, start: int, end: int, read: Callable[[int, int], bytes]) -> bytes:
        content_end = min(end, self.content_bytes)
        if start >= content_end:
            return read(start + self._region_shift, end + self._region_shift)
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
                # The damaged bytes came from a cache, which has dropped them. This time they are fetched.
                fresh = self._decompress(missing)
            for i, content in fresh.items():
                self._frames.put(i, content, len(content))
            contents |= fresh
        first = frames[0]
        # The usual case, without a copy by join: a frame holds several members.
        if len(frames) == 1 and end == content_end:
            return contents[first][start - bounds[first] : end - bounds[first]]
        # Frames without content are not decompressed, and are not in contents.
        parts = [memoryview(contents[i]) for i in frames if i in contents]
        parts[-1] = parts[-1][: content_end - bounds[frames[-1]]]
        parts[0] = parts[0][start - bounds[first] :]
        if end > content_end:
            parts.append(
                memoryview(read(content_end + self._region_shift, end + self._region_shift))
            )
        return b"".join(parts)

    def _decompress(self, frames: list[int]) -> dict[int, bytes]:
        """Decompress frames, which are fetched by one read together with the bytes between them.

        Raises:
            FormatError: a frame is damaged; `offset` is the start of its content in the tar.
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
        """Close the store of the file, and drop the decompressed frames. Closing twice is harmless."""
        super().close()
        self._frames.clear()
        self.base.close()

    def __reduce__(self) -> tuple[Callable[..., SeekableStore], tuple[Store, SeekTable]]:
        return SeekableStore, (self.base, self.table)


def open_seekable(store: Store, tail_bytes: int = OPENING_TAIL_BYTES) -> SeekableStore | None:
    """Open a store of the decompressed tar, if the file is seekable zstd.

    This reads the end of the file once, and a second time if the seek table is longer than that.

    Args:
        store: The store of the file; closing the result closes it.
        tail_bytes: Number of bytes of the first read.

    Returns:
        A store of the decompressed tar; None if the file does not end with a seek table.

    Raises:
        FormatError: the seek table is damaged.
        StorageError: the file can't be read.
    """
    try:
        try:
            table = _read_seek_table(store, tail_bytes)
        except FormatError:
            if not store.forget(max(0, store.size - tail_bytes), store.size):
                raise
            table = _read_seek_table(store, tail_bytes)
    except FormatError as exc:
        raise type(exc)(f"{store.url}: {exc}", offset=exc.offset) from exc
    return None if table is None else SeekableStore(store, table)


def _read_seek_table(store: Store, tail_bytes: int) -> SeekTable | None:
    tail = store.peek(max(0, store.size - tail_bytes), store.size)
    size = seek_table_bytes(tail, store.size)
    if size is None:
        return None
    if size > len(tail):
        # The second read also fetches the end of an index in front of the table: its footer is read next.
        start = max(0, store.size - size - tail_bytes)
        tail = store.read_range(start, store.size - len(tail)) + tail
        # Only if the store keeps a tail: reading a local file again costs little.
        if store.tail:
            store.tail = tail
    return decode_seek_table(tail[len(tail) - size :], store.size)
