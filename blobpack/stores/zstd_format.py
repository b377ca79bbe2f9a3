"""The seekable zstd format: independent frames, and behind them a table of where each begins.

A blob compressed by us is laid out so:

    zstd frames of the tar stream, each with its size and checksum
    one skippable frame 0x184D2A5B that holds the index region, if the blob carries its index
    one skippable frame 0x184D2A5E that holds the seek table

The index's frame is listed in the seek table as a frame without content, as the format asks of skippable
frames, so that any reader of the format finds its way and any zstd decompresses the tar alone.

The table's checksum of a frame is the one zstd itself writes behind a frame: the low 32 bits of XXH64. So it
is taken from there when writing, and checked by zstd when reading.

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
INDEX_MAGIC = 0x184D2A5B
SEEKABLE_MAGIC = 0x8F92EAB1

SKIPPABLE = struct.Struct("<II")  # Skippable_Magic_Number, Frame_Size
FOOTER = struct.Struct("<IBI")  # Number_Of_Frames, Seek_Table_Descriptor, Seekable_Magic_Number
SEEK_TABLE_BYTES_MIN = SKIPPABLE.size + FOOTER.size
CHECKSUM_FLAG = 0x80
RESERVED_BITS = 0x7C

SIZE_MAX = (1 << 32) - 1  # what a size's four bytes hold
FRAMES_MAX = 1 << 27  # ZSTD_SEEKABLE_MAXFRAMES
CONTENT_BYTES_MAX = 1 << 30  # of one frame: ZSTD_SEEKABLE_MAX_FRAME_DECOMPRESSED_SIZE
BLOCK_BYTES_MAX = 1 << 17  # of content, which takes at least
BLOCK_BYTES_MIN = 4  # in the file: a header of three bytes, and the byte that is repeated

FRAME_CHECKSUM_FLAG = 0x04  # Content_Checksum_Flag, in the byte behind a frame's magic
CHECKSUM_BYTES = 4
NO_CONTENT_CHECKSUM = 0x51D8E999  # low 32 bits of XXH64 of no bytes


@dataclass(frozen=True, slots=True)
class SeekTable:
    """Where each of n frames lies, in the file and in what it decompresses to.

    Attributes:
        frame_bounds: (n + 1,) int64; frame i is the file's bytes frame_bounds[i] to frame_bounds[i + 1].
        content_bounds: (n + 1,) int64; the same of the decompressed stream.
        checksums: (n,) uint32, the low 32 bits of XXH64 of each frame's content; None if there are none.
    """

    frame_bounds: array[int]
    content_bounds: array[int]
    checksums: array[int] | None

    @property
    def content_bytes(self) -> int:
        """The size of the decompressed stream."""
        return self.content_bounds[-1]

    def frames_of(self, start: int, end: int) -> range:
        """Find the frames that hold the content's bytes start to end, 0 ≤ start < end ≤ content_bytes."""
        return range(
            bisect_right(self.content_bounds, start) - 1, bisect_left(self.content_bounds, end)
        )

    def index_range(self) -> tuple[int, int] | None:
        """Find where in the file the index region lies: what the last frame holds, if it has no content.

        The table does not say what a frame is for; the region's own footer does.
        """
        if len(self.frame_bounds) < 2 or self.content_bounds[-2] != self.content_bounds[-1]:
            return None
        start, end = self.frame_bounds[-2] + SKIPPABLE.size, self.frame_bounds[-1]
        return (start, end) if start <= end else None


def is_zstd(head: bytes) -> bool:
    """Tell whether a file's first four bytes, or more, begin zstd data: a frame, or a skippable one."""
    return head.startswith(ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F)


def skippable_header(magic: int, size: int) -> bytes:
    """Make the header of a skippable frame.

    Args:
        magic: 0x184D2A50 to 0x184D2A5F.
        size: The bytes that will follow.

    Raises:
        FormatError: more than a frame can hold.
    """
    if size > SIZE_MAX - SKIPPABLE.size:
        raise FormatError(
            f"{size} bytes do not go into one skippable zstd frame, which holds 4 GiB"
        )
    return SKIPPABLE.pack(magic, size)


def encode_seek_table(frames: Iterable[tuple[int, int, int]]) -> bytes:
    """Make the skippable frame that ends a seekable file.

    Args:
        frames: Of each its bytes in the file, its content's bytes, and the content's checksum.

    Raises:
        FormatError: more frames than the format allows.
    """
    fields = array("I", (field for frame in frames for field in frame))
    count = len(fields) // 3
    if count > FRAMES_MAX:
        raise FormatError(f"{count} frames; a seekable zstd file has at most {FRAMES_MAX}")
    entries = _little_endian(fields).tobytes()
    footer = FOOTER.pack(count, CHECKSUM_FLAG, SEEKABLE_MAGIC)
    return skippable_header(SEEK_TABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def seek_table_bytes(tail: bytes, file_bytes: int) -> int | None:
    """Tell the size of the seek table's frame from the end of a file.

    Args:
        tail: The file's last bytes, SEEK_TABLE_BYTES_MIN or more; fewer only if it has no more.
        file_bytes: The file's size.

    Returns:
        The size; None if the file does not end in a seek table.

    Raises:
        FormatError: the table has features that are not known, or would not fit into the file.
    """
    if len(tail) < SEEK_TABLE_BYTES_MIN:
        return None
    count, descriptor, magic = FOOTER.unpack_from(tail, len(tail) - FOOTER.size)
    if magic != SEEKABLE_MAGIC:
        return None
    at = file_bytes - FOOTER.size
    if descriptor & RESERVED_BITS:
        raise FormatError(
            f"a seek table of an unknown kind (descriptor {descriptor:#04x}), at byte {at}",
            offset=at,
        )
    size: int = SKIPPABLE.size + count * _entry_bytes(descriptor) + FOOTER.size
    if count > FRAMES_MAX or size > file_bytes:
        raise TruncatedError(
            f"a seek table of {count} frames does not fit into {file_bytes} bytes, at byte {at}",
            offset=at,
        )
    return size


def decode_seek_table(frame: bytes, file_bytes: int) -> SeekTable:
    """Read the seek table's frame.

    Args:
        frame: The file's last bytes, as many as seek_table_bytes says.
        file_bytes: The file's size.

    Raises:
        FormatError: the table contradicts itself or the file's size.
    """
    at = file_bytes - len(frame)
    magic, size = SKIPPABLE.unpack_from(frame)
    if magic != SEEK_TABLE_MAGIC or size != len(frame) - SKIPPABLE.size:
        raise FormatError(
            f"a seek table's frame was expected, {len(frame)} bytes of magic {SEEK_TABLE_MAGIC:#x}, and "
            f"{size + SKIPPABLE.size} bytes of magic {magic:#x} were found, at byte {at}",
            offset=at,
        )
    _, descriptor, _ = FOOTER.unpack_from(frame, len(frame) - FOOTER.size)
    fields = array("I", frame[SKIPPABLE.size : len(frame) - FOOTER.size])
    fields = _little_endian(fields)
    step = _entry_bytes(descriptor) // fields.itemsize
    frame_bounds = array("q", accumulate(fields[0::step], initial=0))
    content_sizes = fields[1::step]
    if frame_bounds[-1] != at:
        raise FormatError(
            f"the seek table's frames take {frame_bounds[-1]} bytes, and {at} are before it, at byte {at}",
            offset=at,
        )
    if content_sizes and max(content_sizes) > CONTENT_BYTES_MAX:
        raise FormatError(
            f"the seek table has a frame of {max(content_sizes)} bytes; at most {CONTENT_BYTES_MAX} are "
            f"allowed, at byte {at}",
            offset=at,
        )
    content_bounds = array("q", accumulate(content_sizes, initial=0))
    return SeekTable(frame_bounds, content_bounds, fields[2::3] if step == 3 else None)


def decode_frame(frame: bytes, content_bytes: int, checksum: int | None) -> bytes:
    """Decompress one frame, which must be what the seek table says.

    Args:
        frame: Its bytes in the file.
        content_bytes: The size of its content.
        checksum: The low 32 bits of XXH64 of its content; None if it is not known.

    Raises:
        ChecksumError: the content is not the one that was compressed.
        FormatError: the frame is damaged, or its content has another size.
    """
    import zstandard

    if content_bytes > len(frame) // BLOCK_BYTES_MIN * BLOCK_BYTES_MAX:
        raise FormatError(
            f"{len(frame)} bytes can't hold the {content_bytes} that the seek table says"
        )
    try:
        found = zstandard.get_frame_parameters(frame)
        if found.content_size not in (content_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise FormatError(
                f"{found.content_size} bytes of content, and the seek table says {content_bytes}"
            )
        if checksum is not None:
            frame = _with_checksum(frame, checksum, present=found.has_checksum)
        content: bytes = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=content_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        kind = ChecksumError if "checksum" in str(exc) else FormatError
        raise kind(str(exc)) from exc
    if len(content) != content_bytes:
        raise FormatError(
            f"{len(content)} bytes of content, and the seek table says {content_bytes}"
        )
    return content


def _with_checksum(frame: bytes, checksum: int, *, present: bool) -> bytes:
    """Make a frame that zstd checks against the seek table's checksum.

    Many writers keep checksums in the table only: then it is put where the frame would have it.
    """
    stored = checksum.to_bytes(CHECKSUM_BYTES, "little")
    if present:
        if frame[-CHECKSUM_BYTES:] != stored:
            raise ChecksumError("its checksum is not the seek table's")
        return frame
    magic_bytes = len(ZSTD_MAGIC)
    flags = frame[magic_bytes] | FRAME_CHECKSUM_FLAG
    return b"".join((frame[:magic_bytes], bytes([flags]), frame[magic_bytes + 1 :], stored))


def frame_checksum(frame: bytes) -> int:
    """Read the checksum behind a frame that was written with one."""
    return int.from_bytes(frame[-CHECKSUM_BYTES:], "little")


def _entry_bytes(descriptor: int) -> int:
    return 12 if descriptor & CHECKSUM_FLAG else 8


def _little_endian(fields: array[int]) -> array[int]:
    if sys.byteorder == "big":
        fields.byteswap()
    return fields
