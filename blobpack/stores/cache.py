"""What was read of a blob far away, kept on disk: exactly the bytes asked for, whatever ranges they are asked for in.

A blob is cut into blocks of 256 KiB, and of a block there is one file, to which the ranges that were read of it are
appended as records:

    b"BPc1" · offset in the blob, uint64 · bytes, uint32 · CRC-32C of those twelve bytes and the payload, uint32 · payload

Files lie in a folder named after the blob's URL, version and size, so that another version never meets them. A record
is one write at the file's end, which processes may make at once without a lock. What is read is checked: a file that is
cut, damaged or interleaved is dropped, and its bytes are fetched anew. A file's mtime says when it was last used, to the
minute; files not used for longest go first, under a lock file, when there are too many bytes. Whatever the disk refuses
is logged and done without.
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
from blobpack.errors import StorageError
from blobpack.model import CACHE_BYTES_MIN
from blobpack.plan import merged_ranges
from blobpack.stores.base import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


log = logging.getLogger(__name__)

FOLDER = "blobpack-1"  # nothing outside it is ever dropped
MAGIC = b"BPc1"
PLACE = struct.Struct("<QI")
HEADER = struct.Struct("<4s12sI")
BLOCK_BYTES = 1 << 18
RECORD_BYTES_MAX = 1 << 16  # checked whole, so that a small read of a large one costs little
# the same range may be kept twice, by processes that read it at once
FILE_BYTES_MAX = 4 * BLOCK_BYTES
BLOCKS_A_FOLDER = 256
GAP_BYTES_MAX = 1 << 17  # bytes that are here, read over where a second request would cost more
TABLES_MAX = 4096
USED_S = 60  # how exactly the last use is known
SWEEP_SHARE = 16  # of the bytes, what is written between two looks at all of them
HIGH_WATER = 0.875  # with what is written until the next look it stays below the whole
LOW_WATER = 0.75
DISK_BLOCK = 4096
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder that keeps what is read of blobs far away.

    Attributes:
        folder: Where; made if it is not there.
        max_bytes: How much all files of the cache may take. One read of over a sixteenth of that is not kept.
            Processes that write at once may be over it by another sixteenth each.
    """

    folder: str | os.PathLike[str]
    max_bytes: int = 10 << 30

    def around(self, store: Store) -> CachingStore:
        """Make a store that keeps what is read of one."""
        return CachingStore(store, self)


@dataclass(frozen=True, slots=True)
class Table:
    """What a block's file holds, as far as it was looked at.

    Attributes:
        file: Its number on the disk: another file of that name is another table.
        parsed_bytes: How far it was looked at.
        records: offset in the blob, its end, and where the record is in the file; in order of offset.
    """

    file: int
    parsed_bytes: int
    records: tuple[tuple[int, int, int], ...]


class DamagedError(Exception):
    """A block's file is not what it should be."""


class CachingStore(Store):
    """A store whose bytes are fetched once, and then come from a folder that any number of processes may share.

    What is here is of the version that the store below was opened at, and is not asked for again, even if the
    blob has changed meanwhile: that is noticed when bytes that are not here are read, or when it is opened again.
    Closing it closes the store below.
    """

    def __init__(self, base: Store, cache: Cache) -> None:
        """Join a store and a folder.

        Args:
            base: The store; its version tells one state of the blob from another.
            cache: Where to keep what is read, and how much; several stores may share it.

        Raises:
            StorageError: the folder can't be made.
            ValueError: it may take less than 1 MiB.
        """
        max_bytes = cache.max_bytes
        if max_bytes < CACHE_BYTES_MIN:
            raise ValueError(f"a cache takes at least {CACHE_BYTES_MIN} bytes, not {max_bytes}")
        self.url, self.size, self.version = base.url, base.size, base.version
        self.base: Store = base
        self.location, self.is_remote = base.location, base.is_remote
        self.counters = base.counters
        self.tail = base.tail
        self._root = Path(cache.folder).absolute() / FOLDER
        self.cache: Cache = Cache(self._root.parent, max_bytes)
        self._max_bytes = max_bytes
        named = f"{self.url}\n{self.version}\n{self.size}".encode("utf-8", "surrogateescape")
        self._prefix = f"{self._root}/{hashlib.sha256(named).hexdigest()[:32]}/"
        self._tables: dict[int, Table] = {}
        self._unswept_bytes = max_bytes  # so the first write looks
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"{self._root}: no cache can be kept here: {exc.strerror}") from exc
        if self.tail:  # for who opens the same version without it, as a worker does
            start = self.size - len(self.tail)
            for begin, end in self._missing(start, self.size)[1]:
                self._keep(begin, self.tail[begin - start : end - start])

    def holds(self, start: int, end: int) -> bool:
        """Tell whether the folder has these bytes."""
        return not self._missing(start, end)[1]

    def forget(self, start: int, end: int) -> bool:
        """Drop the blocks that these bytes lie in: a read gave them wrong; see Store."""
        had_some = super().forget(start, end)
        had_some |= self.base.forget(start, end)
        for block, _, _ in blocks_of(start, end):
            self._tables.pop(block, None)
            try:
                os.unlink(self._path(block))  # noqa: PTH108 (all paths are strings)
            except FileNotFoundError:
                continue
            except OSError as exc:
                log.debug("%s: can't drop what is damaged: %s", self._root, exc)
                continue
            had_some = True
        return had_some

    def fetch(self, start: int, end: int) -> bytes:
        """Take the bytes start to end from the folder, and what is not there from the store below."""
        pieces, missing = self._missing(start, end)
        if not missing and len(pieces) == 1:
            return bytes(pieces[0][1])
        for begin, stop in merged_ranges(missing, max_gap_bytes=GAP_BYTES_MAX, max_bytes=self.size):
            content = self.base.read_range(begin, stop)
            self._keep(begin, content)
            if (begin, stop) == (start, end):
                return content
            pieces.append((begin, memoryview(content)))
        whole = bytearray(end - start)
        for begin, piece in pieces:
            whole[begin - start : begin - start + len(piece)] = piece
        return bytes(whole)

    def _missing(
        self, start: int, end: int
    ) -> tuple[list[tuple[int, memoryview]], list[tuple[int, int]]]:
        """Read what is here of a range; the pieces with their offsets, and the ranges that are not here."""
        pieces: list[tuple[int, memoryview]] = []
        missing: list[tuple[int, int]] = []
        for block, begin, stop in blocks_of(start, end):
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
        """Read what a block's file has of a range, in order and without overlaps."""
        path = self._path(block)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not there, or a disk that fails
            return []
        try:
            table = self._table(block, fd)
            pieces = []
            pos = start
            for record in covering(table.records, start, end):
                payload = read_record(fd, record)
                begin = max(record[0], pos)
                stop = min(record[1], end)
                pieces.append((begin, payload[begin - record[0] : stop - record[0]]))
                pos = stop
        except (OSError, DamagedError) as exc:
            log.debug("%s: dropped, and fetched anew: %s", path, exc)
            self._tables.pop(block, None)
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (all paths are strings: a Path takes as long as a read)
            return []
        finally:
            os.close(fd)
        return pieces

    def _table(self, block: int, fd: int) -> Table:
        """Look at the records of a block's file that were not there when it was last looked at."""
        found = os.fstat(fd)
        now = time.time()
        if not -USED_S < now - found.st_mtime < USED_S:
            with suppress(OSError):  # another user's, or read-only
                os.utime(fd, (now, now))
        table = self._tables.get(block)
        if table is None or table.file != found.st_ino or table.parsed_bytes > found.st_size:
            table = Table(found.st_ino, 0, ())
        if table.parsed_bytes < found.st_size:
            records = parse_records(fd, table.parsed_bytes, found.st_size, block)
            table = Table(found.st_ino, found.st_size, tuple(sorted({*table.records, *records})))
            if len(self._tables) >= TABLES_MAX:
                self._tables.clear()
            self._tables[block] = table
        return table

    def _keep(self, start: int, content: bytes) -> None:
        """Append what was read to the files of its blocks."""
        if len(content) > self._max_bytes // SWEEP_SHARE:
            return
        view = memoryview(content)
        try:
            for block, begin, end in blocks_of(start, start + len(content)):
                self._append(block, begin, view[begin - start : end - start])
            if self._unswept_bytes > self._max_bytes // SWEEP_SHARE and self._sweep():
                self._unswept_bytes = 0
        except OSError as exc:
            log.debug("%s: can't keep what was read: %s", self._root, exc)

    def _append(self, block: int, start: int, payload: memoryview) -> None:
        """Append records to a block's file, each by one write."""
        path = self._path(block)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o666)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o666)
        try:
            if os.fstat(fd).st_size > FILE_BYTES_MAX:  # all bytes of the block several times over
                os.unlink(path)  # noqa: PTH108
                return
            for at in range(0, len(payload), RECORD_BYTES_MAX):
                piece = bytes(payload[at : at + RECORD_BYTES_MAX])
                place = PLACE.pack(start + at, len(piece))
                record = HEADER.pack(MAGIC, place, crc32c(piece, crc32c(place))) + piece
                if os.write(fd, record) < len(record):  # a full disk: whoever reads it drops it
                    os.unlink(path)  # noqa: PTH108
                    return
                self._unswept_bytes += len(record)  # threads may lose a little of it
        finally:
            os.close(fd)

    def _path(self, block: int) -> str:
        return f"{self._prefix}{block // BLOCKS_A_FOLDER:x}/{block:x}"

    def _sweep(self) -> bool:
        """Drop the files not used for longest if there are too many bytes; false if another process is at it."""
        with (self._root / LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            files = sorted(files_below(self._root))
            total = sum(size for _, size, _ in files)
            if total > HIGH_WATER * self._max_bytes:
                for _, size, path in files:
                    if total <= LOW_WATER * self._max_bytes:
                        break
                    with suppress(OSError):
                        os.unlink(path)  # noqa: PTH108 (many)
                    with suppress(OSError):  # the last one of its folder
                        os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120
                    total -= size
            return True

    def close(self) -> None:
        """Close the store below; again is harmless."""
        super().close()
        self.base.close()

    def __reduce__(self) -> tuple[Callable[..., CachingStore], tuple[Store, Cache]]:
        return CachingStore, (self.base, self.cache)


def blocks_of(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Cut a range where blocks end; the block's number, and the bytes of the range in it."""
    while start < end:
        block = start // BLOCK_BYTES
        stop = min(end, (block + 1) * BLOCK_BYTES)
        yield block, start, stop
        start = stop


def covering(
    records: tuple[tuple[int, int, int], ...], start: int, end: int
) -> Iterator[tuple[int, int, int]]:
    """Choose records, in order of offset, that cover as much of a range as all of them do."""
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
    """Find the records in a part of a block's file.

    Raises:
        DamagedError: something else is there.
    """
    content = os.pread(fd, end - start, start)
    pos = 0
    while pos < len(content):
        if len(content) - pos < HEADER.size:
            raise DamagedError(f"a cut record at byte {start + pos}")
        magic, place, _ = HEADER.unpack_from(content, pos)
        offset, size = PLACE.unpack(place)
        if magic != MAGIC or offset // BLOCK_BYTES != block or size > RECORD_BYTES_MAX:
            raise DamagedError(f"no record at byte {start + pos}")
        if size > len(content) - pos - HEADER.size:
            raise DamagedError(f"a cut record at byte {start + pos}")
        yield offset, offset + size, start + pos
        pos += HEADER.size + size


def read_record(fd: int, record: tuple[int, int, int]) -> memoryview:
    """Read a record's payload.

    Raises:
        DamagedError: it is not what was written.
    """
    offset, end, at = record
    whole = os.pread(fd, HEADER.size + end - offset, at)
    if len(whole) < HEADER.size + end - offset:
        raise DamagedError(f"the record at byte {at} is cut")
    _, place, crc = HEADER.unpack_from(whole)
    payload = whole[HEADER.size :]
    if place != PLACE.pack(offset, end - offset) or crc32c(payload, crc32c(place)) != crc:
        raise DamagedError(f"the record at byte {at} has the wrong checksum")
    return memoryview(payload)


def files_below(folder: Path) -> Iterator[tuple[float, int, str]]:
    """List the files of a cache: last use, the bytes they take on the disk, path."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name == LOCK:
                continue
            path = f"{parent}{os.sep}{name}"
            with suppress(OSError):  # dropped meanwhile
                found = os.stat(path)  # noqa: PTH116 (many)
                yield found.st_mtime, -(-found.st_size // DISK_BLOCK) * DISK_BLOCK, path
