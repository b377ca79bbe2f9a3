"""A cache on disk for the bytes that are read from remote blobs.

Strategy: a blob is divided into blocks of 256 KiB, and each block has one file. Whatever range is read, exactly its
bytes are appended to the files of its blocks, as records:

    b"BPc1" · offset in the blob, uint64 · number of bytes, uint32 · CRC-32C of offset, number and payload, uint32 · payload

The files lie in a folder whose name is a hash of the blob's URL, version and size, so versions are never mixed. Each
record is one write with O_APPEND, so processes can write at the same time without a lock. Each record that is read is
checked: if a file is truncated, damaged or interleaved, it is deleted, and its bytes are fetched again. The mtime of a
file is the time of its last use, to the minute. If the cache grows too large, the least recently used files are evicted
under a lock. Errors of the disk are logged and never raised, because the bytes can be fetched. If the folder itself
can't be made or written, this is logged once as a warning.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.model import CACHE_BYTES_MIN
from blobpack.plan import merged_ranges
from blobpack.stores.base import Store
from blobpack.stores.descriptor import read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


log = logging.getLogger(__name__)

# All files are in this folder of the user's folder, and nothing outside it is ever deleted. 1 is the format's version.
CACHE_SUBFOLDER = "blobpack-1"
RECORD_MAGIC = b"BPc1"
# Offset and number of bytes, and the header that holds them as its second field.
RECORD_RANGE = struct.Struct("<QI")
RECORD_HEADER = struct.Struct("<4s12sI")
CACHE_BLOCK_BYTES = 1 << 18
# A record is checked whole. With longer records, reading a few bytes of one would cost more.
RECORD_BYTES_MAX = 1 << 16
# A file may hold a range twice, if two processes read the range at the same time.
BLOCK_FILE_BYTES_MAX = 4 * CACHE_BLOCK_BYTES
BLOCK_FILES_IN_FOLDER = 256
# If fewer cached bytes lie between two missing ranges, they are fetched again: a second request would cost more.
CACHED_GAP_BYTES_MAX = 1 << 17
# Blocks whose records are remembered: 1 GiB of a blob.
BLOCKS_KNOWN_MAX = 4096
# The mtime is updated at most once a minute, so that most reads do not change the file's inode.
LAST_USE_PRECISION_S = 60
# All files are listed after each sixteenth of the cache's size that was written. Eviction starts at seven eighths,
# which leaves a sixteenth for what is written until the next listing, and a sixteenth for the read after that.
EVICTION_SHARE = 16
HIGH_WATER = 0.875
LOW_WATER = 0.75
# A file occupies whole blocks of the disk.
DISK_BLOCK_BYTES = 4096
LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder for the bytes that are read from remote blobs.

    Attributes:
        folder: Path of the folder, which is created if it does not exist.
        max_bytes: Largest size of all files together. A single read of more than a sixteenth of it is not cached.
            Each process that writes at the same time may exceed it by another sixteenth.
    """

    folder: str | os.PathLike[str]
    max_bytes: int = 10 << 30

    def around(self, store: Store) -> CachingStore:
        """Wrap a store in one that caches what is read."""
        return CachingStore(store, self)


@dataclass(frozen=True, slots=True)
class BlockRecords:
    """The records in the file of one block, as far as the file was parsed.

    Attributes:
        inode: Inode number of the file. A file of another number at the same path must be parsed again.
        parsed_bytes: Number of bytes that were parsed.
        records: (start, end, position in the file) of each record, sorted by start. Start and end are offsets in the
            blob.
    """

    inode: int
    parsed_bytes: int
    records: tuple[tuple[int, int, int], ...]


# Folders that a warning has named.
_warned: set[Path] = set()


def _warn_of_disk(folder: Path, exc: OSError) -> None:
    """Log that a folder can't be written: once as a warning, because the user pays for requests, then for debugging."""
    level = logging.DEBUG if folder in _warned else logging.WARNING
    _warned.add(folder)
    log.log(level, "%s: bytes can't be cached, and reading goes on without: %s", folder, exc)


class DamagedError(Exception):
    """The file of a block is damaged."""


class CachingStore(Store):
    """A store that fetches bytes once, and then reads them from a folder that several processes may share.

    Cached bytes are of the version that the wrapped store opened. They are returned without a request, even if the blob
    has changed meanwhile. The change is noticed when bytes that are not cached are read, or when the blob is opened
    again. Closing this store closes the wrapped store.
    """

    def __init__(self, base: Store, cache: Cache) -> None:
        """Wrap a store.

        Args:
            base: The wrapped store. Its version must distinguish one state of the blob from another.
            cache: Folder and size of the cache; several stores may share it.

        Raises:
            ValueError: the cache may hold less than 1 MiB.
        """
        max_bytes = cache.max_bytes
        if max_bytes < CACHE_BYTES_MIN:
            raise ValueError(
                f"max_bytes of a cache must be at least {CACHE_BYTES_MIN} bytes, not {max_bytes}"
            )
        self.url, self.size, self.version = base.url, base.size, base.version
        self.base: Store = base
        self.location, self.is_remote = base.location, base.is_remote
        self.counters = base.counters
        self.tail = base.tail
        self._root = Path(cache.folder).absolute() / CACHE_SUBFOLDER
        # The absolute folder, for pickling: the process that unpickles may have another working directory.
        self.cache: Cache = Cache(self._root.parent, max_bytes)
        self._max_bytes = max_bytes
        # with its query, which may choose between blobs
        whole = self.location.whole if self.location else self.url
        blob_id = f"{whole}\n{self.version}\n{self.size}".encode("utf-8", "surrogateescape")
        # Paths are strings in this module: building a Path takes 4 µs, and reading a record takes 2 to 6.
        self._prefix = f"{self._root}/{hashlib.sha256(blob_id).hexdigest()[:32]}/"
        self._blocks: dict[int, BlockRecords] = {}
        # So the first write looks at the size of the cache, which may be left from earlier runs.
        self._unlisted_bytes = max_bytes
        # Cached for stores that open this version without a tail, in a worker process for example.
        if self.tail:
            start = self.size - len(self.tail)
            for begin, end in self._read_cached(start, self.size)[1]:
                self._write(begin, self.tail[begin - start : end - start])

    def holds(self, start: int, end: int) -> bool:
        """Return whether the folder holds all of these bytes."""
        return not self._read_cached(start, end)[1]

    def forget(self, start: int, end: int) -> bool:
        """Delete the files of the blocks of these bytes, because a checksum found the bytes wrong; see Store."""
        had_some = super().forget(start, end)
        had_some |= self.base.forget(start, end)
        for block, _, _ in split_by_blocks(start, end):
            self._blocks.pop(block, None)
            try:
                os.unlink(self._path(block))  # noqa: PTH108 (all paths are strings)
            except FileNotFoundError:
                continue
            except OSError as exc:
                log.debug("%s: a damaged file can't be deleted: %s", self._root, exc)
                continue
            had_some = True
        return had_some

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end from the folder, and those that are missing there from the wrapped store."""
        pieces, missing = self._read_cached(start, end)
        if not missing and len(pieces) == 1:
            return bytes(pieces[0][1])
        for begin, stop in merged_ranges(
            missing, max_gap_bytes=CACHED_GAP_BYTES_MAX, max_bytes=self.size
        ):
            content = self.base.read_range(begin, stop)
            self._write(begin, content)
            # The usual case for bytes that are read for the first time, without a copy.
            if (begin, stop) == (start, end):
                return content
            pieces.append((begin, memoryview(content)))
        whole = bytearray(end - start)
        for begin, piece in pieces:
            whole[begin - start : begin - start + len(piece)] = piece
        return bytes(whole)

    def _read_cached(
        self, start: int, end: int
    ) -> tuple[list[tuple[int, memoryview]], list[tuple[int, int]]]:
        """Read the cached pieces of a range.

        Returns:
            The pieces with their offsets in the blob, and the ranges that are missing.
        """
        pieces: list[tuple[int, memoryview]] = []
        missing: list[tuple[int, int]] = []
        for block, begin, stop in split_by_blocks(start, end):
            pos = begin
            for at, piece in self._read_block(block, begin, stop):
                if at > pos:
                    missing.append((pos, at))
                pieces.append((at, piece))
                pos = at + len(piece)
            if pos < stop:
                missing.append((pos, stop))
        return pieces, missing

    def _read_block(self, block: int, start: int, end: int) -> list[tuple[int, memoryview]]:
        """Read the cached pieces of a range in one block, in order and without overlaps."""
        path = self._path(block)
        # Opened for each read: an open file would keep its space on the disk after another process has evicted it.
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            records = self._find_records(block, fd)
            pieces = []
            pos = start
            for record in covering_records(records, start, end):
                payload = read_record(fd, record)
                begin = max(record[0], pos)
                stop = min(record[1], end)
                pieces.append((begin, payload[begin - record[0] : stop - record[0]]))
                pos = stop
        except (OSError, DamagedError) as exc:
            log.debug("%s: deleted, and its bytes are fetched again: %s", path, exc)
            self._blocks.pop(block, None)
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (all paths are strings)
            return []
        finally:
            os.close(fd)
        return pieces

    def _find_records(self, block: int, fd: int) -> tuple[tuple[int, int, int], ...]:
        """Return the records in a block's file; only bytes appended since the last time are parsed."""
        found = os.fstat(fd)
        now = time.time()
        # An mtime in the future, set by another clock, would protect the file from eviction.
        if not -LAST_USE_PRECISION_S < now - found.st_mtime < LAST_USE_PRECISION_S:
            # The file may belong to another user, or the disk may be read-only.
            with suppress(OSError):
                os.utime(fd, (now, now))
        known = self._blocks.get(block)
        if known is None or known.inode != found.st_ino or known.parsed_bytes > found.st_size:
            known = BlockRecords(found.st_ino, 0, ())
        if known.parsed_bytes < found.st_size:
            appended = parse_records(fd, known.parsed_bytes, found.st_size, block)
            records = tuple(sorted({*known.records, *appended}))
            known = BlockRecords(found.st_ino, found.st_size, records)
            # Clearing all is enough: parsing a file again takes one read of it.
            if len(self._blocks) >= BLOCKS_KNOWN_MAX:
                self._blocks.clear()
            self._blocks[block] = known
        return known.records

    def _write(self, start: int, content: bytes) -> None:
        """Append bytes that were read to the files of their blocks."""
        # One long read, such as a download of the whole blob, would evict everything else.
        if len(content) > self._max_bytes // EVICTION_SHARE:
            return
        view = memoryview(content)
        try:
            for block, begin, end in split_by_blocks(start, start + len(content)):
                self._append(block, begin, view[begin - start : end - start])
            if self._unlisted_bytes > self._max_bytes // EVICTION_SHARE and self._evict():
                self._unlisted_bytes = 0
        except OSError as exc:
            _warn_of_disk(self._root, exc)

    def _append(self, block: int, start: int, payload: memoryview) -> None:
        """Append records to the file of a block."""
        path = self._path(block)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o666)
        # Here, not when the store is made: without a right to write, the folder may still be one to read from.
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o666)
        try:
            # The file holds the block several times over. Deleted, it starts again at the next write.
            if os.fstat(fd).st_size > BLOCK_FILE_BYTES_MAX:
                os.unlink(path)  # noqa: PTH108 (all paths are strings)
                return
            for at in range(0, len(payload), RECORD_BYTES_MAX):
                piece = bytes(payload[at : at + RECORD_BYTES_MAX])
                place = RECORD_RANGE.pack(start + at, len(piece))
                checksum = crc32c(piece, crc32c(place))
                record = RECORD_HEADER.pack(RECORD_MAGIC, place, checksum) + piece
                # In one write: with O_APPEND no other write can come in between (POSIX.1-2017, write). If the disk is
                # full, a part is written, and whoever reads it would delete the file.
                if os.write(fd, record) < len(record):
                    os.unlink(path)  # noqa: PTH108 (all paths are strings)
                    return
                # Without a lock: threads may lose a little of the count, and eviction comes a little later.
                self._unlisted_bytes += len(record)
        finally:
            os.close(fd)

    def _path(self, block: int) -> str:
        return f"{self._prefix}{block // BLOCK_FILES_IN_FOLDER:x}/{block:x}"

    def _evict(self) -> bool:
        """Delete the least recently used files if the cache is too large.

        Returns:
            False if another process is doing this now.
        """
        with (self._root / LOCK_NAME).open("wb") as lock:
            # The lock ends with the process, so a killed process does not block eviction.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            files = sorted(list_cache_files(self._root))
            total = sum(size for _, size, _ in files)
            if total > HIGH_WATER * self._max_bytes:
                for _, size, path in files:
                    if total <= LOW_WATER * self._max_bytes:
                        break
                    with suppress(OSError):
                        os.unlink(path)  # noqa: PTH108 (all paths are strings)
                    # It fails while the folder holds another file.
                    with suppress(OSError):
                        os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120 (all paths are strings)
                    total -= size
            return True

    def close(self) -> None:
        """Close the wrapped store. Closing twice is harmless."""
        super().close()
        self.base.close()

    def __reduce__(self) -> tuple[Callable[..., CachingStore], tuple[Store, Cache]]:
        return CachingStore, (self.base, self.cache)


def split_by_blocks(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Split a range at the bounds of blocks; yield the number of each block, and the part of the range in it."""
    while start < end:
        block = start // CACHE_BLOCK_BYTES
        stop = min(end, (block + 1) * CACHE_BLOCK_BYTES)
        yield block, start, stop
        start = stop


def covering_records(
    records: tuple[tuple[int, int, int], ...], start: int, end: int
) -> Iterator[tuple[int, int, int]]:
    """Choose few records that cover as much of a range as all records do, in the order of their starts."""
    # Greedy: of the records that begin at or before the position reached, take the one that reaches furthest.
    pos = start
    best: tuple[int, int, int] | None = None
    for record in records:
        if record[0] >= end:
            break
        if best is not None and record[0] > pos:
            yield best
            pos, best = best[1], None
            if pos >= end:
                return
        if record[1] > max(pos, record[0], best[1] if best else 0):
            if record[0] > pos:
                pos = record[0]
            best = record
    if best is not None:
        yield best


def parse_records(fd: int, start: int, end: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Parse the headers of the records in a part of a block's file.

    Raises:
        DamagedError: the part holds something else.
    """
    content = read_at(fd, start, end)
    pos = 0
    while pos < len(content):
        if len(content) - pos < RECORD_HEADER.size:
            raise DamagedError(f"the record at byte {start + pos} is cut")
        magic, place, _ = RECORD_HEADER.unpack_from(content, pos)
        offset, size = RECORD_RANGE.unpack(place)
        # The checksum is compared when the record is read. Most reads need few of the payloads in a file.
        if magic != RECORD_MAGIC or offset // CACHE_BLOCK_BYTES != block or size > RECORD_BYTES_MAX:
            raise DamagedError(f"there is no record at byte {start + pos}")
        if size > len(content) - pos - RECORD_HEADER.size:
            raise DamagedError(f"the record at byte {start + pos} is cut")
        yield offset, offset + size, start + pos
        pos += RECORD_HEADER.size + size


def read_record(fd: int, record: tuple[int, int, int]) -> memoryview:
    """Read the payload of a record.

    Raises:
        DamagedError: the record is cut, or its checksum is wrong.
    """
    offset, end, at = record
    whole = read_at(fd, at, at + RECORD_HEADER.size + end - offset)
    if len(whole) < RECORD_HEADER.size + end - offset:
        raise DamagedError(f"the record at byte {at} is cut")
    _, place, crc = RECORD_HEADER.unpack_from(whole)
    payload = whole[RECORD_HEADER.size :]
    # The range is compared, too: it was parsed earlier, and the file may have changed since.
    if place != RECORD_RANGE.pack(offset, end - offset) or crc32c(payload, crc32c(place)) != crc:
        raise DamagedError(f"the record at byte {at} has the wrong checksum")
    return memoryview(payload)


def list_cache_files(folder: Path) -> Iterator[tuple[float, int, str]]:
    """List the files of a cache: time of the last use, bytes occupied on the disk, path."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name == LOCK_NAME:
                continue
            path = f"{parent}{os.sep}{name}"
            # Another process may have deleted the file meanwhile.
            with suppress(OSError):
                found = os.stat(path)  # noqa: PTH116 (all paths are strings)
                disk_blocks = -(-found.st_size // DISK_BLOCK_BYTES)
                yield found.st_mtime, disk_blocks * DISK_BLOCK_BYTES, path
