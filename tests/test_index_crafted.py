"""Index files of which one number lies, under right checksums: both readers refuse them, and name the place."""

from __future__ import annotations

import io
import mmap
import os
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import pytest
from fuzz.index_files import spans_of
from plain_reader import DamagedError, PlainIndex, hash_of

from blobpack import (
    BlobChangedError,
    ChecksumError,
    FormatError,
    Index,
    Member,
    MemberNotFoundError,
)
from blobpack._native.block_encoder import BlockEncoder
from blobpack._native.fetched_index import decode_blocks, page_number, rows_in_page
from blobpack._native.mapped_index import MappedIndex
from blobpack._native.name_hashes import NameHashes
from blobpack._native.results import NO_SUCH_NAME, OTHER_MEMBER
from blobpack.columns import MEDIA_TYPES
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = 2100  # three blocks, the last one of 52 rows
PAGE = 4096
FOOTER = 512
NAME_END, OFFSET_START, SIZE, MEDIA_TYPE, WIDTH, HEIGHT, CRC32C, MTIME = range(8)
# of a block's header
ROWS, FIRST_ROW, START_BASE, NAMES_BYTES, START_UNIT, WIDTHS = 4, 8, 16, 32, 36, 40
# of the footer
ROW_COUNT, LAST_END, BLOCK_COUNT, DIRECTORY, LOOKUP, PAGES = 32, 48, 56, 64, 72, 80


def members(*, ascending: bool = True) -> list[Member]:
    numbers = range(COUNT) if ascending else [i * 1009 % COUNT for i in range(COUNT)]
    return [
        Member(
            f"{n:07}", 1024 * i + 512, 1024 * i + 512 + i % 500, media_type=MEDIA_TYPES[1 + i % 3],
            width=i % 200 + 1, height=i + 1, crc32c=i << 20, mtime=i - 5000,
        )
        for i, n in enumerate(numbers)
    ]  # fmt: skip


def written(index: Index) -> bytes:
    file = io.BytesIO()
    file.write(index._write_sections(file, None).encode())
    return file.getvalue()


class Crafted:
    """An index file whose numbers are changed one by one, and sealed again."""

    def __init__(self, packed: bytes) -> None:
        self.packed = bytearray(packed)
        self.spans = spans_of(packed)
        self.plain = PlainIndex(packed)
        self.blocks = self.plain.block_starts
        self.footer = len(packed) - FOOTER

    def put(self, kind: str, at: int, value: int) -> None:
        struct.pack_into(kind, self.packed, at, value % (1 << 8 * struct.calcsize(kind)))

    def get(self, kind: str, at: int) -> int:
        found: int = struct.unpack_from(kind, self.packed, at)[0]
        return found

    def column(self, block: int, column: int) -> tuple[int, int]:
        """Return where the values of a column stand, and their width."""
        at = self.blocks[block]
        rows, widths = self.get("<I", at + ROWS), self.packed[at + WIDTHS : at + WIDTHS + 8]
        before = sum((rows * width + 7) // 8 * 8 for width in widths[:column])
        return at + 48 + before, widths[column]

    def set_value(self, block: int, column: int, place: int, value: int) -> None:
        at, width = self.column(block, column)
        self.put(f"<{'_BH_I___Q'[width]}", at + place * width, value)

    def sealed(self) -> bytes:
        for start, end in self.spans:
            crc = google_crc32c.value(bytes(self.packed[start + 4 : end]))
            struct.pack_into("<I", self.packed, start, crc)
        return bytes(self.packed)


@pytest.fixture(scope="module")
def right() -> bytes:
    return written(Index(members()))


@pytest.fixture(params=["mapped", "afar"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Index]:
    def mapped(packed: bytes) -> Index:
        (tmp_path / "a.idx").write_bytes(packed)
        return Index.load(tmp_path / "a.idx")

    def afar(packed: bytes) -> Index:
        store = MemoryStore(packed)
        footer = read_footer(store)
        assert footer is not None
        return Index._from_stored(RemoteIndex(store, 0, footer))

    return {"mapped": mapped, "afar": afar}[request.param]


def assert_refused(
    packed: bytes,
    opened: Callable[[bytes], Index],
    row: int,
    place: int | None = None,
    *,
    has_row: bool = False,
) -> None:
    """Check that neither the rows nor the lookup of a row are answered, and which byte is named for the rows.

    Args:
        packed: The index file.
        opened: Opens it.
        row: One that can't be read.
        place: The byte that is named.
        has_row: Only the row's offsets are at fault; its name is found.
    """
    with pytest.raises((DamagedError, struct.error, KeyError)):
        found = PlainIndex(packed)
        list(found.members())
        found.find_by_lookup(b"%07d" % row)
        raise DamagedError("rows that the plain reader takes")  # it checks less than blobpack
    with pytest.raises(FormatError, match="the index is damaged") as caught:
        opened(packed)._columns  # noqa: B018
    if place is not None:
        assert caught.value.offset == place
    asks = [
        lambda index: index._bounds_of(f"{row:07}"),
        lambda index: index._search([f"{row:07}"]),
        lambda index: index._member_at(row),
        lambda index: index._bounds_at(row),
        lambda index: index._search_rows([row]),
        lambda index: index.row_of(f"{row:07}"),
    ]
    for ask in asks[: -1 if has_row else None]:
        with pytest.raises(FormatError, match="the index is damaged"):
            ask(opened(packed))


def assert_same(packed: bytes, opened: Callable[[bytes], Index], expected: list[Member]) -> None:
    index = opened(packed)
    assert list(index) == expected
    index = opened(packed)
    for row in (0, 1, 1023, 1024, 2047, 2048, COUNT - 1):
        found = expected[row]
        assert index.row_of(found.name) == row
        assert index._bounds_of(found.name) == (found.offset_start, found.offset_end)
        assert index._member_at(row) == index._member_at(row - COUNT) == found
        assert index._name_at(row) == found.name
        assert index._bounds_at(row) == (found.offset_start, found.offset_end)
        assert index._search_rows([row]) == index._search([found.name])
        hits = index._search([found.name, "absent", "é", found.name + "\udcff"])
        assert [hit and tuple(hit) for hit in hits] == [
            (row, found.offset_start, found.offset_end, found.crc32c),
            None,
            None,
            None,
        ]


def test_what_is_right_is_read(right: bytes, opened: Callable[[bytes], Index]) -> None:
    assert_same(Crafted(right).sealed(), opened, members())
    assert_same(written(Index(members(ascending=False))), opened, members(ascending=False))


# Blocks in each other's place


def test_blocks_that_are_swapped_are_refused(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    """Each block is whole and right in itself: only its first row says that it is not the one that was asked for."""
    crafted = Crafted(right)
    first, second, third = crafted.blocks[:3]
    assert second - first == third - second
    packed = crafted.packed
    packed[first:second], packed[second:third] = packed[second:third], packed[first:second]
    for row in (0, 1023, 1024, 2047):
        assert_refused(crafted.sealed(), opened, row, first)


def test_a_directory_that_swaps_blocks_is_refused(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    crafted = Crafted(right)
    for at in (0, 8, 16):  # all blocks are the second one
        crafted.put("<Q", crafted.plain.directory + 8 + at, crafted.blocks[1])
    with pytest.raises(FormatError, match="the index is damaged"):
        list(opened(crafted.sealed()))


def test_the_bytes_of_a_block_may_reach_to_the_end_and_may_be_none(
    right: bytes, region: dict[str, Any]
) -> None:
    """Such a block is not whole, and its place is named; other positions are damage of the directory."""
    directory, last = region["directory"], Crafted(right).blocks[2]
    for end, place in ((last, last), (len(right), last), (last - 1, directory), (len(right) + 1, directory)):  # fmt: skip
        crafted = Crafted(right)
        crafted.put("<Q", directory + 8 + 3 * 8, end)
        os.pwrite(region["file"], crafted.sealed(), 0)
        with pytest.raises(FormatError, match=r"x\.idx") as caught:
            MappedIndex(**region).bounds_at(COUNT - 1)
        assert caught.value.offset == place
        assert isinstance(caught.value, ChecksumError) == (place == last)


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("by", [1, -1, 1024, -1024, 1 << 32])
def test_a_block_of_other_rows_is_refused(
    right: bytes, opened: Callable[[bytes], Index], block: int, by: int
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[block] + FIRST_ROW
    crafted.put("<Q", at, crafted.get("<Q", at) + by)
    assert_refused(crafted.sealed(), opened, 1024 * block + 3, crafted.blocks[block])


@pytest.mark.parametrize(("block", "rows"), [(0, 0), (0, 1023), (0, 1025), (1, 1), (2, 51), (2, 53), (2, 1024), (2, (1 << 32) - 1)])  # fmt: skip
def test_a_block_of_another_number_of_rows_is_refused(
    right: bytes, opened: Callable[[bytes], Index], block: int, rows: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<I", crafted.blocks[block] + ROWS, rows)
    assert_refused(crafted.sealed(), opened, 1024 * block, crafted.blocks[block])


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1, 2049, 3072])
def test_a_footer_of_another_number_of_rows_is_refused(
    right: bytes, opened: Callable[[bytes], Index], count: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<Q", crafted.footer + ROW_COUNT, count)
    with pytest.raises(FormatError, match="the index is damaged"):
        opened(crafted.sealed())._columns  # noqa: B018
    with pytest.raises(FormatError, match="the index is damaged"):
        opened(crafted.sealed()).row_of(f"{COUNT - 2:07}")


@pytest.mark.parametrize("count", [0, 2047, 2048, 3073, 1 << 40, (1 << 64) - 1])
def test_a_footer_whose_rows_do_not_fit_its_blocks_is_refused_at_once(
    right: bytes, opened: Callable[[bytes], Index], count: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<Q", crafted.footer + ROW_COUNT, count)
    with pytest.raises(FormatError, match="damaged"):
        opened(crafted.sealed())


# A block's header


@pytest.mark.parametrize("unit", [0, 2, 511, 513, 1024, (1 << 32) - 1])
def test_offsets_count_by_bytes_or_blocks(
    right: bytes, opened: Callable[[bytes], Index], unit: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<I", crafted.blocks[1] + START_UNIT, unit)
    assert_refused(crafted.sealed(), opened, 1030, crafted.blocks[1])


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("width", [3, 5, 6, 7, 8, 9, 16, 255])
def test_values_have_a_width_that_their_column_may_have(
    right: bytes, opened: Callable[[bytes], Index], column: int, width: int
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[2]
    crafted.packed[at + WIDTHS + column] = width
    packed = crafted.sealed()
    if width == 8 and column in (
        OFFSET_START,
        SIZE,
        MTIME,
    ):  # it may, but then the columns do not fit
        with pytest.raises(FormatError, match="the index is damaged"):
            list(opened(packed))
    else:
        assert_refused(packed, opened, 2060, at)


@pytest.mark.parametrize("width", [2, 4])
def test_a_media_type_has_one_byte(
    right: bytes, opened: Callable[[bytes], Index], width: int
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[2]
    # another column gives up its bytes, so that all of them fit
    crafted.packed[at + WIDTHS + HEIGHT] = 0
    crafted.packed[at + WIDTHS + MEDIA_TYPE] = width
    assert_refused(crafted.sealed(), opened, 2060, at)


def test_a_block_of_several_rows_has_bytes_for_names(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[2]
    crafted.packed[at + WIDTHS + NAME_END] = 0
    assert_refused(crafted.sealed(), opened, 2060, at)


@pytest.mark.parametrize("by", [1, 8, 1 << 20, 1 << 31])
def test_names_that_reach_over_the_block_are_refused(
    right: bytes, opened: Callable[[bytes], Index], by: int
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[2]
    names, _ = crafted.column(2, 8 - 1)
    end_of_columns = names + (52 * crafted.packed[at + WIDTHS + MTIME] + 7) // 8 * 8
    room = crafted.blocks[3] - end_of_columns
    crafted.put("<I", at + NAMES_BYTES, room)
    assert_same(crafted.sealed(), opened, members())
    crafted.put("<I", at + NAMES_BYTES, room + by)
    assert_refused(crafted.sealed(), opened, 2060, at)


def test_names_that_are_cut_are_refused(right: bytes, opened: Callable[[bytes], Index]) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[1]
    crafted.put("<I", at + NAMES_BYTES, crafted.get("<I", at + NAMES_BYTES) - 1)
    assert_refused(crafted.sealed(), opened, 2047, at)


@pytest.mark.parametrize("place", [0, 1, 500, 1022, 1023])
def test_names_that_end_before_they_begin_are_refused(
    right: bytes, opened: Callable[[bytes], Index], place: int
) -> None:
    crafted = Crafted(right)
    crafted.set_value(1, NAME_END, place, (1 << 16) - 1 if place == 0 else 7 * place - 1)
    assert_refused(crafted.sealed(), opened, 1024 + place, crafted.blocks[1])


def test_a_name_that_takes_the_bytes_of_the_one_before(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    """Equal bounds are an empty name."""
    crafted = Crafted(right)
    crafted.set_value(1, NAME_END, 500, 7 * 500)
    names = list(opened(crafted.sealed()).names)
    assert names[1524:1526] == ["", "00015240001525"]
    assert names[1523] == "0001523"


@pytest.mark.parametrize("block", [0, 2])
def test_a_member_that_ends_behind_the_last_end_is_refused(
    right: bytes, opened: Callable[[bytes], Index], block: int
) -> None:
    last_end = Crafted(right).get("<Q", Crafted(right).footer + LAST_END)
    place = 51 if block == 2 else 7  # the last member of all ends at the last end
    row = 1024 * block + place
    start = 1024 * row + 512
    crafted = Crafted(right)
    if block == 2:
        crafted.set_value(block, SIZE, place, last_end - start)
        changed = members()
        changed[row] = changed[row].__replace__(offset_end=last_end)
        assert_same(crafted.sealed(), opened, changed)
        crafted.set_value(block, SIZE, place, last_end - start + 1)
    else:
        crafted.put("<Q", crafted.blocks[block] + START_BASE, last_end - start + 512)
    assert_refused(crafted.sealed(), opened, row, crafted.blocks[block], has_row=True)


@pytest.mark.parametrize("base", [1 << 63, (1 << 64) - 1, (1 << 64) - 512, (1 << 63) - 1, 1 << 62])
def test_a_base_beyond_all_offsets_is_refused(
    right: bytes, opened: Callable[[bytes], Index], base: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<Q", crafted.blocks[1] + START_BASE, base)
    assert_refused(crafted.sealed(), opened, 1024, crafted.blocks[1], has_row=True)


@pytest.mark.parametrize("over", [0, 1])
def test_the_last_end_bounds_the_base_too(
    right: bytes, opened: Callable[[bytes], Index], over: int
) -> None:
    """A block of empty members at the very end of the blob is right; one byte behind it is not."""
    crafted = Crafted(right)
    last_end = crafted.get("<Q", crafted.footer + LAST_END)
    for place in range(52):
        crafted.set_value(2, OFFSET_START, place, 0)
        crafted.set_value(2, SIZE, place, 0)
    crafted.put("<Q", crafted.blocks[2] + START_BASE, last_end + over)
    if over:
        assert_refused(crafted.sealed(), opened, 2060, crafted.blocks[2], has_row=True)
    else:
        index = opened(crafted.sealed())
        assert {(m.offset_start, m.offset_end) for m in list(index)[2048:]} == {
            (last_end, last_end)
        }


# Pages


@pytest.mark.parametrize("number", [0, 1, (1 << 31) + 1, (1 << 31) - 1])
def test_a_page_of_the_directory_has_its_number(
    right: bytes, opened: Callable[[bytes], Index], number: int
) -> None:
    crafted = Crafted(right)
    crafted.put("<I", crafted.plain.directory + 4, number)
    with pytest.raises(FormatError, match="the index is damaged") as caught:
        opened(crafted.sealed())._columns  # noqa: B018
    assert caught.value.offset == crafted.plain.directory


def test_pages_of_the_lookup_that_are_swapped_are_refused(tmp_path: Path) -> None:
    crafted = Crafted(written(Index(members(ascending=False))))
    at = crafted.plain.lookup
    packed = crafted.packed
    packed[at : at + PAGE], packed[at + PAGE : at + 2 * PAGE] = (
        packed[at + PAGE : at + 2 * PAGE],
        packed[at : at + PAGE],
    )
    (tmp_path / "a.idx").write_bytes(crafted.sealed())
    index = Index.load(tmp_path / "a.idx")
    refused = 0
    for name in [member.name for member in members()[:200]]:
        page = page_number(name.encode(), crafted.plain.seed, crafted.plain.lookup_pages)
        try:
            assert index._member_at(index.row_of(name)).name == name
        except FormatError as exc:
            assert page < 2
            assert exc.offset == at + page * PAGE
            refused += 1
        else:
            assert page >= 2
    assert 0 < refused < 200


def test_a_slot_of_a_row_that_is_not_there_is_refused(
    tmp_path: Path, opened: Callable[[bytes], Index]
) -> None:
    for row, refused in ((COUNT - 1, False), (COUNT, True), ((1 << 32) - 2, True)):
        crafted = Crafted(written(Index(members(ascending=False))))
        at, pages = crafted.plain.lookup, crafted.plain.lookup_pages
        for slot in range(at + 64, at + PAGE * pages, 8):
            if (slot - at) % PAGE >= 64 and crafted.get("<I", slot + 4) != (1 << 32) - 1:
                crafted.put("<I", slot + 4, row)
        index = opened(crafted.sealed())
        name = members(ascending=False)[5].name
        if refused:
            with pytest.raises((FormatError, MemberNotFoundError)) as caught:
                index.row_of(name)
            # from afar, it is no candidate
            if (tmp_path / "a.idx").exists():
                assert isinstance(caught.value, FormatError)
                page = page_number(name.encode(), crafted.plain.seed, pages)
                assert caught.value.offset == at + PAGE * page
        else:
            assert name not in index
            assert members(ascending=False)[COUNT - 1].name in index


# A footer's positions: what fits, fits exactly


@pytest.fixture
def region(right: bytes) -> Iterator[dict[str, Any]]:
    """What MappedIndex is made from."""
    footer = read_footer(MemoryStore(right))
    assert footer is not None
    with tempfile.TemporaryFile() as file:
        file.write(right)
        file.flush()
        yield {
        "file": file.fileno(), "where": "x.idx", "offset": 0, "region_bytes": len(right), "footer": right[-FOOTER:], "owner": lambda: None,
        "row_count": COUNT, "last_end": footer.last_end, "block_count": 3, "directory": footer.directory,
        "lookup": footer.lookup, "pages": footer.lookup_pages, "seed": footer.lookup_seed, "facts": 31, "media_types": MEDIA_TYPES,
    }  # fmt: skip


@pytest.mark.parametrize("field", ["directory", "lookup"])
def test_a_section_lies_within_the_region(region: dict[str, Any], field: str) -> None:
    last = region["region_bytes"] - (1 if field == "directory" else region["pages"]) * PAGE
    for right in (0, last):
        MappedIndex(**region | {field: right})
    for wrong in (-1, last + 1, 1 << 62, -(1 << 63)):
        with pytest.raises(
            FormatError, match=r"x\.idx: the index is damaged: its footer does not fit its size"
        ):
            MappedIndex(**region | {field: wrong})


def test_as_many_pages_as_the_region_has(region: dict[str, Any]) -> None:
    most = region["region_bytes"] // PAGE
    MappedIndex(**region | {"pages": most, "lookup": 0})
    MappedIndex(**region | {"pages": 0})
    for wrong in (-1, most + 1, 1 << 52, 1 << 62):
        with pytest.raises(FormatError, match="its footer does not fit its size"):
            MappedIndex(**region | {"pages": wrong, "lookup": 0})


@pytest.mark.parametrize(
    ("blocks", "rows"),
    [(3, 2049), (3, 3072), (1, 1), (1, 1024), (0, 0)],
)
def test_rows_that_fit_the_blocks(region: dict[str, Any], blocks: int, rows: int) -> None:
    assert len(MappedIndex(**region | {"block_count": blocks, "row_count": rows})) == rows


@pytest.mark.parametrize(
    ("blocks", "rows"),
    [(3, 2048), (3, 3073), (1, 0), (1, 1025), (0, 1), (-1, 0), (-1, -1024), (-1, -2000), (0, -1), ((1 << 32) + 1, 1 << 42),
     (511 * 7, 511 * 7 * 1024), (1 << 53, 1 << 63 - 1), (1 << 54, 0)],
)  # fmt: skip
def test_rows_that_do_not_fit_the_blocks(region: dict[str, Any], blocks: int, rows: int) -> None:
    # a region of few pages has no directory of many blocks
    assert region["region_bytes"] // PAGE > 8 or blocks < 511 * 7
    with pytest.raises(FormatError, match="its footer does not fit its size"):
        MappedIndex(
            **region | {"block_count": blocks, "row_count": rows, "directory": 0}
            if blocks < 511
            else region
            | {"block_count": blocks, "row_count": rows, "directory": region["region_bytes"] - PAGE}
        )


def test_an_index_has_as_many_blocks_as_numbers_of_32_bits(
    region: dict[str, Any], tmp_path: Path
) -> None:
    blocks = 1 << 32
    size = (blocks // 511 + 2) * PAGE
    with (tmp_path / "a.idx").open("w+b") as file:
        file.truncate(size)  # a hole, which takes no room
        large = region | {"file": file.fileno(), "region_bytes": size, "directory": 0}
        large |= {"lookup": 0, "pages": 0, "block_count": blocks, "row_count": blocks * 1024}
        assert len(MappedIndex(**large)) == blocks * 1024
        with pytest.raises(FormatError, match="its footer does not fit its size"):
            MappedIndex(**large | {"block_count": blocks + 1, "row_count": blocks * 1024 + 1})


def test_a_last_end_before_0_or_a_footer_of_another_size(region: dict[str, Any]) -> None:
    MappedIndex(**region | {"last_end": 0})
    for wrong in (
        {"last_end": -1},
        {"footer": region["footer"][:-1]},
        {"footer": b""},
        {"region_bytes": 511, "directory": 0, "lookup": 0, "pages": 0},
    ):
        with pytest.raises(FormatError, match="its footer does not fit its size"):
            MappedIndex(**region | wrong)


@pytest.mark.parametrize(
    ("first", "last"), [(-1, 1), (1, 0), (0, COUNT + 1), (COUNT + 1, COUNT + 1), (-2, -1)]
)
def test_rows_that_are_not_there_are_an_index_error(
    region: dict[str, Any], first: int, last: int
) -> None:
    index = MappedIndex(**region)
    with pytest.raises(IndexError, match=f"rows {first} to {last} of {COUNT}"):
        index.rows(first, last)


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, COUNT), (0, 0), (COUNT, COUNT), (0, 1), (1023, 1025), (1024, 2048), (1000, 2099), (2099, 2100), (5, 5)],
)  # fmt: skip
@pytest.mark.parametrize("facts", [0, 1, 2, 4, 8, 16, 21, 31])
def test_any_rows_are_read_with_the_facts_that_are_asked_for(
    region: dict[str, Any], first: int, last: int, facts: int
) -> None:
    if last > first or first == 0:
        found = MappedIndex(**region | {"facts": facts}).rows(first, last)
        expected = members()[first:last]
        assert bytes(found.names or b"") == b"".join(m.name.encode() for m in expected)
        assert list(found.name_bounds) == [7 * i for i in range(len(expected) + 1)]
        assert list(found.offset_start) == [m.offset_start for m in expected]
        assert list(found.offset_end) == [m.offset_end for m in expected]
        for bit, fact in enumerate(("media_type", "width", "height", "crc32c", "mtime")):
            column = getattr(found, fact)
            if facts >> bit & 1:
                values = [getattr(m, fact) for m in expected]
                wanted = (
                    [MEDIA_TYPES.index(value) for value in values]
                    if fact == "media_type"
                    else values
                )
                assert list(column) == wanted
            else:
                assert column is None


@pytest.mark.parametrize("facts", [0, 1, 2, 4, 8, 16, 23, 31])
def test_facts_are_found_only_if_they_were_taken(region: dict[str, Any], facts: int) -> None:
    index = MappedIndex(**region | {"facts": facts})
    whole, found = members()[1030], index.member_at(1030)
    for bit, fact in enumerate(("media_type", "width", "height", "crc32c", "mtime")):
        assert getattr(found, fact) == (getattr(whole, fact) if facts >> bit & 1 else None)
    expected = [members()[row].crc32c if facts & 8 else None for row in (0, 1030, 7)]
    assert [row.crc32c for row in index.search_rows([0, 1030, 7])] == expected
    assert [row.crc32c for row in index.search(["0000000", "0001030", "0000007"])] == expected


def test_many_names_are_found_together(region: dict[str, Any]) -> None:
    """More than the names that are brought at once; absent ones, those of other alphabets, and no text at all."""
    names = (
        [f"{i * 37 % 2200:07}" for i in range(100)]
        + ["é", "\udcff", "\ud800", ""]
        + [f"{i:07}" for i in range(31)]
    )
    for facts in (31, 0):
        found = MappedIndex(**region | {"facts": facts}).search(names)
        expected = {
            m.name: (i, m.offset_start, m.offset_end, m.crc32c if facts else None)
            for i, m in enumerate(members())
        }
        assert [hit and tuple(hit) for hit in found] == [expected.get(name) for name in names]
    nothing = MappedIndex(**region | {"pages": 0})
    assert nothing.search(names) == [None] * len(names)
    assert nothing.find("0000001") == -1
    assert nothing.locate("0000001") is None
    for facts in (31, 0):
        index = MappedIndex(**region | {"facts": facts})
        for row, member in enumerate(members()):
            assert index.find_member(member) == row
            assert index.find_member(replace(member, crc32c=None)) == row
            other = replace(member, crc32c=(member.crc32c or 0) ^ 1)
            assert index.find_member(other) == (OTHER_MEMBER if facts else row)
            for change in ({"offset_start": 0}, {"offset_end": member.offset_end + 1}):
                assert index.find_member(replace(member, **change)) == OTHER_MEMBER
            assert index.find_member(replace(member, name="absent")) == NO_SUCH_NAME
    with pytest.raises(TypeError):
        MappedIndex(**region).search([1])  # type: ignore[list-item]


# What was fetched


def fetched(crafted: Crafted, **changes: Any) -> Any:
    blocks = crafted.blocks
    arguments: dict[str, Any] = {
        "blocks": bytes(crafted.packed[blocks[0] : blocks[-1]]),
        "positions": memoryview(struct.pack("<4q", *(at - blocks[0] for at in blocks))).cast("q"),
        "first_row": 0, "row_count": COUNT, "last_end": 1 << 62, "facts": 0, "where": "x", "offset": blocks[0],
    }  # fmt: skip
    return decode_blocks(**(arguments | changes))


def positions(*values: int) -> memoryview:
    return memoryview(struct.pack(f"<{len(values)}q", *values)).cast("q")


def test_blocks_that_were_fetched_are_rows(right: bytes) -> None:
    crafted = Crafted(right)
    found = fetched(crafted)
    assert list(found.offset_start) == [m.offset_start for m in members()]
    first, second, third, end = (at - crafted.blocks[0] for at in crafted.blocks)
    found = fetched(crafted, positions=positions(second, third, end), first_row=1024)
    assert list(found.offset_start) == [m.offset_start for m in members()[1024:]]
    found = fetched(crafted, positions=positions(second, third), first_row=1024)
    assert list(found.offset_start) == [m.offset_start for m in members()[1024:2048]]
    assert list(fetched(crafted, positions=positions(first)).offset_start) == []


@pytest.mark.parametrize("first_row", [1, 1023, 1024, -1024, COUNT, 1 << 40])
def test_blocks_that_were_fetched_and_begin_elsewhere_are_refused(
    right: bytes, first_row: int
) -> None:
    with pytest.raises(FormatError, match="the block at byte"):
        fetched(Crafted(right), first_row=first_row)


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1, 2048, 1024, 0])
def test_more_or_fewer_blocks_than_there_are_rows_are_refused(right: bytes, count: int) -> None:
    with pytest.raises(FormatError, match="the block at byte"):
        fetched(Crafted(right), row_count=count)


def test_positions_that_are_none_are_refused(right: bytes) -> None:
    crafted = Crafted(right)
    end = crafted.blocks[1] - crafted.blocks[0]
    whole = crafted.blocks[3] - crafted.blocks[0]
    for start, stop in ((-1, end), (0, 0), (end, 0), (0, whole + 1), (whole, whole + 8), (-8, -1)):
        with pytest.raises(
            FormatError, match=f"the block at byte {crafted.blocks[0] + start} is malformed"
        ):
            fetched(crafted, positions=positions(start, stop), row_count=1024)


def test_a_block_that_is_too_short_for_its_header_is_damaged(right: bytes) -> None:
    crafted = Crafted(right)
    for size in (1, 4, 47):
        with pytest.raises(FormatError, match="does not match its checksum"):
            fetched(crafted, positions=positions(0, size), row_count=1024)


def test_a_page_of_another_size_is_no_page() -> None:
    for size in (0, 4095, 4097):
        with pytest.raises(ValueError, match=f"a page has 4096 bytes, not {size}"):
            rows_in_page(bytes(size), b"a", 0)
    assert rows_in_page(b"\xff" * PAGE, b"a", 0) == []
    # no slot is free, and none has the name's fingerprint: it ends after one round
    assert rows_in_page(bytes(PAGE), b"a", 0) == []


# What is written


def columns(count: int) -> dict[str, Any]:
    return {
        "names": b"a" * count,
        "name_bounds": memoryview(struct.pack(f"<{count + 1}q", *range(count + 1))).cast("q"),
        "offset_start": memoryview(bytes(8 * count)).cast("q"),
        "offset_end": memoryview(bytes(8 * count)).cast("q"),
        "media_type": bytes(count),
        "width": memoryview(bytes(4 * count)).cast("I"),
        "height": memoryview(bytes(4 * count)).cast("I"),
        "crc32c": memoryview(bytes(4 * count)).cast("I"),
        "mtime": memoryview(bytes(8 * count)).cast("q"),
    }


@pytest.mark.parametrize("column", list(columns(1))[2:])
@pytest.mark.parametrize("count", [2, 4])
def test_columns_of_different_lengths_are_not_written(column: str, count: int) -> None:
    encoder = BlockEncoder()
    with pytest.raises(ValueError, match="columns that are not all of 3 members"):
        encoder.add(**columns(3) | {column: columns(count)[column]})
    assert encoder.add(**columns(3))
    assert len(encoder) == 3


def test_only_the_last_part_ends_within_a_block() -> None:
    encoder = BlockEncoder()
    first = encoder.add(**columns(2048))
    second = encoder.add(**columns(5))
    assert (len(encoder), encoder.blocks_bytes) == (2053, len(first) + len(second))
    with pytest.raises(ValueError, match="only the last part may end within a block"):
        encoder.add(**columns(5))
    assert NameHashes().make_lookup() == (0, 0, [b""])


NAMES_TO_ORDER = ["", "a", "aa", "ab", "b", "ba", "a\x00", "é", "\udcff"]


@pytest.mark.parametrize("first", NAMES_TO_ORDER)
def test_an_index_has_a_guide_if_its_names_ascend(first: str) -> None:
    for second in NAMES_TO_ORDER:
        raw = [name.encode("utf-8", "surrogateescape") for name in (first, second)]
        plain = PlainIndex(written(Index([Member(first, 0, 0), Member(second, 0, 0)])))
        assert bool(plain.guide_bytes) == (raw == sorted(raw)), second
        # where one block ends and the next one begins
        many = [Member(first, 0, 0)] * 1024 + [Member(second, 0, 0)]
        assert bool(PlainIndex(written(Index(many))).guide_bytes) == (raw == sorted(raw)), second


@pytest.mark.parametrize(
    "most", [0, 1, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 62) + 1]
)
def test_a_column_is_as_wide_as_its_largest_value(most: int) -> None:
    width = (
        0 if most == 0 else 1 if most < 256 else 2 if most < 65_536 else 4 if most < 1 << 32 else 8
    )
    time = most + 1700 if most < 1 << 62 else 1700 + (1 << 62)
    index = Index(
        [
            Member("a", 7, 7, mtime=1700),
            Member("b", 7, 7 + most, mtime=time),
            Member("c", 7, 7, mtime=1700),
        ]
    )
    crafted = Crafted(written(index))
    at = crafted.blocks[0]
    assert crafted.packed[at + WIDTHS + SIZE] == crafted.packed[at + WIDTHS + MTIME] == width
    assert crafted.get("<Q", at + START_BASE) == 7
    assert crafted.get("<q", at + 24) == 1700
    found = list(PlainIndex(bytes(crafted.packed)).members())
    assert [(m.offset_start, m.offset_end, m.facts["mtime"]) for m in found] == [
        (7, 7, 1700),
        (7, 7 + most, time),
        (7, 7, 1700),
    ]
    # one byte apart, so that offsets count by bytes
    starts = [7, 8, 7 + most]
    moved = Crafted(written(Index(Member(f"{start}", start, start) for start in starts)))
    assert moved.packed[moved.blocks[0] + WIDTHS + OFFSET_START] == max(width, 1)


def test_facts_that_were_not_taken_have_no_bytes() -> None:
    crafted = Crafted(written(Index([Member("a", 512, 700)])))
    at = crafted.blocks[0]
    assert bytes(crafted.packed[at + WIDTHS : at + 48]) == bytes([1, 0, 1, 0, 0, 0, 0, 0])
    assert (crafted.get("<Q", at + START_BASE), crafted.get("<q", at + 24)) == (512, 0)


@pytest.mark.parametrize("width", [3, 5, 6, 7])
def test_a_width_of_no_number_is_refused_also_where_it_fits(
    right: bytes, opened: Callable[[bytes], Index], width: int
) -> None:
    crafted = Crafted(right)
    at = crafted.blocks[2]
    for column in (CRC32C, MTIME):
        crafted.packed[at + WIDTHS + column] = 0
    crafted.packed[at + WIDTHS + HEIGHT] = width
    assert_refused(crafted.sealed(), opened, 2060, at)


def test_an_empty_member_behind_the_last_end_is_refused(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    crafted = Crafted(right)
    last_end = crafted.get("<Q", crafted.footer + LAST_END)
    base = crafted.get("<Q", crafted.blocks[2] + START_BASE)
    crafted.set_value(2, SIZE, 7, 0)
    crafted.put("<Q", crafted.footer + LAST_END, last_end // 512 * 512)
    for place in range(40, 52):
        crafted.set_value(2, SIZE, place, 0)
    crafted.set_value(2, OFFSET_START, 7, (last_end - base) // 512 + 1)
    assert_refused(crafted.sealed(), opened, 2055, crafted.blocks[2], has_row=True)


# Checksums are compared on first use, whatever was used before


def test_a_block_is_compared_with_its_checksum_when_it_is_first_used(
    right: bytes, opened: Callable[[bytes], Index]
) -> None:
    crafted = Crafted(right)
    for damaged in range(3):
        packed = bytearray(right)
        packed[crafted.blocks[damaged + 1] - 20] ^= 1
        index = opened(bytes(packed))
        for _ in range(2):
            for block in range(3):
                if block == damaged:
                    with pytest.raises(FormatError, match="does not match its checksum") as caught:
                        index._member_at(1024 * block + 5)
                    assert caught.value.offset == crafted.blocks[block]
                else:
                    assert index._member_at(1024 * block + 5) == members()[1024 * block + 5]


def test_a_page_is_compared_with_its_checksum_when_it_is_first_used(tmp_path: Path) -> None:
    right = written(Index(members(ascending=False) + [Member(f"x{i}", 0, 0) for i in range(6000)]))
    plain = PlainIndex(right)
    assert plain.lookup_pages > 16
    names = [member.name for member in members()[::3]]
    for damaged in (0, 1, 7, 8, 9, 16):
        packed = bytearray(right)
        packed[plain.lookup + PAGE * damaged + 32] ^= 1
        (tmp_path / "a.idx").write_bytes(packed)
        index = Index.load(tmp_path / "a.idx")
        for name in names:
            if page_number(name.encode(), plain.seed, plain.lookup_pages) == damaged:
                with pytest.raises(FormatError, match="does not match its checksum") as caught:
                    index.row_of(name)
                assert caught.value.offset == plain.lookup + PAGE * damaged
            else:
                assert index.row_of(name) == plain.find_by_lookup(name.encode())


def test_names_are_hashed_and_probed_as_the_page_of_the_format_says() -> None:
    reached = set()
    for i in range(500):
        name = b"name-%d" % i
        for seed in (0, 1, 7):
            h = hash_of(name, seed)
            for pages in (1, 2, 1000, (1 << 32) - 1):
                assert page_number(name, seed, pages) == (h >> 32) * pages >> 32
            first = (h & 0xFFFF) * 63 >> 16
            page = bytearray(bytes(64) + bytes(8 * 504))
            line = 1 + (first + i % 63) % 63
            struct.pack_into("<II", page, 64 * line + 8 * (i % 8), h >> 16 & 0xFFFFFFFF, i)
            assert rows_in_page(bytes(page), name, seed) == [i]
            reached.add((first, line))
            # a free slot ends the search
            if i % 8:
                struct.pack_into("<II", page, 64 * line + 8 * (i % 8) - 8, 0xFFFFFFFF, 0xFFFFFFFF)
                assert rows_in_page(bytes(page), name, seed) == []
    assert len(reached) > 400


def test_no_lookup_is_not_looked_at(region: dict[str, Any], tmp_path: Path) -> None:
    """Behind a map that fits no other gap, there lie bytes that nobody may read."""
    size = 1 << 30
    with (tmp_path / "a.idx").open("w+b") as file, mmap.mmap(-1, 1 << 24, prot=0):
        os.pwrite(file.fileno(), region["footer"], size - FOOTER)
        index = MappedIndex(
            **region
            | {"file": file.fileno(), "region_bytes": size, "row_count": 0, "block_count": 0}
            | {"directory": 0, "lookup": size, "pages": 0}
        )
        assert index.search(["a"] * 40) == [None] * 40
        assert index.find("a") == -1


# A file that is overwritten or cut under the map


def ask(index: MappedIndex) -> list[Callable[[], object]]:
    return [
        lambda: index.find("0000001"),
        lambda: index.find("absent"),
        lambda: index.locate("0000001"),
        lambda: index.locate("absent"),
        lambda: index.find_member(Member("0000001", 0, 0)),
        lambda: index.find_member(Member("absent", 0, 0)),
        lambda: index.search(["0000001"]),
        lambda: index.search(["absent"]),
        lambda: index.search(["é"] * 40),
        lambda: index.bounds_at(1),
        lambda: index.name_at(-1),
        lambda: index.member_at(1024),
        lambda: index.search_rows([*range(40)]),
        lambda: index.rows(0, 10),
        lambda: index.rows(0, 0),
    ]


@pytest.mark.parametrize("at", [0, 3, 16, 31, 336, 343])
def test_an_index_that_is_overwritten_is_noticed_by_its_footer(
    region: dict[str, Any], at: int
) -> None:
    index = MappedIndex(**region)
    for question in ask(index):
        question()
    place = region["region_bytes"] - FOOTER + at
    os.pwrite(region["file"], bytes([region["footer"][at] ^ 1]), place)
    for question in ask(index):
        with pytest.raises(BlobChangedError, match=r"x\.idx: the index was overwritten"):
            question()


def test_what_is_wrong_with_an_index_that_is_overwritten_is_no_damage(
    region: dict[str, Any],
) -> None:
    size = region["region_bytes"] - FOOTER
    # each question meets parts that were not compared with their checksums before
    indexes = [MappedIndex(**region) for _ in ask(MappedIndex(**region))]
    os.pwrite(region["file"], os.urandom(size) + bytes([region["footer"][0] ^ 1]), 0)
    for number, index in enumerate(indexes):
        with pytest.raises(BlobChangedError, match=r"x\.idx: the index was overwritten"):
            ask(index)[number]()


@pytest.mark.parametrize("column", [NAME_END, OFFSET_START])
def test_wrong_values_of_an_index_that_is_overwritten_are_no_damage(
    region: dict[str, Any], right: bytes, column: int
) -> None:
    """Its blocks were compared with their checksums before, and that is not done again."""
    index = MappedIndex(**region)
    questions = ask(index)
    for question in questions:
        question()
    crafted = Crafted(right)
    for block in range(3):
        at, width = crafted.column(block, column)
        rows = crafted.get("<I", crafted.blocks[block] + ROWS)
        # names that end before they begin; payloads behind all members
        values = b"".join(i.to_bytes(width, "little") for i in range(rows, 0, -1))
        wrong = values if column == NAME_END else b"\xff" * width * rows
        os.pwrite(region["file"], wrong, at)
    with pytest.raises(FormatError):
        index.bounds_at(1)
    os.pwrite(region["file"], bytes([right[-FOOTER] ^ 1]), len(right) - FOOTER)
    for question in questions:
        with pytest.raises(BlobChangedError, match=r"x\.idx: the index was overwritten"):
            question()


def test_a_directory_that_is_overwritten_is_no_damage(region: dict[str, Any]) -> None:
    index = MappedIndex(**region)
    questions = [
        lambda: index.bounds_at(1),
        lambda: index.find("0000001"),
        lambda: index.search_rows([1]),
        lambda: index.rows(0, 10),
    ]
    for question in questions:
        question()
    # each block is where it was, and has no bytes
    start = os.pread(region["file"], 8, region["directory"] + 8)
    os.pwrite(region["file"], start * 4, region["directory"] + 8)
    for question in questions:
        with pytest.raises(FormatError):
            question()
    os.pwrite(region["file"], bytes([region["footer"][0] ^ 1]), region["region_bytes"] - FOOTER)
    for question in questions:
        with pytest.raises(BlobChangedError, match=r"x\.idx: the index was overwritten"):
            question()


@pytest.mark.parametrize("at", [32, 100, 335, 344, 511])
def test_other_bytes_of_the_footer_are_no_stamp(region: dict[str, Any], at: int) -> None:
    index = MappedIndex(**region)
    os.pwrite(region["file"], b"\xa5", region["region_bytes"] - FOOTER + at)
    for question in ask(index):
        question()


@pytest.mark.parametrize("left", [-1, -FOOTER, -PAGE * 3])
def test_a_file_that_is_cut_is_noticed(region: dict[str, Any], left: int) -> None:
    index = MappedIndex(**region)
    size = region["region_bytes"]
    os.ftruncate(region["file"], size + left)
    for question in ask(index):
        with pytest.raises(
            BlobChangedError,
            match=f"the file was cut to {size + left} bytes; .* up to byte {size} when",
        ):
            question()
    with pytest.raises(BlobChangedError, match="was cut"):
        MappedIndex(**region)


def test_indexes_give_their_memory_back(region: dict[str, Any]) -> None:
    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    large = region | {"block_count": 3, "row_count": COUNT}
    MappedIndex(**large).rows(0, 2000)
    before = pages()
    for _ in range(400):
        index = MappedIndex(**large)
        index.rows(0, 2000)
        with pytest.raises(FormatError):
            MappedIndex(**large | {"row_count": 2050}).rows(0, 2050)
    assert (pages() - before) * 4096 < 1 << 20
