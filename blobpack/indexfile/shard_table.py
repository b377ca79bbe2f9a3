"""The blobs of a collection, a section of the collection's index: name, rows, size and identity of each blob.

Strategy: members of one blob are neighbours, so the section stores where the rows of each blob end, and a binary
search finds the blob of a row. A blob costs 52 bytes, its name and its ETag; a member costs nothing. docs/format.md
describes every byte.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import ChecksumError, FormatError
from blobpack.indexfile.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTION_HEAD = struct.Struct("<II")
# row_end, blob_bytes, payload_bytes, archive_bytes: u64
LARGE_COLUMNS = 4
# tail_crc, samples_crc, flags, name_end, version_end: u32
SMALL_COLUMNS = 5
# what a blob takes beside its name and its version
BLOB_BYTES = 8 * LARGE_COLUMNS + 4 * SMALL_COLUMNS
IS_COMPRESSED = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One blob of a collection.

    Attributes:
        name: Path relative to the folder of the collection, or an absolute path or URL.
        first_row: Row of the blob's first member in the collection.
        row_end: One past the row of its last member.
        blob_bytes: Size of the whole file or object.
        payload_bytes: Sum of the sizes of its members.
        is_compressed: Whether offsets count the bytes of the uncompressed tar.
        identity: Identity of the archive that was collected; its version is the ETag, or empty for a local file.
    """

    name: str
    first_row: int
    row_end: int
    blob_bytes: int
    payload_bytes: int
    is_compressed: bool
    identity: Identity


class Shards:
    """The blobs of a collection, by number and by row."""

    __slots__ = ("_large", "_names", "_small", "_versions", "row_ends")

    def __init__(self, packed: bytes, row_count: int, where: str, offset: int) -> None:
        """Decode the section.

        Args:
            packed: Bytes of the section.
            row_count: Number of members of the collection.
            where: The file or object, for messages.
            offset: Start of the section in it.

        Raises:
            ChecksumError: the section is damaged.
            FormatError: its numbers do not fit its size, or the collection's members.
        """
        count = _count_of(packed, where, offset)
        texts = SECTION_HEAD.size + count * BLOB_BYTES
        large = struct.unpack_from(f"<{LARGE_COLUMNS * count}Q", packed, SECTION_HEAD.size)
        small = struct.unpack_from(
            f"<{SMALL_COLUMNS * count}I", packed, SECTION_HEAD.size + 8 * LARGE_COLUMNS * count
        )
        # Numbers stay in tuples by column, and a Shard is made when it is asked for: of 10,000 blobs, most are never
        # read from.
        self._large = [large[i * count : (i + 1) * count] for i in range(LARGE_COLUMNS)]
        self._small = [small[i * count : (i + 1) * count] for i in range(SMALL_COLUMNS)]
        self.row_ends = self._large[0]
        name_ends, version_ends = self._small[3:]
        names_bytes = name_ends[-1] if count else 0
        if (
            (self.row_ends[-1] if count else 0) != row_count
            # ends that go back would break the binary search, and the slices of names and versions
            or any(
                end < before
                for ends in (self.row_ends, name_ends, version_ends)
                for before, end in pairwise(ends)
            )
            or texts + names_bytes + (version_ends[-1] if count else 0) != len(packed)
        ):
            fault = f"has numbers that do not fit {len(packed)} bytes and {row_count} members"
            raise FormatError(_message(where, offset, fault), offset=offset)
        self._names = packed[texts : texts + names_bytes]
        self._versions = packed[texts + names_bytes :]

    def __len__(self) -> int:
        return len(self.row_ends)

    def __getitem__(self, number: int) -> Shard:
        """Return the blob with this number, 0 ≤ number < len."""
        row_end, blob_bytes, payload_bytes, archive_bytes = (
            column[number] for column in self._large
        )
        tail_crc, samples_crc, flags = (column[number] for column in self._small[:3])
        name = _decode_text(self._names, self._small[3], number)
        version = _decode_text(self._versions, self._small[4], number)
        return Shard(
            name,
            self.row_ends[number - 1] if number else 0,
            row_end,
            blob_bytes,
            payload_bytes,
            bool(flags & IS_COMPRESSED),
            Identity(archive_bytes, tail_crc, samples_crc, version),
        )

    def number_of(self, row: int) -> int:
        """Return the number of the blob that holds a row, 0 ≤ row < members."""
        return bisect_right(self.row_ends, row)


def encode_shards(shards: Sequence[Shard]) -> bytes:
    """Return the bytes of the section."""
    # file names on Linux are bytes: those that are not UTF-8 stand as surrogates in a str (PEP 383)
    names = [shard.name.encode("utf-8", "surrogateescape") for shard in shards]
    versions = [shard.identity.version.encode() for shard in shards]
    large = (
        *(shard.row_end for shard in shards),
        *(shard.blob_bytes for shard in shards),
        *(shard.payload_bytes for shard in shards),
        *(shard.identity.archive_bytes for shard in shards),
    )
    small = (
        *(shard.identity.tail_crc for shard in shards),
        *(shard.identity.samples_crc for shard in shards),
        *(IS_COMPRESSED * shard.is_compressed for shard in shards),
        *accumulate(map(len, names)),
        *accumulate(map(len, versions)),
    )
    packed = b"".join(
        (
            struct.pack(f"<I{len(large)}Q", len(shards), *large),
            struct.pack(f"<{len(small)}I", *small),
            *names,
            *versions,
        )
    )
    return struct.pack("<I", crc32c(packed)) + packed


def _count_of(packed: bytes, where: str, offset: int) -> int:
    """Check the checksum and the size of the section, and return the number of blobs."""
    if len(packed) < SECTION_HEAD.size or int.from_bytes(packed[:4], "little") != crc32c(
        packed[4:]
    ):
        raise ChecksumError(_message(where, offset, "does not match its checksum"), offset=offset)
    count: int = SECTION_HEAD.unpack_from(packed)[1]
    # before anything of that size is allocated: a hostile count may be 2³² − 1
    if SECTION_HEAD.size + count * BLOB_BYTES > len(packed):
        fault = f"has {len(packed)} bytes, too few for {count} blobs"
        raise FormatError(_message(where, offset, fault), offset=offset)
    return count


def _message(where: str, offset: int, fault: str) -> str:
    return f"{where}: the index is damaged: its section of blobs at byte {offset} {fault}"


def _decode_text(packed: bytes, ends: tuple[int, ...], number: int) -> str:
    start = ends[number - 1] if number else 0
    return packed[start : ends[number]].decode("utf-8", "surrogateescape")
