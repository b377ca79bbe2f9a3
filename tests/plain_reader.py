"""A reader of index files in plain Python, written from docs/format.md alone; it imports neither blobpack nor NumPy."""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"BLOBIDX\n"
ROWS = 1024
PAGE = 4096
U64 = (1 << 64) - 1
FOOTER = struct.Struct("<II2Q2I10Q2I9q128s3Q3q136s8s")
FACTS = ("media_type", "width", "height", "crc32c", "mtime")
BLOB_U64 = ("row_end", "blob_bytes", "payload_bytes", "archive_bytes")
BLOB_U32 = ("tail_crc", "samples_crc", "blob_flags", "name_end", "version_end")
VALUES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class DamagedError(Exception):
    """The bytes are not what docs/format.md says."""


class PlainMember(NamedTuple):
    """A member: its name, the bytes of its payload, and its facts."""

    name: bytes
    offset_start: int
    offset_end: int
    facts: dict[str, int]


def _rest(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [_rest(byte) for byte in range(256)]


def crc32c(piece: bytes, crc: int = 0) -> int:
    """Compute the CRC-32C of bytes; `crc` is the checksum of the bytes before them."""
    crc ^= 0xFFFFFFFF
    for byte in piece:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def index_header(region_bytes: int) -> bytes:
    """Make the header of the tar member that holds a region of this size inside a blob."""
    octal = region_bytes < 1 << 33
    fields = {
        0: b".blobpack/index",
        100: b"0000644\x00" + b"0000000\x00" * 2,
        124: b"%011o" % region_bytes if octal else b"\x80" + region_bytes.to_bytes(11, "big"),
        136: b"00000000000",
        148: b" " * 8,
        156: b"0",
        257: b"ustar\x0000",
        265: b"blobpack",
    }
    header = bytearray(512)
    for at, field in fields.items():
        header[at : at + len(field)] = field
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header)


def hash_of(name: bytes, seed: int) -> int:
    """Hash a name for the lookup."""

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & U64
        x = (x ^ x >> 27) * 0x94D049BB133111EB & U64
        return x ^ x >> 31

    whole = len(name) // 8 * 8
    h = len(name) * 0x9E3779B97F4A7C15 & U64
    for (word,) in struct.iter_unpack("<Q", name[:whole]):
        h = mix(h ^ word)
    return mix(mix(h ^ int.from_bytes(name[whole:], "little")) ^ seed)


def expect(right: bool, what: str) -> None:
    """Check a condition on the bytes.

    Raises:
        DamagedError: the condition is false.
    """
    if not right:
        raise DamagedError(what)


def sealed(piece: bytes, what: str) -> bytes:
    """Return bytes after checking that the first four are the CRC-32C of the others."""
    expect(len(piece) >= 4 and crc32c(piece[4:]) == int.from_bytes(piece[:4], "little"), what)
    return piece


class PlainIndex:
    """An index, read from the bytes of its file or of the blob that it is in."""

    def __init__(self, packed: bytes) -> None:
        footer = FOOTER.unpack(sealed(packed[-512:], "footer"))
        (_, version, self.region_bytes, self.archive_bytes, self.tail_crc, self.samples_crc) = (
            footer[:6]
        )
        (self.row_count, self.payload_bytes, self.last_end, self.block_count) = footer[6:10]
        (
            self.directory,
            self.lookup,
            self.lookup_pages,
            self.seed,
            self.guide,
            self.guide_bytes,
        ) = footer[10:16]
        (facts, self.flags), self.report = footer[16:18], footer[18:27] + footer[31:34]
        self.blob_version = footer[27].rstrip(b"\0").decode()
        self.blobs, self.blobs_bytes = footer[28:30]
        expect(version == 2 and footer[35] == MAGIC and not any(footer[34]), "footer")
        expect(self.flags >> 17 == 0 and self.flags >> 16 == (self.blobs_bytes > 0), "flags")
        expect(512 <= self.region_bytes <= len(packed), "region_bytes")
        self.region_start = len(packed) - self.region_bytes
        self.region = packed[self.region_start :]
        expect(self.region[:64] == MAGIC + struct.pack("<I52x", 2), "header")
        if self.region_start:
            header = packed[self.region_start - 512 : self.region_start]
            expect(header == index_header(self.region_bytes), "the tar header before the region")
            expect(self.archive_bytes == self.region_start - 512, "archive_bytes")
        self.facts = [name for bit, name in enumerate(FACTS) if facts >> bit & 1]
        # the blocks that were read
        self.blocks: dict[int, list[PlainMember]] = {}
        self.block_starts = self._read_directory(self.directory)
        self.first_names = self._read_guide(self.guide)

    def _read_directory(self, start: int) -> list[int]:
        positions: list[int] = []
        while len(positions) <= self.block_count:
            page = sealed(self.region[start : start + PAGE], "directory")
            number, *some = struct.unpack("<4xI511Q", page)
            expect(number == (1 << 31) + len(positions) // 511, "the directory page's number")
            positions += some
            start += PAGE
        expect(not any(positions[self.block_count + 1 :]), "the directory's end")
        return positions[: self.block_count + 1]

    def _read_guide(self, start: int) -> list[bytes]:
        if not self.guide_bytes:
            return []
        guide = sealed(self.region[start : start + self.guide_bytes], "guide")
        ends = struct.unpack_from(f"<{self.block_count}I", guide, 4)
        return _names(guide[4 + 4 * self.block_count :], ends)

    def blob_columns(self) -> dict[str, list[int | bytes]]:
        """Read the section of blobs of a collection: which rows each blob has, and how each blob is recognised."""
        packed = sealed(self.region[self.blobs : self.blobs + self.blobs_bytes], "blobs")
        (count,) = struct.unpack_from("<4xI", packed)
        columns: dict[str, list[int | bytes]] = {}
        at = 8
        for width, names in ((8, BLOB_U64), (4, BLOB_U32)):
            for name in names:
                columns[name] = list(struct.unpack_from(f"<{count}{VALUES[width]}", packed, at))
                at += count * width
        for name in ("name", "version"):
            ends = tuple(columns.pop(f"{name}_end"))
            columns[name] = list(_names(packed[at:], ends))
            at += ends[-1] if ends else 0
        expect(at == len(packed), "the section of blobs")
        expect(columns["row_end"] == sorted(columns["row_end"]), "row_end")
        expect(columns["row_end"][-1:] == [self.row_count][:count], "the last row_end")
        return columns

    def blob_of(self, row: int) -> int:
        """Return the number of the blob, in a collection, that holds a row."""
        return bisect_right(self.blob_columns()["row_end"], row)

    def block(self, number: int) -> list[PlainMember]:
        """Return the members of a block; it is read once."""
        if number not in self.blocks:
            self.blocks[number] = self._read_block(number)
        return self.blocks[number]

    def _read_block(self, number: int) -> list[PlainMember]:
        start, end = self.block_starts[number : number + 2]
        block = sealed(self.region[start:end], f"block {number}")
        rows, first_row, start_base, mtime_base, _names_bytes, unit, *widths = struct.unpack_from(
            "<4xIQQqII8B", block
        )
        expect(rows == min(ROWS, self.row_count - number * ROWS), f"rows of block {number}")
        expect(first_row == number * ROWS, f"first row of block {number}")
        columns, at = [], 48
        for width in widths:
            kind = f"<{rows}{VALUES[width]}" if width else ""
            columns.append(struct.unpack_from(kind, block, at) if width else (0,) * rows)
            at += (rows * width + 7) // 8 * 8
        columns[7] = tuple((mtime_base + v + (1 << 63)) % (1 << 64) - (1 << 63) for v in columns[7])
        taken = [columns[3 + FACTS.index(name)] for name in self.facts]
        return [
            PlainMember(
                name,
                start_base + columns[1][i] * unit,
                start_base + columns[1][i] * unit + columns[2][i],
                {fact: column[i] for fact, column in zip(self.facts, taken, strict=True)},
            )
            for i, name in enumerate(_names(block[at:], columns[0]))
        ]

    def members(self) -> Iterator[PlainMember]:
        """Yield all members, in order."""
        for number in range(self.block_count):
            yield from self.block(number)

    def lookup_page(self, number: int) -> bytes:
        """Read a page of the lookup."""
        start = self.lookup + number * PAGE
        page = sealed(self.region[start : start + PAGE], f"page {number} of the lookup")
        expect(struct.unpack_from("<4xI", page) == (number,), "the lookup page's number")
        return page

    def find_by_lookup(self, name: bytes) -> int | None:
        """Return the last row with a name, found by the lookup; None if there is no such row."""
        if not self.lookup_pages:
            rows = [row for row, member in enumerate(self.members()) if member.name == name]
            return rows[-1] if rows else None
        h = hash_of(name, self.seed)
        page = self.lookup_page((h >> 32) * self.lookup_pages >> 32)
        first = (h & 0xFFFF) * 63 >> 16
        for line in range(first, first + 63):
            for fingerprint, row in struct.iter_unpack("<II", page[64 + line % 63 * 64 :][:64]):
                if fingerprint == row == 0xFFFFFFFF:
                    return None
                if (
                    fingerprint == h >> 16 & 0xFFFFFFFF
                    and self.block(row // ROWS)[row % ROWS].name == name
                ):
                    return int(row)
        return None

    def find_by_guide(self, name: bytes) -> int | None:
        """Return the last row with a name, found by the guide; None if there is no such row."""
        number = bisect_right(self.first_names, name) - 1
        if number < 0:
            return None
        rows = [row for row, member in enumerate(self.block(number)) if member.name == name]
        return number * ROWS + rows[-1] if rows else None

    def is_of(self, archive: bytes) -> bool:
        """Return whether this archive has the size and the checksums that the footer says."""
        step = 1024
        while 32 * step < len(archive):
            step *= 2
        starts = range(0, len(archive), step)
        samples = b"".join(archive[start : start + 1024] for start in starts)
        found = len(archive), crc32c(archive[-4096:]), crc32c(samples)
        return bool(self.flags & 2) and found == (
            self.archive_bytes,
            self.tail_crc,
            self.samples_crc,
        )


def _names(packed: bytes, ends: tuple[int, ...]) -> list[bytes]:
    return [packed[start:end] for start, end in zip((0, *ends), ends, strict=False)]
