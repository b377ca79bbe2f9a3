"""The index's bytes, in a file of their own or behind the tar they are of.

docs/format.md has the layout, byte for byte. A region is written front to back in bounded memory; its footer
comes last, has a fixed size, and says what archive it belongs to.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import OrderedDict
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, BinaryIO

from blobpack._fetched_index import decode_blocks
from blobpack._index_writer import IndexBuilder
from blobpack._packed import measure
from blobpack.checksum import crc32c, crc32c_address
from blobpack.columns import FACTS, OFFSET_MAX, Columns
from blobpack.errors import ChecksumError, FormatError
from blobpack.identity import Identity
from blobpack.model import ScanReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAGIC = b"BLOBIDX\n"
VERSION = 1
HEADER = struct.Struct("<8sI52x")
FOOTER = struct.Struct("<II QQII QQQQ QQQQ QQII 9q 128s QQ 168x 8s".replace(" ", ""))
FOOTER_BYTES = 512
PAGE_BYTES = 4096
PAGE_POSITIONS = 511
DIRECTORY = 1 << 31  # the number of the directory's first page
BLOCK_ROWS = 1024
GUIDE_BYTES_MAX = 1 << 18
PAYLOAD_BYTES_MAX = (1 << 64) - 1  # of members that overlap
PART_ROWS = 64 * BLOCK_ROWS  # encoded at a time
BLOCKS_KEPT = 256  # of those read back
HAS_REPORT = 1
IS_TIED = 2  # the footer's identity says which archive the index is of
IS_COLLECTION = 1 << 16  # the members are those of several blobs, which a section names
MUST_BE_KNOWN = (
    0xFFFF0000 & ~IS_COLLECTION
)  # flags of which a reader that does not know them reads wrongly


def sidecar_path(url: str | os.PathLike[str]) -> str:
    """Name the index file beside a blob: its own name and ".idx"."""
    return f"{os.fspath(url)}.idx"


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 512 bytes of an index: where its sections are, and what it is of.

    Attributes:
        region_bytes: The index's own, this footer included.
        identity: The archive it is of; None when it is tied to none.
        row_count: Members.
        payload_bytes: The sum of their sizes.
        last_end: The largest offset_end.
        block_count: Of 1,024 members each, the last one of fewer.
        directory: Where the directory starts, from the region's start; so too the next ones.
        lookup: Where the lookup's pages start.
        lookup_pages: How many; 0 when there is no lookup.
        lookup_seed: Of the hashes.
        guide: Where the guide starts.
        guide_bytes: 0 when there is none.
        facts: The optional columns that were taken.
        report: What the scan met.
        blobs: Where the section of a collection's blobs starts.
        blobs_bytes: 0 when the index is of one archive.
    """

    region_bytes: int
    identity: Identity | None
    row_count: int
    payload_bytes: int
    last_end: int
    block_count: int
    directory: int
    lookup: int
    lookup_pages: int
    lookup_seed: int
    guide: int
    guide_bytes: int
    facts: frozenset[str]
    report: ScanReport | None
    blobs: int = 0
    blobs_bytes: int = 0

    @property
    def facts_mask(self) -> int:
        """The optional columns as bits, in the order of columns.FACTS."""
        return _mask_of(self.facts)

    @property
    def directory_bytes(self) -> int:
        """The directory's pages."""
        return (self.block_count // PAGE_POSITIONS + 1) * PAGE_BYTES

    def check_fits(self, where: str, offset: int) -> None:
        """Compare its numbers with one another.

        Args:
            where: The file, for messages.
            offset: Where the region starts in it.

        Raises:
            FormatError: sections that are not within the region, or counts that can't be.
        """
        sections = (
            (self.lookup, self.lookup_pages * PAGE_BYTES),
            (self.directory, self.directory_bytes),
            (self.guide, self.guide_bytes),
            (self.blobs, self.blobs_bytes),
        )
        if (
            any(start + size > self.region_bytes - FOOTER_BYTES for start, size in sections)
            or self.block_count != -(-self.row_count // BLOCK_ROWS)
            or self.last_end > OFFSET_MAX
        ):
            raise FormatError(
                f"{where}: the index is damaged: its footer does not fit its size", offset=offset
            )

    def encode(self) -> bytes:
        """Make the footer's 512 bytes."""
        identity = self.identity or Identity(0, 0, 0)
        report = astuple(self.report) if self.report else (0,) * 9
        flags = (
            HAS_REPORT * (self.report is not None)
            | IS_TIED * (self.identity is not None)
            | IS_COLLECTION * (self.blobs_bytes > 0)
        )
        packed = FOOTER.pack(
            0,
            VERSION,
            self.region_bytes,
            identity.archive_bytes,
            identity.tail_crc,
            identity.samples_crc,
            self.row_count,
            self.payload_bytes,
            self.last_end,
            self.block_count,
            self.directory,
            self.lookup,
            self.lookup_pages,
            self.lookup_seed,
            self.guide,
            self.guide_bytes,
            self.facts_mask,
            flags,
            *report,
            identity.version.encode()[:128],
            self.blobs,
            self.blobs_bytes,
            MAGIC,
        )
        return struct.pack("<I", crc32c(packed[4:])) + packed[4:]

    @classmethod
    def decode(cls, packed: bytes, where: str, offset: int) -> Footer | None:
        """Read a footer; None when these bytes are none.

        Args:
            packed: The last 512 bytes.
            where: The file, for messages.
            offset: Where the footer starts in it.

        Raises:
            FormatError: it is damaged, or of a later version of the format.
        """
        if len(packed) != FOOTER_BYTES or packed[-8:] != MAGIC:
            return None
        crc, version, region_bytes, archive_bytes, tail_crc, samples_crc, *rest = FOOTER.unpack(
            packed
        )
        if crc != crc32c(packed[4:]):
            raise ChecksumError(
                f"{where}: the index is damaged: its footer at byte {offset} does not match its checksum",
                offset=offset,
            )
        if version != VERSION:
            raise FormatError(
                f"{where}: the index is of version {version} of the format, and this reads version "
                f"{VERSION}, at byte {offset}",
                offset=offset,
            )
        facts, flags = rest[10:12]
        blobs, blobs_bytes = rest[22:24]
        if flags & MUST_BE_KNOWN or bool(flags & IS_COLLECTION) != bool(blobs_bytes):
            raise FormatError(
                f"{where}: the index has flags {flags:#x}, of a later version of blobpack, at byte {offset}",
                offset=offset,
            )
        blob_version = rest[21].rstrip(b"\0").decode(errors="replace")
        return cls(
            region_bytes,
            Identity(archive_bytes, tail_crc, samples_crc, blob_version)
            if flags & IS_TIED
            else None,
            *rest[:10],  # type: ignore[call-arg]
            frozenset(name for i, name in enumerate(FACTS) if facts >> i & 1),
            ScanReport(*rest[12:21]) if flags & HAS_REPORT else None,
            blobs,
            blobs_bytes,
        )


def _mask_of(facts: frozenset[str]) -> int:
    return sum(1 << i for i, name in enumerate(FACTS) if name in facts)


def write_sections(
    file: BinaryIO,
    parts: Iterable[Columns],
    name_at: Callable[[int], str] | None,
    *,
    identity: Identity | None,
    report: ScanReport | None = None,
    bytes_min: int = 0,
    blobs: Callable[[], bytes] | None = None,
    repeated: Callable[[str, int, int], object] | None = None,
) -> Footer:
    """Write an index but its footer, at the file's position.

    Args:
        file: Open for writing.
        parts: The members, in order.
        name_at: Gives the name in a row that was among parts already; None reads it back from the file.
        identity: The archive the index is of.
        report: What the scan met.
        bytes_min: The region is filled up with zeros to at least this, its footer included.
        blobs: Of a collection, gives the section of its blobs, once all parts were taken.
        repeated: repeated(name, row, other), called for two rows of one name.

    Returns:
        The footer to write behind it.

    Raises:
        FormatError: more members, or longer names, than the format holds.
    """
    builder = IndexBuilder(crc32c_address())
    payload_bytes = last_end = 0
    facts: frozenset[str] | None = None
    written = file.write(HEADER.pack(MAGIC, VERSION))
    for part in _whole_blocks(parts):
        taken = frozenset(name for name, _ in part.facts())
        if facts not in (None, taken):
            raise ValueError(f"parts of one index with different facts: {facts} and {taken}")
        facts = taken
        written += file.write(
            builder.add(
                part.names,
                part.name_bounds,
                part.offset_start,
                part.offset_end,
                *(getattr(part, name) for name in FACTS),
            )
        )
        size, end = measure(part.offset_start, part.offset_end)
        payload_bytes, last_end = payload_bytes + size, max(last_end, end)
    names = name_at or _WrittenNames(file, builder, last_end, facts or frozenset()).name_at

    def is_same_name(row: int, other: int) -> bool:
        name = names(row)
        same = name == names(other)
        if same and repeated:
            repeated(name, row, other)
        return same

    seed, pages = builder.lookup(is_same_name)
    written += file.write(bytes(-written % 64))
    lookup = written
    written += file.write(pages)
    directory = written
    written += file.write(builder.directory(HEADER.size))
    packed_guide = _encode_guide(builder.guide())
    guide = written
    written += file.write(packed_guide)
    packed_blobs = blobs() if blobs else b""
    section = written
    written += file.write(packed_blobs)
    filled = max(written + FOOTER_BYTES, bytes_min)
    file.write(bytes(filled + -filled % FOOTER_BYTES - FOOTER_BYTES - written))
    return Footer(
        region_bytes=filled + -filled % FOOTER_BYTES,
        identity=identity,
        row_count=len(builder),
        payload_bytes=min(payload_bytes, PAYLOAD_BYTES_MAX),
        last_end=last_end,
        block_count=-(-len(builder) // BLOCK_ROWS),
        directory=directory,
        lookup=lookup,
        lookup_pages=len(pages) // PAGE_BYTES,
        lookup_seed=seed,
        guide=guide,
        guide_bytes=len(packed_guide),
        facts=facts or frozenset(),
        report=report,
        blobs=section if packed_blobs else 0,
        blobs_bytes=len(packed_blobs),
    )


def _whole_blocks(parts: Iterable[Columns]) -> Iterator[Columns]:
    """Cut and join parts so that all but the last one end with a block."""
    left: Columns | None = None
    for part in parts:
        whole = part if left is None or not len(left) else Columns.concatenate([left, part])
        last = len(whole) // BLOCK_ROWS * BLOCK_ROWS
        for first in range(0, last, PART_ROWS):
            yield whole.slice(first, min(first + PART_ROWS, last))
        left = whole.slice(last, len(whole))
    if left is not None and len(left):
        yield left


class _WrittenNames:
    """The names of rows whose blocks a file holds: what they were read from need not be at hand any more."""

    def __init__(
        self, file: BinaryIO, builder: IndexBuilder, last_end: int, facts: frozenset[str]
    ) -> None:
        self._file, self._builder = file, builder
        self._last_end, self._facts = last_end, _mask_of(facts)
        self._directory = builder.directory(0)
        self._kept: OrderedDict[int, Columns] = OrderedDict()

    def name_at(self, row: int) -> str:
        """Read the name in a row."""
        number, place = divmod(row, BLOCK_ROWS)
        if number not in self._kept:
            self._kept[number] = self._read(number)
            if len(self._kept) > BLOCKS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number].name_at(place)

    def _read(self, number: int) -> Columns:
        start, last = self._position(number), self._position(number + 1)
        end = self._file.tell()
        self._file.seek(end - self._builder.blocks_bytes + start)
        packed = self._file.read(last - start)
        self._file.seek(end)
        return Columns(
            *decode_blocks(
                packed,
                array("q", [0, last - start]),
                number * BLOCK_ROWS,
                len(self._builder),
                self._last_end,
                self._facts,
                crc32c_address(),
                "the index that is being written",
                0,
            )
        )

    def _position(self, number: int) -> int:
        page, place = divmod(number, PAGE_POSITIONS)
        start = page * PAGE_BYTES + 8 + 8 * place
        return int.from_bytes(self._directory[start : start + 8], "little")


def _encode_guide(names: list[bytes] | None) -> bytes:
    """Encode the first name of each block, when names ascend and it stays small."""
    if not names or sum(map(len, names)) + 4 * len(names) > GUIDE_BYTES_MAX:
        return b""
    ends, end = [], 0
    for name in names:
        end += len(name)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends) + b"".join(names)
    return struct.pack("<I", crc32c(packed)) + packed


def decode_guide(packed: bytes, block_count: int, where: str, offset: int) -> list[bytes]:
    """Read the first name of each block.

    Raises:
        FormatError: it is damaged.
    """
    if len(packed) < 4 or int.from_bytes(packed[:4], "little") != crc32c(packed[4:]):
        raise ChecksumError(
            f"{where}: the index is damaged: its guide at byte {offset} does not match its checksum",
            offset=offset,
        )
    names = packed[4 + 4 * block_count :]
    if len(packed) < 4 + 4 * block_count:
        raise FormatError(f"{where}: the index's guide at byte {offset} is cut", offset=offset)
    ends = struct.unpack_from(f"<{block_count}I", packed, 4)
    return [names[start:end] for start, end in zip((0, *ends), ends, strict=False)]


def decode_directory_page(packed: bytes, number: int, where: str, offset: int) -> tuple[int, ...]:
    """Read a page of the directory: 511 positions from the region's start.

    Args:
        packed: The page.
        number: In the directory.
        where: The file, for messages.
        offset: Where the page starts in it.

    Raises:
        ChecksumError: it is damaged.
    """
    check_page(packed, DIRECTORY + number, "a page of its directory", where, offset)
    return struct.unpack_from(f"<{PAGE_POSITIONS}Q", packed, 8)


def check_page(packed: bytes, number: int, what: str, where: str, offset: int) -> None:
    """Compare a page of the lookup or the directory with its checksum, and with its place by its number.

    Raises:
        ChecksumError: it does not match.
    """
    if struct.unpack_from("<II", packed) != (crc32c(packed[4:]), number):
        raise ChecksumError(
            f"{where}: the index is damaged: {what} at byte {offset} does not match its checksum",
            offset=offset,
        )
