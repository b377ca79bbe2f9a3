"""The seekable zstd format: what is written is read by other readers, and nothing hostile gets through."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
import pyzstd
import zstandard
from hypothesis import given, strategies as st

from blobpack.errors import ChecksumError, FormatError, TruncatedError
from blobpack.stores.memory import MemoryStore
from blobpack.stores.zstd import format as zstd_format
from blobpack.stores.zstd.format import (
    FRAME_CONTENT_BYTES_MAX,
    INDEX_FRAME_MAGIC,
    NO_CONTENT_CHECKSUM,
    decode_frame,
    decode_seek_table,
    encode_seek_table,
    is_zstd,
    seek_table_bytes,
    skippable_header,
)
from blobpack.stores.zstd.store import open_seekable
from blobpack.writing.compress import FrameWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANCE = random.Random(7)
PIECES = [
    b"first " * 500,
    CHANCE.randbytes(3000),
    b"x",
    bytes(100_000),
    bytes(CHANCE.choices(b"abcd", k=20_000)),
]
CONTENT = b"".join(PIECES)
REGION = b"index region " * 300
ENTRY_BYTES = 12
FOOTER_BYTES = 9


def seekable(pieces: list[bytes] = PIECES, region: bytes | None = REGION) -> bytes:
    file = io.BytesIO()
    with FrameWriter(file) as writer:
        for piece in pieces:
            writer.write_frame(piece)
        size = writer.finish(region)
    assert size == len(file.getvalue())
    return file.getvalue()


def entries_of(blob: bytes) -> list[list[int]]:
    """The seek table's rows, by the format's own words and not by our code."""
    count, descriptor, magic = struct.unpack("<IBI", blob[-9:])
    assert (descriptor, magic) == (0x80, 0x8F92EAB1)
    start = len(blob) - FOOTER_BYTES - ENTRY_BYTES * count
    assert struct.unpack("<II", blob[start - 8 : start]) == (0x184D2A5E, len(blob) - start)
    return [list(row) for row in struct.iter_unpack("<III", blob[start:-9])]


def with_entries(blob: bytes, rows: list[list[int]]) -> bytes:
    """The same frames with another seek table."""
    frames = blob[: len(blob) - FOOTER_BYTES - ENTRY_BYTES * len(entries_of(blob)) - 8]
    packed = b"".join(struct.pack("<III", *row) for row in rows)
    size = len(packed) + FOOTER_BYTES
    return (
        frames
        + struct.pack("<II", 0x184D2A5E, size)
        + packed
        + struct.pack("<IBI", len(rows), 0x80, 0x8F92EAB1)
    )


def read_all(blob: bytes) -> bytes:
    store = open_seekable(MemoryStore(blob))
    assert store is not None
    return store.read_range(0, store.content_bytes)


# What is written


def test_frames_are_listed_as_the_format_says():
    blob = seekable()
    rows = entries_of(blob)
    assert [row[1] for row in rows] == [*map(len, PIECES), 0]
    for (compressed, _, checksum), end, piece in zip(
        rows, accumulate(row[0] for row in rows), PIECES, strict=False
    ):
        frame = blob[end - compressed : end]
        assert zstandard.decompress(frame) == piece
        assert frame[-4:] == struct.pack("<I", checksum)  # RFC 8878, 3.1.1: Content_Checksum


def test_index_region_is_a_skippable_frame_before_the_table():
    blob = seekable()
    store = open_seekable(MemoryStore(blob))
    start, end = store.table.index_range()
    assert blob[start:end] == REGION
    # one of the 16 numbers of skippable frames, and not that of the seek table; files that are there have it
    assert blob[start - 8 : start] == struct.pack("<II", 0x184D2A5B, len(REGION))
    assert entries_of(blob)[-1] == [8 + len(REGION), 0, NO_CONTENT_CHECKSUM]


def test_checksum_of_no_content_is_the_one_zstd_writes():
    empty = zstandard.ZstdCompressor(write_checksum=True).compress(b"")
    assert empty[-4:] == struct.pack("<I", NO_CONTENT_CHECKSUM)
    for has_checksum in (True, False):
        frame = zstandard.ZstdCompressor(write_checksum=has_checksum).compress(b"")
        assert decode_frame(frame, 0, NO_CONTENT_CHECKSUM) == b""


def test_without_a_region_there_is_none():
    assert open_seekable(MemoryStore(seekable(region=None))).table.index_range() is None
    assert open_seekable(MemoryStore(seekable([], None))).table.index_range() is None


def test_another_reader_of_the_format_reads_any_range(tmp_path: Path):
    path = tmp_path / "a.tar.zst"
    path.write_bytes(seekable())
    with pyzstd.SeekableZstdFile(path) as file:
        assert file.seek_table_info[2] == len(CONTENT)
        for start in [0, 2999, 3000, 5999, 6000, 6001, 50_000, len(CONTENT) - 1]:
            file.seek(start)
            assert file.read(700) == CONTENT[start : start + 700]


def test_what_another_writer_wrote_is_read(tmp_path: Path):
    path = tmp_path / "b.zst"
    with pyzstd.SeekableZstdFile(path, "w", max_frame_content_size=1000) as file:
        file.write(CONTENT)
    store = open_seekable(MemoryStore(path.read_bytes()))
    assert store.table.checksums is None
    assert store.read_range(1, 9999) == CONTENT[1:9999]
    assert read_all(path.read_bytes()) == CONTENT


@pytest.mark.parametrize("content_size", [True, False])
def test_checksums_in_the_table_alone_are_checked(content_size: bool):
    """As zstd's own seekable writer leaves them out of the frames."""
    rows = entries_of(seekable(region=None))
    plain = zstandard.ZstdCompressor(write_checksum=False, write_content_size=content_size)
    frames = [
        plain.compress(piece)
        if content_size
        else b"".join((c := plain.compressobj(), c.compress(piece), c.flush())[1:])
        for piece in PIECES
    ]
    fresh = [[len(frame), *row[1:]] for frame, row in zip(frames, rows, strict=True)]
    blob = with_entries(b"".join(frames) + seekable([], None), fresh)
    assert read_all(blob) == CONTENT
    fresh[4][2] ^= 1
    with pytest.raises(ChecksumError, match=r"at byte \d+"):
        read_all(with_entries(blob, fresh))


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, (1 << 32) - 1)),
        max_size=50,
    ),
    data=st.data(),
)
def test_tables_come_back(rows: list[tuple[int, int, int]], data: st.DataObject):
    frame = encode_seek_table(rows)
    size = sum(row[0] for row in rows) + len(frame)
    assert seek_table_bytes(frame, size) == len(frame)
    table = decode_seek_table(frame, size)
    assert list(table.frame_bounds) == [0, *accumulate(row[0] for row in rows)]
    assert list(table.content_bounds) == [0, *accumulate(row[1] for row in rows)]
    assert list(table.checksums) == [row[2] for row in rows]
    if table.content_bytes:
        start = data.draw(st.integers(0, table.content_bytes - 1))
        end = data.draw(st.integers(start + 1, table.content_bytes))
        holding = [
            i
            for i in range(len(rows))
            if table.content_bounds[i] < end and table.content_bounds[i + 1] > start
        ]
        frames = table.frames_of(start, end)
        assert [frames[0], frames[-1]] == [holding[0], holding[-1]]


@pytest.mark.parametrize(
    ("frame_bytes", "payload"), [(0, None), (7, None), (8, (8, 8)), (9, (8, 9))]
)
def test_a_last_frame_without_content_has_the_payload_behind_its_header(
    frame_bytes: int, payload: tuple[int, int] | None
):
    frame = encode_seek_table([(frame_bytes, 0, 0)])
    assert decode_seek_table(frame, frame_bytes + len(frame)).index_range() == payload
    frame = encode_seek_table([(100, 5, 0), (frame_bytes, 0, 0)])
    found = decode_seek_table(frame, 100 + frame_bytes + len(frame)).index_range()
    assert found == (payload and (100 + payload[0], 100 + payload[1]))
    frame = encode_seek_table([(frame_bytes, 0, 0), (100, 5, 0)])
    assert decode_seek_table(frame, 100 + frame_bytes + len(frame)).index_range() is None


def test_a_frame_can_hold_as_much_as_zstd_packs_at_most():
    """Zeros: blocks of 128 KiB that take four bytes each."""
    content = bytes(64 << 20)
    blob = seekable([content], None)
    assert len(blob) < 2200
    assert read_all(blob) == content


# What is refused


def test_a_skippable_frame_holds_what_its_size_field_and_the_seek_table_can_say():
    """Both have four bytes, and the seek table counts the eight bytes of the header, too."""
    size = (1 << 32) - 1 - 8
    assert skippable_header(0x184D2A50, size) == struct.pack("<II", 0x184D2A50, size)
    with pytest.raises(FormatError, match="4294967288 bytes do not fit"):
        skippable_header(0x184D2A50, size + 1)


def test_more_frames_than_the_format_allows_are_refused(monkeypatch: pytest.MonkeyPatch):
    """ZSTD_SEEKABLE_MAXFRAMES of zstd's own seekable format is 0x8000000."""
    most = 0x8000000
    assert seek_table_bytes(bytes(8) + table_only(most), 1 << 40) == 17 + 12 * most
    assert seek_table_bytes(bytes(8) + table_only(most, 0), 1 << 40) == 17 + 8 * most
    with pytest.raises(TruncatedError, match="134217729 frames") as caught:
        seek_table_bytes(bytes(8) + table_only(most + 1), 1 << 40)
    assert caught.value.offset == (1 << 40) - 9
    # a table of so many frames takes too long for a test
    monkeypatch.setattr(zstd_format, "FRAMES_MAX", 3)
    assert encode_seek_table([(1, 1, 1)] * 3)
    with pytest.raises(FormatError, match="4 frames"):
        encode_seek_table([(1, 1, 1)] * 4)


def test_a_table_may_be_all_of_a_file_and_no_more():
    frame = encode_seek_table([(0, 0, 0)] * 2)
    assert seek_table_bytes(frame, len(frame)) == len(frame)
    with pytest.raises(TruncatedError):
        seek_table_bytes(frame, len(frame) - 1)
    assert seek_table_bytes(frame[-17:], len(frame)) == len(frame)
    assert seek_table_bytes(frame[-16:], 16) is None


def test_other_files_are_not_seekable():
    for other in (b"", b"x" * 16, bytes(100_000), zstandard.compress(CONTENT)):
        assert open_seekable(MemoryStore(other)) is None


def test_zstd_is_told_by_its_first_bytes():
    assert is_zstd(zstandard.compress(b""))
    assert is_zstd(skippable_header(INDEX_FRAME_MAGIC, 5))
    assert is_zstd(seekable([]))
    assert not any(map(is_zstd, (b"", b"\x28\xb5\x2f", bytes(8), b"P*M", b"ustar   ")))


def test_all_sixteen_magic_numbers_of_skippable_frames_are_zstd():
    """RFC 8878, 3.1.2: 0x184D2A50 to 0x184D2A5F."""
    for first in range(256):
        header = bytes([first, 0x2A, 0x4D, 0x18])
        magic = int.from_bytes(header, "little")
        assert is_zstd(header + bytes(4)) == (0x184D2A50 <= magic <= 0x184D2A5F), hex(magic)
    assert not is_zstd(b"\x50\x2a\x4d\x19")
    assert not is_zstd(b"\x50\x2b\x4d\x18")


def table_only(count: int, descriptor: int = 0x80) -> bytes:
    return struct.pack("<IBI", count, descriptor, 0x8F92EAB1)


@pytest.mark.parametrize(
    ("blob", "error", "message"),
    [
        pytest.param(bytes(8) + table_only(1), TruncatedError, "1 frames does not fit", id="cut"),
        pytest.param(
            bytes(8) + table_only(0xFFFFFFFF), TruncatedError, "does not fit", id="huge count"
        ),
        pytest.param(
            bytes(8) + table_only(0, 0x84), FormatError, "unknown kind .*0x84", id="reserved"
        ),
        pytest.param(bytes(8) + table_only(0), FormatError, "was expected", id="no magic"),
        pytest.param(
            b"abc" + seekable([], None), FormatError, "take 0 bytes, and 3 are before", id="gap"
        ),
    ],
)
def test_a_damaged_table_is_a_format_error(blob: bytes, error: type[FormatError], message: str):
    with pytest.raises(error, match=message) as caught:
        open_seekable(MemoryStore(blob, "a.tar.zst"))
    assert str(caught.value).startswith("a.tar.zst: ")
    assert caught.value.offset in range(len(blob))


@pytest.mark.parametrize(
    "at", range(8), ids=lambda at: ("magic" if at < 4 else "size") + str(at % 4)
)
def test_a_table_with_a_wrong_magic_or_size_alone_is_refused(at: int):
    blob = bytearray(seekable())
    start = len(blob) - FOOTER_BYTES - ENTRY_BYTES * len(entries_of(bytes(blob))) - 8
    blob[start + at] ^= 1
    with pytest.raises(FormatError, match="seek table's frame was expected") as caught:
        open_seekable(MemoryStore(bytes(blob)))
    assert caught.value.offset == start


def test_unused_bits_are_not_looked_at():
    blob = bytearray(seekable())
    blob[-5] |= 0x03
    assert read_all(bytes(blob)) == CONTENT


def content_is_larger(rows: list[list[int]]) -> None:
    rows[1][1] += 1


def content_is_smaller(rows: list[list[int]]) -> None:
    rows[1][1] -= 1


def content_is_huge(rows: list[list[int]]) -> None:
    rows[1][1] = FRAME_CONTENT_BYTES_MAX


def frame_is_longer(rows: list[list[int]]) -> None:
    rows[1][0] += 1
    rows[2][0] -= 1


def frames_are_joined(rows: list[list[int]]) -> None:
    size, content, checksum = rows.pop(2)
    rows[1] = [rows[1][0] + size, rows[1][1] + content, checksum]


def checksum_is_wrong(rows: list[list[int]]) -> None:
    rows[1][2] ^= 1 << 31


def skippable_has_content(rows: list[list[int]]) -> None:
    rows[-1][1] = len(REGION)


@pytest.mark.parametrize(
    "damage",
    [
        content_is_larger,
        content_is_smaller,
        content_is_huge,
        frame_is_longer,
        frames_are_joined,
        checksum_is_wrong,
        skippable_has_content,
    ],
)
def test_a_frame_that_is_not_as_listed_is_a_format_error(
    damage: Callable[[list[list[int]]], None],
):
    rows = entries_of(seekable())
    damage(rows)
    store = open_seekable(MemoryStore(with_entries(seekable(), rows), "a.tar.zst"))
    with pytest.raises(FormatError, match=r"a\.tar\.zst: .* at byte \d+") as caught:
        store.read_range(0, store.content_bytes)
    bad = len(PIECES) if damage is skippable_has_content else 1
    assert caught.value.offset == store.table.content_bounds[bad]
    start, end = store.table.frame_bounds[bad : bad + 2]
    assert f"frame {bad}, the file's bytes {start} to {end}: " in str(caught.value)
    assert store.read_range(0, 3000) == CONTENT[:3000]


def test_a_size_that_no_frame_may_have_is_refused_when_opened():
    rows = entries_of(seekable())
    rows[0][1] = FRAME_CONTENT_BYTES_MAX + 1
    with pytest.raises(FormatError, match="at most 1073741824"):
        open_seekable(MemoryStore(with_entries(seekable(), rows)))


def test_claims_beyond_what_zstd_can_pack_take_no_memory():
    """A frame without a size of its own would be given what the table claims."""
    writer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = writer.compress(b"abc") + writer.flush()
    rows = [[len(frame), FRAME_CONTENT_BYTES_MAX, 0]] * 1000
    blob = with_entries(frame * 1000 + seekable([], None), rows)
    store = open_seekable(MemoryStore(blob))
    assert store.size == 1000 << 30
    with pytest.raises(FormatError, match="can't hold"):
        store.read_range(0, store.size)


def test_a_frame_may_claim_as_much_as_its_bytes_can_hold():
    """A block of four bytes holds 128 KiB: the smallest frame of a large content is a little longer than its blocks."""
    content = bytes(1 << 20)
    frame = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(content)
    assert decode_frame(frame, len(content), None) == content
    most = len(frame) // 4 * (128 << 10)
    with pytest.raises(FormatError, match=f"the frame has {1 << 20} bytes of content"):
        decode_frame(frame, most, None)
    with pytest.raises(FormatError, match=f"can't hold the {most + 1} bytes"):
        decode_frame(frame, most + 1, None)


def test_a_frame_without_a_size_of_its_own_is_compared_with_the_table():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc")
    assert decode_frame(frame, 3, None) == b"abc"
    with pytest.raises(FormatError, match="has 3 bytes of content, the seek table 4"):
        decode_frame(frame, 4, None)
    with pytest.raises(FormatError):
        decode_frame(frame, 2, None)


@pytest.mark.parametrize("behind", [b"\0", zstandard.compress(b"abc")])
def test_a_frame_ends_where_the_table_says(behind: bytes):
    frame = zstandard.compress(b"abc")
    assert decode_frame(frame, 3, None) == b"abc"
    with pytest.raises(FormatError):
        decode_frame(frame + behind, 3, None)


def test_a_frame_that_holds_more_than_the_table_says_takes_no_memory():
    content = bytes(64 << 20)
    rows = entries_of(seekable([content], None))
    rows[0][1] = 1000
    store = open_seekable(MemoryStore(with_entries(seekable([content], None), rows)))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="67108864 bytes of content, the seek table 1000"):
            store.read_range(0, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_damage_anywhere_is_an_error_or_the_right_bytes():
    blob = seekable()
    for seed in range(10_000):
        chance = random.Random(seed)
        damaged = bytearray(blob)
        for _ in range(chance.choice([1, 1, 1, 4])):
            if chance.random() < 0.5:  # the table is small, and decides the most
                at = chance.randrange(len(blob) - 100, len(blob))
            else:
                at = chance.randrange(len(blob))
            damaged[at] = chance.randrange(256)
        if chance.random() < 0.1:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            store = open_seekable(MemoryStore(bytes(damaged)))
            if store is None:
                continue
            whole = store.read_range(0, store.content_bytes)
        except FormatError as exc:
            assert exc.offset is not None
            continue
        assert whole == CONTENT
