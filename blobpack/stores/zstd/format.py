"""The seekable zstd format: independent frames, followed by a table of their sizes.

A blob that blobpack compressed has this layout:

    zstd frames of the tar stream, each with its size and checksum
    one skippable frame 0x184D2A5B that holds the index and the tar header before it, if the blob carries its index
    one skippable frame 0x184D2A5E that holds the seek table

The seek table lists the index's frame as a frame without content, as the format requires for skippable frames. So
every reader of the format computes right offsets, and every zstd decompresses the tar alone.

The checksum of a frame in the table is the checksum that zstd itself writes behind a frame: the low 32 bits of XXH64.
It is copied from there when a blob is compressed, and zstd checks it when a frame is decompressed.

Source: zstd, contrib/seekable_format/zstd_seekable_compression_format.md, 0.1.0; RFC 8878, "Zstandard
Compression", 3.1.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from blobpack.errors import ChecksumError, FormatError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterable

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SEEK_TABLE_MAGIC = 0x184D2A5E
INDEX_FRAME_MAGIC = 0x184D2A5B
SEEKABLE_MAGIC = 0x8F92EAB1

# Skippable_Magic_Number, Frame_Size
SKIPPABLE_HEADER = struct.Struct("<II")
# Number_Of_Frames, Seek_Table_Descriptor, Seekable_Magic_Number
SEEK_TABLE_FOOTER = struct.Struct("<IBI")
SEEK_TABLE_BYTES_MIN = SKIPPABLE_HEADER.size + SEEK_TABLE_FOOTER.size
# Bits of Seek_Table_Descriptor. Reserved bits are for changes that old readers can't understand, so they must be 0.
TABLE_CHECKSUM_FLAG = 0x80
TABLE_RESERVED_BITS = 0x7C

# Largest value of a size field, which has four bytes.
FRAME_SIZE_MAX = (1 << 32) - 1
# ZSTD_SEEKABLE_MAXFRAMES in zstd's contrib/seekable_format/zstd_seekable.h
FRAMES_MAX = 1 << 27
# ZSTD_SEEKABLE_MAX_FRAME_DECOMPRESSED_SIZE, in the same file
FRAME_CONTENT_BYTES_MAX = 1 << 30
# A block of a frame holds at most 128 KiB of content. With any content, it takes at least four bytes: a header of three
# and, in an RLE block, the byte that is repeated (RFC 8878, 3.1.1.2). Only an empty block takes three.
ZSTD_BLOCK_CONTENT_BYTES_MAX = 1 << 17
ZSTD_BLOCK_BYTES_MIN = 4

# Content_Checksum_Flag in Frame_Header_Descriptor, the byte behind the magic number (RFC 8878, 3.1.1.1.1)
FRAME_CHECKSUM_FLAG = 0x04
FRAME_CHECKSUM_BYTES = 4
# Low 32 bits of XXH64 of no bytes, for frames without content.
NO_CONTENT_CHECKSUM = 0x51D8E999


@dataclass(frozen=True, slots=True)
class SeekTable:
    """The positions of n frames in the file, and of their contents in the decompressed stream.

    Attributes:
        frame_bounds: (n + 1,) int64; frame i is the bytes frame_bounds[i] to frame_bounds[i + 1] of the file.
        content_bounds: (n + 1,) int64; the content of frame i is the bytes content_bounds[i] to content_bounds[i + 1]
            of the decompressed stream.
        checksums: (n,) uint32, the low 32 bits of XXH64 of each content; None if the table has no checksums.
    """

    frame_bounds: array[int]
    content_bounds: array[int]
    checksums: array[int] | None

    @property
    def content_bytes(self) -> int:
        """The size of the decompressed stream."""
        return self.content_bounds[-1]

    def frames_of(self, start: int, end: int) -> range:
        """Find the frames that hold the bytes start to end of the content; 0 ≤ start < end ≤ content_bytes."""
        return range(
            bisect_right(self.content_bounds, start) - 1, bisect_left(self.content_bounds, end)
        )

    def index_range(self) -> tuple[int, int] | None:
        """Return the range of the last frame's payload in the file if the frame has no content; else None.

        It may be the index region. The table does not tell, but the region's own footer does.
        """
        if len(self.frame_bounds) < 2 or self.content_bounds[-2] != self.content_bounds[-1]:
            return None
        start, end = self.frame_bounds[-2] + SKIPPABLE_HEADER.size, self.frame_bounds[-1]
        return (start, end) if start <= end else None


def is_zstd(head: bytes) -> bool:
    """Return whether the first four or more bytes of a file are the beginning of a zstd frame, skippable or not."""
    # Skippable frames have 16 magic numbers, 0x184D2A50 to 0x184D2A5F, stored little-endian (RFC 8878, 3.1.2).
    return head.startswith(ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F)


def skippable_header(magic: int, size: int) -> bytes:
    """Encode the header of a skippable frame.

    Args:
        magic: Magic number, 0x184D2A50 to 0x184D2A5F.
        size: Number of bytes that will follow the header.

    Raises:
        FormatError: the bytes are more than a frame can hold.
    """
    # The seek table stores the size of the whole frame, with its header, in four bytes.
    if size > FRAME_SIZE_MAX - SKIPPABLE_HEADER.size:
        raise FormatError(
            f"{size} bytes do not fit into one skippable zstd frame, which holds less than 4 GiB"
        )
    return SKIPPABLE_HEADER.pack(magic, size)


def encode_seek_table(frames: Iterable[tuple[int, int, int]]) -> bytes:
    """Encode the skippable frame with the seek table, which ends a seekable file.

    Args:
        frames: For each frame: its size in the file, the size of its content, and the checksum of its content.

    Raises:
        FormatError: there are more frames than the format allows.
    """
    fields = array("I", (field for frame in frames for field in frame))
    count = len(fields) // 3
    if count > FRAMES_MAX:
        raise FormatError(f"{count} frames; a seekable zstd file has at most {FRAMES_MAX}")
    entries = _little_endian(fields).tobytes()
    footer = SEEK_TABLE_FOOTER.pack(count, TABLE_CHECKSUM_FLAG, SEEKABLE_MAGIC)
    return skippable_header(SEEK_TABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def seek_table_bytes(tail: bytes, file_bytes: int) -> int | None:
    """Compute the size of the frame that holds the seek table.

    Args:
        tail: The last bytes of the file: SEEK_TABLE_BYTES_MIN or more, or all bytes of a shorter file.
        file_bytes: Size of the file.

    Returns:
        The size in bytes; None if the file does not end with a seek table.

    Raises:
        FormatError: the table has unknown features, or does not fit into the file.
    """
    if len(tail) < SEEK_TABLE_BYTES_MIN:
        return None
    count, descriptor, magic = SEEK_TABLE_FOOTER.unpack_from(
        tail, len(tail) - SEEK_TABLE_FOOTER.size
    )
    if magic != SEEKABLE_MAGIC:
        return None
    at = file_bytes - SEEK_TABLE_FOOTER.size
    if descriptor & TABLE_RESERVED_BITS:
        raise FormatError(
            f"a seek table of an unknown kind (descriptor {descriptor:#04x}), at byte {at}",
            offset=at,
        )
    size: int = SKIPPABLE_HEADER.size + count * _entry_bytes(descriptor) + SEEK_TABLE_FOOTER.size
    if count > FRAMES_MAX or size > file_bytes:
        raise TruncatedError(
            f"a seek table of {count} frames does not fit into {file_bytes} bytes, at byte {at}",
            offset=at,
        )
    return size


def decode_seek_table(frame: bytes, file_bytes: int) -> SeekTable:
    """Decode the frame that holds the seek table.

    Args:
        frame: The last bytes of the file; seek_table_bytes computes their number.
        file_bytes: Size of the file.

    Raises:
        FormatError: the table contradicts itself or the size of the file.
    """
    at = file_bytes - len(frame)
    magic, size = SKIPPABLE_HEADER.unpack_from(frame)
    if magic != SEEK_TABLE_MAGIC or size != len(frame) - SKIPPABLE_HEADER.size:
        raise FormatError(
            f"a seek table's frame was expected, {len(frame)} bytes of magic {SEEK_TABLE_MAGIC:#x}, and "
            f"{size + SKIPPABLE_HEADER.size} bytes of magic {magic:#x} were found, at byte {at}",
            offset=at,
        )
    _, descriptor, _ = SEEK_TABLE_FOOTER.unpack_from(frame, len(frame) - SEEK_TABLE_FOOTER.size)
    fields = array("I", frame[SKIPPABLE_HEADER.size : len(frame) - SEEK_TABLE_FOOTER.size])
    fields = _little_endian(fields)
    step = _entry_bytes(descriptor) // fields.itemsize
    frame_bounds = array("q", accumulate(fields[0::step], initial=0))
    content_sizes = fields[1::step]
    if frame_bounds[-1] != at:
        raise FormatError(
            f"the seek table's frames take {frame_bounds[-1]} bytes, and {at} are before it, at byte {at}",
            offset=at,
        )
    # A damaged or hostile table could otherwise make us allocate 4 GiB for each frame.
    if content_sizes and max(content_sizes) > FRAME_CONTENT_BYTES_MAX:
        raise FormatError(
            f"the seek table has a frame of {max(content_sizes)} bytes; at most {FRAME_CONTENT_BYTES_MAX} are "
            f"allowed, at byte {at}",
            offset=at,
        )
    content_bounds = array("q", accumulate(content_sizes, initial=0))
    return SeekTable(frame_bounds, content_bounds, fields[2::3] if step == 3 else None)


def decode_frame(frame: bytes, content_bytes: int, checksum: int | None) -> bytes:
    """Decompress one frame, and compare it with the seek table.

    Args:
        frame: The bytes of the frame in the file.
        content_bytes: Size of the content, from the seek table.
        checksum: Low 32 bits of XXH64 of the content; None if the seek table has no checksums.

    Raises:
        ChecksumError: the content has another checksum.
        FormatError: the frame is damaged, or its content has another size.
    """
    # Imported here, because only compressed blobs need it.
    import zstandard

    # Before the decompressor allocates memory for a size that the frame can't have.
    if content_bytes > len(frame) // ZSTD_BLOCK_BYTES_MIN * ZSTD_BLOCK_CONTENT_BYTES_MAX:
        raise FormatError(
            f"{len(frame)} compressed bytes can't hold the {content_bytes} bytes of content in the seek table"
        )
    try:
        found = zstandard.get_frame_parameters(frame)
        if found.content_size not in (content_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise FormatError(
                f"the frame has {found.content_size} bytes of content, the seek table {content_bytes}"
            )
        if checksum is not None:
            frame = _with_checksum(frame, checksum, present=found.has_checksum)
        content: bytes = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=content_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        # The zstandard package has one exception for everything. Only the text from zstd tells the errors apart.
        kind = ChecksumError if "checksum" in str(exc) else FormatError
        raise kind(str(exc)) from exc
    if len(content) != content_bytes:
        raise FormatError(
            f"the frame has {len(content)} bytes of content, the seek table {content_bytes}"
        )
    return content


def _with_checksum(frame: bytes, checksum: int, *, present: bool) -> bytes:
    """Return the frame with the seek table's checksum behind it, so that zstd checks it.

    Many writers store checksums in the table only. Then the checksum and its flag are added to the frame.
    """
    stored = checksum.to_bytes(FRAME_CHECKSUM_BYTES, "little")
    if present:
        if frame[-FRAME_CHECKSUM_BYTES:] != stored:
            raise ChecksumError("the checksum of the frame is not the one in the seek table")
        return frame
    magic_bytes = len(ZSTD_MAGIC)
    flags = frame[magic_bytes] | FRAME_CHECKSUM_FLAG
    return b"".join((frame[:magic_bytes], bytes([flags]), frame[magic_bytes + 1 :], stored))


def frame_checksum(frame: bytes) -> int:
    """Return the checksum behind a frame that was written with a checksum."""
    return int.from_bytes(frame[-FRAME_CHECKSUM_BYTES:], "little")


def _entry_bytes(descriptor: int) -> int:
    # Compressed_Size, Decompressed_Size and, if the flag is set, Checksum: four bytes each
    return 12 if descriptor & TABLE_CHECKSUM_FLAG else 8


def _little_endian(fields: array[int]) -> array[int]:
    if sys.byteorder == "big":
        fields.byteswap()
    return fields
