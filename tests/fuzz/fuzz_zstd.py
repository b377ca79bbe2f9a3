"""Seekable zstd files against the store that reads ranges of them. Oracle: zstd itself, which decompresses the whole stream.

Bytes that the store returns must be those that zstd finds there. A sound file must be read.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, NamedTuple

import pyzstd
import zstandard

from blobpack import FormatError
from blobpack.stores.memory import MemoryStore
from blobpack.stores.zstd.store import open_seekable
from blobpack.writing.compress import FrameWriter
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from pathlib import Path

TABLE_FOOTER_BYTES = 9
ROW = struct.Struct("<III")
EDGES = (0, 1, 2, 1 << 17, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, (1 << 32) - 1)


class Case(NamedTuple):
    """A file, the ranges to read from it, and its content if it is sound."""

    data: bytes
    ranges: list[tuple[float, float]]
    content: bytes | None


def make(generator: random.Random) -> Case:
    """Make a file of a few frames, two times in three damaged, in its frames or in its table."""
    pieces = [make_piece(generator) for _ in range(generator.randint(0, 6))]
    data = generator.choice((by_blobpack, by_pyzstd))(pieces, generator)
    ranges = [(generator.random(), generator.random()) for _ in range(4)]
    chance = generator.random()
    if chance < 0.34:
        return Case(data, ranges, b"".join(pieces))
    if chance < 0.7:
        return Case(with_other_table(data, generator), ranges, None)
    return Case(damage(data, generator), ranges, None)


def make_piece(generator: random.Random) -> bytes:
    """Return bytes that compress well, badly, or not at all."""
    size = generator.choice((0, 1, 100, 5000, 200_000))
    return generator.choice((bytes(size), generator.randbytes(size), b"tar " * (size // 4)))


def by_blobpack(pieces: list[bytes], generator: random.Random) -> bytes:
    """Compress each piece into a frame, as blobpack does, sometimes with an index behind them."""
    file = io.BytesIO()
    with FrameWriter(file) as writer:
        for piece in pieces:
            writer.write_frame(piece)
        writer.finish(generator.choice((None, generator.randbytes(700))))
    return file.getvalue()


def by_pyzstd(pieces: list[bytes], generator: random.Random) -> bytes:
    """Compress all pieces with another writer of the format, whose frames end elsewhere."""
    file = io.BytesIO()
    frame_bytes = generator.choice((100, 5000, 1 << 20))
    with pyzstd.SeekableZstdFile(file, "w", max_frame_content_size=frame_bytes) as writer:
        for piece in pieces:
            writer.write(piece)
    return file.getvalue()


def with_other_table(data: bytes, generator: random.Random) -> bytes:
    """Return a file whose seek table is well formed, with one to three wrong rows or rows in another order."""
    count, descriptor, magic = struct.unpack("<IBI", data[-TABLE_FOOTER_BYTES:])
    if not descriptor & 0x80 or not count:
        return damage(data, generator)
    start = len(data) - TABLE_FOOTER_BYTES - ROW.size * count
    rows = [list(row) for row in ROW.iter_unpack(data[start:-TABLE_FOOTER_BYTES])]
    for _ in range(generator.randint(1, 3)):
        row = generator.choice(rows)
        kind = generator.randrange(5)
        if kind == 0:
            row[generator.randrange(3)] = generator.choice(EDGES)
        elif kind == 1:
            column = generator.randrange(3)
            row[column] = (row[column] + generator.choice((-1, 1))) % (1 << 32)
        elif kind == 2:
            rows.insert(generator.randrange(len(rows)), list(row))
        elif kind == 3:
            generator.shuffle(rows)
        elif len(rows) > 1:
            rows.remove(row)
    packed = b"".join(ROW.pack(*row) for row in rows)
    header = struct.pack("<II", 0x184D2A5E, len(packed) + TABLE_FOOTER_BYTES)
    return data[: start - 8] + header + packed + struct.pack("<IBI", len(rows), descriptor, magic)


def check(case: Case, folder: Path) -> str:
    """Read ranges, and compare each with what zstd finds there.

    Returns:
        "refused" if the file or a range was; or "accepted".
    """
    try:
        store = open_seekable(MemoryStore(case.data))
        if store is None:
            assert case.content is None or not case.content
            return "refused"
        size = store.content_bytes
        found = []
        for first, last in case.ranges:
            start, end = sorted((int(first * size), int(last * size)))
            if end - start > 1 << 24:
                end = start + (1 << 24)
            found.append((start, end, store.read_range(start, end)))
    except FormatError as exc:
        assert case.content is None, exc
        return "refused"
    for start, end, payload in found:
        if case.content is not None:
            assert payload == case.content[start:end], (start, end)
        else:
            assert payload == decompressed(case.data, start, end), (start, end)
    return "accepted"


def decompressed(data: bytes, start: int, end: int) -> bytes:
    """Return bytes of the content as the seek table of a damaged file and zstd give them.

    Whole frames may stand twice in the table or be missing from it. No reader could notice that.
    """
    count, descriptor, _ = struct.unpack("<IBI", data[-TABLE_FOOTER_BYTES:])
    width = 12 if descriptor & 0x80 else 8
    rows = len(data) - TABLE_FOOTER_BYTES - width * count
    position = content = 0
    pieces = []
    sizes = [struct.unpack_from("<I", data, rows + width * row)[0] for row in range(count)]
    assert sum(sizes) == rows - 8, "frames up to the table"
    for row in range(count):
        size, content_size = struct.unpack_from("<II", data, rows + width * row)
        # no frame is read for a range of no bytes
        if max(content, start) < min(content + content_size, end):
            frame = data[position : position + size]
            whole = zstandard.ZstdDecompressor().decompress(frame, max_output_size=content_size)
            assert len(whole) == content_size
            if width == ROW.size:
                assert data[rows + width * row + 8 :][:4] == checksum_of(whole), "checksum"
            pieces.append(whole[max(0, start - content) : end - content])
        position += size
        content += content_size
    return b"".join(pieces)


def checksum_of(content: bytes) -> bytes:
    """Return the checksum of bytes, which zstd writes behind a frame of them."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)[-4:]
