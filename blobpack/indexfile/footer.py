"""The layout of a stored index: its constants, its footer, and the decoding of its guide and directory.

Strategy: an index is one region of bytes, in a file of its own or behind the end of a tar. There, it is the payload of
a tar member, so that tools which read on behind the end meet a header. The region ends with a footer of fixed size, so
that a reader finds every section after one read of the last 512 bytes. The footer also identifies the archive that the
index belongs to. docs/format.md describes every byte.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.columns import FACTS, OFFSET_MAX
from blobpack.errors import ChecksumError, FormatError
from blobpack.indexfile.identity import Identity
from blobpack.indexfile.pages import DIRECTORY_PAGE_POSITIONS
from blobpack.model import ScanReport
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os

INDEX_MAGIC = b"BLOBIDX\n"
VERSION = 2
# the header of the tar member in front of a region that is inside a blob: `scan.index_header` makes it
MEMBER_HEADER_BYTES = 512
# magic, version, zeros. It has no checksum: it only shows that nothing has overwritten the region's start, and the
# version in the footer is the one that counts.
REGION_HEADER = struct.Struct("<8sI52x")
# the fields of the table in docs/format.md, in its order; the spaces are only for the reader
FOOTER_FIELDS = struct.Struct("<II QQII QQQQ QQQQ QQII 9q 128s QQ Q 3q 136x 8s".replace(" ", ""))
FOOTER_BYTES = 512
# headers of a tar, its payloads with their padding, and the zeros of its end-of-archive marker are in blocks of this size
TAR_BLOCK = 512
# zero blocks at the end of an archive; a scan stops at the second one
END_BLOCKS = range(3)
# the usual size of a memory page, so that a lookup in a mapped file loads one page
INDEX_PAGE_BYTES = 4096
BLOCK_ROWS = 1024
# a block has a header, and a byte for each row at least, unless it has only one
BLOCK_HEADER_BYTES = 48
# rows that are encoded or copied at a time: it bounds the memory for an index of any size
PART_ROWS = 64 * BLOCK_ROWS
HAS_REPORT = 1
# the footer identifies the archive that the index belongs to
IS_TIED = 2
# all names are in normal form, so a new name is compared with them by a lookup
HAS_NORMAL_NAMES = 4
# the members belong to several blobs, and a section lists these blobs
IS_COLLECTION = 1 << 16
# The upper 16 flags change what the rest means: a reader that does not know one of them would return wrong bytes.
# The lower 16 may be ignored, so a later version can add hints that this version reads past.
UNSUPPORTED_FLAGS = 0xFFFF0000 & ~IS_COLLECTION


def sidecar_of(blob: str | os.PathLike[str]) -> Location:
    """Return the location of the index file beside a blob: the name of the blob, and ".idx"."""
    return Location.parse(blob).beside(".idx")


def facts_to_bits(facts: frozenset[str]) -> int:
    """Encode the names of optional columns as bits, in the order of `columns.FACTS`."""
    return sum(1 << i for i, name in enumerate(FACTS) if name in facts)


def may_end(report: ScanReport, last_end: int, archive_bytes: int) -> bool:
    """Return whether an archive may end where the report of its scan says; an append writes there.

    Args:
        report: The report.
        last_end: The largest offset_end of the archive's members.
        archive_bytes: Size of the archive; if it is not known, the largest size.
    """
    end = report.bytes_scanned
    return (
        last_end <= end <= archive_bytes - TAR_BLOCK * report.end_marker
        and end % TAR_BLOCK == 0
        and report.end_marker in END_BLOCKS
    )


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 512 bytes of an index: its counts, the positions of its sections, and the archive it belongs to.

    All positions are in bytes from the start of the region.

    Attributes:
        region_bytes: Size of the region, with this footer.
        identity: The archive that the index belongs to; None if the index is tied to no archive.
        row_count: Number of members.
        payload_bytes: Sum of the sizes of all members.
        last_end: The largest offset_end of all members; 0 without members.
        block_count: Number of blocks. Each has 1,024 members, but the last one may have fewer.
        directory: Start of the directory.
        lookup: Start of the lookup's pages.
        lookup_pages: Number of these pages; 0 if there is no lookup.
        lookup_seed: Seed of the lookup's hashes.
        guide: Start of the guide.
        guide_bytes: Size of the guide; 0 if there is none.
        facts: Names of the optional columns that the index has.
        report: The report of the scan that found the members; None if there was no scan.
        blobs: Start of the section that lists the blobs of a collection.
        blobs_bytes: Size of that section; 0 if the index belongs to one archive.
        normal_names: All names are known to be in normal form. False: nobody has looked.
        packed: The footer's bytes as they were read; empty for a footer that is to be written.
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
    normal_names: bool = False
    packed: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def of_rows(
        cls,
        rows: int,
        payload_bytes: int,
        last_end: int,
        facts: frozenset[str],
        report: ScanReport | None = None,
    ) -> Footer:
        """Return a footer for rows that are in no index file."""
        return cls(0, None, rows, payload_bytes, last_end, 0, 0, 0, 0, 0, 0, 0, facts, report)

    @property
    def bytes_inside(self) -> int:
        """Bytes that the index takes inside a blob: the header of its member, and the region."""
        return MEMBER_HEADER_BYTES + self.region_bytes

    @property
    def facts_mask(self) -> int:
        """The optional columns as bits, in the order of `columns.FACTS`."""
        return facts_to_bits(self.facts)

    @property
    def directory_bytes(self) -> int:
        """Size of the directory's pages."""
        # block_count + 1 positions: the last one is the end of the last block
        return (self.block_count // DIRECTORY_PAGE_POSITIONS + 1) * INDEX_PAGE_BYTES

    def check_fits(self, where: str, offset: int) -> None:
        """Check that the footer's numbers fit each other.

        The checksum only proves that the footer is what was written. A hostile writer computes a right checksum, too, and
        the code that reads sections relies on these bounds.

        Args:
            where: The file or object, for messages.
            offset: Start of the region in it.

        Raises:
            FormatError: a section leaves the region, or two counts contradict each other.
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
            # memory is allocated for the rows before their blocks are read
            or self.block_count * BLOCK_HEADER_BYTES + self.row_count - self.block_count
            > self.region_bytes
            or self.last_end > OFFSET_MAX
            or (
                self.report is not None
                and not may_end(
                    self.report,
                    self.last_end,
                    self.identity.archive_bytes if self.identity else OFFSET_MAX,
                )
            )
        ):
            raise FormatError(
                f"{where}: the index at byte {offset} is damaged: the numbers in its footer do not fit a region of {self.region_bytes} bytes and {self.row_count} members",
                offset=offset,
            )

    def encode(self, stamp: int = 0) -> bytes:
        """Return the footer's 512 bytes.

        Args:
            stamp: Number of 8 bytes that means nothing. It makes the footer differ from others with equal values.
        """
        identity = self.identity or Identity(0, 0, 0)
        report = astuple(self.report) if self.report else (0,) * 12
        flags = (
            HAS_REPORT * (self.report is not None)
            | IS_TIED * (self.identity is not None)
            | HAS_NORMAL_NAMES * self.normal_names
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
            *report[:9],
            # Amazon's ETags are shorter. `pack` cuts a longer version, which then equals no blob's version, so that
            # readers fall back on the checksums.
            identity.version.encode(),
            self.blobs,
            self.blobs_bytes,
            stamp,
            *report[9:],
            INDEX_MAGIC,
        )
        return struct.pack("<I", crc32c(packed[4:])) + packed[4:]

    @classmethod
    def decode(cls, packed: bytes, where: str, offset: int) -> Footer | None:
        """Decode a footer; return None if the bytes are not a footer.

        Args:
            packed: The last 512 bytes of a file or object.
            where: The file or object, for messages.
            offset: Start of the footer in it.

        Raises:
            ChecksumError: the footer is damaged.
            FormatError: another version of blobpack wrote the index.
        """
        if len(packed) != FOOTER_BYTES or packed[-8:] != INDEX_MAGIC:
            return None
        crc, version, region_bytes, archive_bytes, tail_crc, samples_crc, *rest = (
            FOOTER_FIELDS.unpack(packed)
        )
        # before the version: a damaged version is damage, not a later format
        if crc != crc32c(packed[4:]):
            raise ChecksumError(
                f"{where}: the index is damaged: its footer at byte {offset} does not match its checksum",
                offset=offset,
            )
        if version != VERSION:
            raise FormatError(
                f"{where}: the footer at byte {offset} is of version {version} of the index format, and this "
                f"blobpack reads version {VERSION}",
                offset=offset,
            )
        facts, flags = rest[10:12]
        blobs, blobs_bytes = rest[22:24]
        if flags & UNSUPPORTED_FLAGS or bool(flags & IS_COLLECTION) != bool(blobs_bytes):
            raise FormatError(
                f"{where}: the footer at byte {offset} has flags {flags:#x}, of a later version of blobpack",
                offset=offset,
            )
        # a version that was cut to 128 bytes may end inside a character
        blob_version = rest[21].rstrip(b"\0").decode(errors="replace")
        return cls(
            region_bytes,
            Identity(archive_bytes, tail_crc, samples_crc, blob_version)
            if flags & IS_TIED
            else None,
            *rest[:10],  # type: ignore[call-arg]
            frozenset(name for i, name in enumerate(FACTS) if facts >> i & 1),
            ScanReport(*rest[12:21], *rest[25:28]) if flags & HAS_REPORT else None,
            blobs,
            blobs_bytes,
            bool(flags & HAS_NORMAL_NAMES),
            packed,
        )
