"""The index's bytes, in a file of their own or behind the tar they are of.

docs/format.md has the layout, byte for byte. A region's footer comes last, has a fixed size, and says what archive
it belongs to.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.columns import FACTS, OFFSET_MAX
from blobpack.errors import ChecksumError, FormatError
from blobpack.indexfile.identity import Identity
from blobpack.model import ScanReport
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os

INDEX_MAGIC = b"BLOBIDX\n"
VERSION = 1
REGION_HEADER = struct.Struct("<8sI52x")
FOOTER_FIELDS = struct.Struct("<II QQII QQQQ QQQQ QQII 9q 128s QQ 168x 8s".replace(" ", ""))
FOOTER_BYTES = 512
INDEX_PAGE_BYTES = 4096
DIRECTORY_PAGE_POSITIONS = 511
FIRST_DIRECTORY_PAGE = 1 << 31  # the number of the directory's first page
BLOCK_ROWS = 1024
PART_ROWS = 64 * BLOCK_ROWS  # encoded or read at a time
HAS_REPORT = 1
IS_TIED = 2  # the footer's identity says which archive the index is of
IS_COLLECTION = 1 << 16  # the members are those of several blobs, which a section names
UNSUPPORTED_FLAGS = (
    0xFFFF0000 & ~IS_COLLECTION
)  # flags of which a reader that does not know them reads wrongly


def sidecar_of(blob: str | os.PathLike[str]) -> Location:
    """Return the location of the index file beside a blob: the blob's name and ".idx"."""
    return Location.parse(blob).beside(".idx")


def facts_to_bits(facts: frozenset[str]) -> int:
    """Give optional columns as bits, in the order of columns.FACTS."""
    return sum(1 << i for i, name in enumerate(FACTS) if name in facts)


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
        return facts_to_bits(self.facts)

    @property
    def directory_bytes(self) -> int:
        """The directory's pages."""
        return (self.block_count // DIRECTORY_PAGE_POSITIONS + 1) * INDEX_PAGE_BYTES

    def check_fits(self, where: str, offset: int) -> None:
        """Compare its numbers with one another.

        Args:
            where: The file, for messages.
            offset: Where the region starts in it.

        Raises:
            FormatError: sections that are not within the region, or counts that can't be.
        """
        sections = (
            (self.lookup, self.lookup_pages * INDEX_PAGE_BYTES),
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
        packed = FOOTER_FIELDS.pack(
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
            INDEX_MAGIC,
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
        if len(packed) != FOOTER_BYTES or packed[-8:] != INDEX_MAGIC:
            return None
        crc, version, region_bytes, archive_bytes, tail_crc, samples_crc, *rest = (
            FOOTER_FIELDS.unpack(packed)
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
        if flags & UNSUPPORTED_FLAGS or bool(flags & IS_COLLECTION) != bool(blobs_bytes):
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
    check_page(packed, FIRST_DIRECTORY_PAGE + number, "a page of its directory", where, offset)
    return struct.unpack_from(f"<{DIRECTORY_PAGE_POSITIONS}Q", packed, 8)


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
