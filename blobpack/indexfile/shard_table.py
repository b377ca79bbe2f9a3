"""The blobs of a collection, as a section of its index: which rows are whose, where each lies, and what it must be.

docs/format.md has the layout. Members of one blob are neighbours, so a row's blob is found among the rows where
each blob ends: the blobs cost some bytes each, and their members nothing.
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
LARGE_COLUMNS = 4  # row_end, blob_bytes, payload_bytes, archive_bytes: u64
SMALL_COLUMNS = 5  # tail_crc, samples_crc, flags, name_end, version_end: u32
IS_COMPRESSED = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One blob of a collection.

    Attributes:
        name: Where it lies: from the collection's folder, or a URL or absolute path.
        first_row: Its first member's in the collection.
        row_end: One past its last member's.
        blob_bytes: All of the file or object.
        payload_bytes: The sum of its members' sizes.
        is_compressed: Offsets are those in the tar that it decompresses to.
        identity: What it must be; its version is the ETag, empty of a local file.
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
        """Read the section.

        Args:
            packed: Its bytes.
            row_count: Members of the collection.
            where: The file, for messages.
            offset: Where the section starts in it.

        Raises:
            FormatError: it is damaged.
        """
        if len(packed) < SECTION_HEAD.size or int.from_bytes(packed[:4], "little") != crc32c(
            packed[4:]
        ):
            raise ChecksumError(
                f"{where}: the index is damaged: its section of blobs at byte {offset} does not match its "
                f"checksum",
                offset=offset,
            )
        count = SECTION_HEAD.unpack_from(packed)[1]
        texts = SECTION_HEAD.size + count * (8 * LARGE_COLUMNS + 4 * SMALL_COLUMNS)
        if texts > len(packed):
            raise FormatError(
                f"{where}: the index is damaged: its section of blobs at byte {offset} is cut",
                offset=offset,
            )
        large = struct.unpack_from(f"<{LARGE_COLUMNS * count}Q", packed, SECTION_HEAD.size)
        small = struct.unpack_from(
            f"<{SMALL_COLUMNS * count}I", packed, SECTION_HEAD.size + 8 * LARGE_COLUMNS * count
        )
        self._large = [large[i * count : (i + 1) * count] for i in range(LARGE_COLUMNS)]
        self._small = [small[i * count : (i + 1) * count] for i in range(SMALL_COLUMNS)]
        self.row_ends = self._large[0]
        name_ends, version_ends = self._small[3:]
        names_bytes = name_ends[-1] if count else 0
        if (
            (self.row_ends[-1] if count else 0) != row_count
            or any(
                end < before
                for ends in (self.row_ends, name_ends, version_ends)
                for before, end in pairwise(ends)
            )
            or texts + names_bytes + (version_ends[-1] if count else 0) != len(packed)
        ):
            raise FormatError(
                f"{where}: the index is damaged: its section of blobs at byte {offset} does not fit it",
                offset=offset,
            )
        self._names = packed[texts : texts + names_bytes]
        self._versions = packed[texts + names_bytes :]

    def __len__(self) -> int:
        return len(self.row_ends)

    def __getitem__(self, number: int) -> Shard:
        """Give a blob, 0 ≤ number < len."""
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
        """Tell which blob holds a row, 0 ≤ row < members."""
        return bisect_right(self.row_ends, row)


def encode_shards(shards: Sequence[Shard]) -> bytes:
    """Make the section."""
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


def _decode_text(packed: bytes, ends: tuple[int, ...], number: int) -> str:
    start = ends[number - 1] if number else 0
    return packed[start : ends[number]].decode("utf-8", "surrogateescape")
