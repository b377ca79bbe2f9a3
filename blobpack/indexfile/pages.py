"""Decode the guide and the pages of the directory, and check pages."""

from __future__ import annotations

import struct

from blobpack.checksum import crc32c
from blobpack.errors import ChecksumError, FormatError

# a page of 4,096 bytes holds its checksum and number (8 bytes), then positions of 8 bytes
DIRECTORY_PAGE_POSITIONS = 511
# Pages of the lookup count from 0, pages of the directory from here. So a page that stands in the place of
# another page is found out, although its checksum is right.
FIRST_DIRECTORY_PAGE = 1 << 31


def decode_guide(packed: bytes, block_count: int, where: str, offset: int) -> list[bytes]:
    """Decode the guide: the first name of each block.

    Raises:
        ChecksumError: the guide is damaged.
        FormatError: the guide is too short for its blocks.
    """
    if len(packed) < 4 or int.from_bytes(packed[:4], "little") != crc32c(packed[4:]):
        raise ChecksumError(
            f"{where}: the index is damaged: its guide at byte {offset} does not match its checksum",
            offset=offset,
        )
    names = packed[4 + 4 * block_count :]
    if len(packed) < 4 + 4 * block_count:
        raise FormatError(
            f"{where}: the index is damaged: its guide at byte {offset} has {len(packed)} bytes, too few for {block_count} blocks",
            offset=offset,
        )
    ends = struct.unpack_from(f"<{block_count}I", packed, 4)
    return [names[start:end] for start, end in zip((0, *ends), ends, strict=False)]


def decode_directory_page(packed: bytes, number: int, where: str, offset: int) -> tuple[int, ...]:
    """Decode a page of the directory.

    Args:
        packed: The page.
        number: Number of the page in the directory, counted from 0.
        where: The file or object, for messages.
        offset: Start of the page in it.

    Returns:
        The 511 positions of blocks, in bytes from the start of the region.

    Raises:
        ChecksumError: the page is damaged.
    """
    check_page(packed, FIRST_DIRECTORY_PAGE + number, "a page of its directory", where, offset)
    return struct.unpack_from(f"<{DIRECTORY_PAGE_POSITIONS}Q", packed, 8)


def check_page(packed: bytes, number: int, what: str, where: str, offset: int) -> None:
    """Check a page of the lookup or the directory against its checksum and its number.

    Raises:
        ChecksumError: the page is damaged, or is another page.
    """
    # The number is compared, too: a page in the place of another one once hid the members that belong there.
    if struct.unpack_from("<II", packed) != (crc32c(packed[4:]), number):
        raise ChecksumError(
            f"{where}: the index is damaged: {what} at byte {offset} does not match its checksum or its number",
            offset=offset,
        )
