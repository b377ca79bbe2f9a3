"""Sections of an index file that are written, byte for byte as docs/format.md describes them."""

from __future__ import annotations

import io
import mmap
import os
import random
import resource
import struct
from array import array
from itertools import accumulate
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import google_crc32c
import pytest
from plain_reader import PlainIndex, hash_of

from blobpack import ChecksumError, FormatError, Index, Member, StorageError
from blobpack._native.block_encoder import BlockEncoder
from blobpack._native.fetched_index import decode_blocks, page_number, rows_in_page
from blobpack._native.mapped_index import MappedIndex
from blobpack._native.name_hashes import NameHashes
from blobpack.columns import MEDIA_TYPES
from blobpack.indexfile.open import read_footer
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_ROWS = 1024
PAGE = 4096
PAGE_POSITIONS = 511
PAGE_NAMES = 400
DIRECTORY = 1 << 31
U64 = (1 << 64) - 1
FACTS = {"media_type": "B", "width": "I", "height": "I", "crc32c": "I", "mtime": "q"}


class Rows(NamedTuple):
    """Members as columns; facts that were not taken are not there."""

    names: list[bytes]
    starts: list[int]
    ends: list[int]
    facts: dict[str, list[int]]

    def part(self, first: int, last: int) -> Rows:
        facts = {fact: values[first:last] for fact, values in self.facts.items()}
        return Rows(self.names[first:last], self.starts[first:last], self.ends[first:last], facts)

    def arguments(self) -> dict[str, Any]:
        bounds = array("q", accumulate(map(len, self.names), initial=0))
        return {
            "names": b"".join(self.names),
            "name_bounds": bounds,
            "offset_start": array("q", self.starts),
            "offset_end": array("q", self.ends),
            **{fact: array(FACTS[fact], values) for fact, values in self.facts.items()},
        }


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def sealed(data: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(data)) + data


def expected_block(rows: Rows, first_row: int) -> bytes:
    count = len(rows.names)
    base = min(rows.starts)
    unit = 512 if all((start - base) % 512 == 0 for start in rows.starts) else 1
    mtimes = rows.facts.get("mtime", [0] * count)
    columns = [
        list(accumulate(map(len, rows.names))),
        [(start - base) // unit for start in rows.starts],
        [end - start for start, end in zip(rows.starts, rows.ends, strict=True)],
        *(rows.facts.get(fact, [0]) for fact in list(FACTS)[:4]),
        [mtime - min(mtimes) for mtime in mtimes],
    ]
    widths = [
        next(width for width in (0, 1, 2, 4, 8) if max(column) < 1 << 8 * width)
        for column in columns
    ]
    if count > 1:
        widths[0] = max(widths[0], 1)
    names = b"".join(rows.names)
    header = struct.pack(
        "<IQQqII8B", count, first_row, base, min(mtimes), len(names), unit, *widths
    )
    body = b"".join(
        padded(b"".join(value.to_bytes(width, "little") for value in column)) if width else b""
        for column, width in zip(columns, widths, strict=True)
    )
    return sealed(padded(bytes(4) + header + body + names)[4:])


def random_rows(rng: random.Random) -> Rows:
    """Make rows whose columns are of any width."""
    count = rng.choice([1, 1, 2, 3, 7, 1023, 1024, 1025, 2049])
    most = rng.choice([0, 1, 3, 4, 60, 300] if count > 100 else [0, 1, 9, 300, 70_000])
    names = [rng.randbytes(rng.randint(0, most)) for _ in range(count)]
    step = rng.choice([1, 512, 512, 1024])
    first = rng.choice([0, 7, 512, 1 << 40, (1 << 62) - (1 << 61)])
    reach = rng.choice([0, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32])
    starts = [first + step * rng.randint(0, reach) for _ in range(count)]
    starts[rng.randrange(count)] = first + step * reach
    largest = rng.choice([0, 1, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, 1 << 50])
    ends = [start + rng.choice([0, largest, rng.randint(0, largest)]) for start in starts]
    facts = {}
    for fact, kind in FACTS.items():
        if rng.random() < 0.6:
            bits = {"B": 3, "I": rng.choice([0, 1, 8, 9, 16, 17, 32]), "q": rng.choice([1, 33, 60])}
            low = rng.choice([0, -(1 << 60), 1_700_000_000]) if kind == "q" else 0
            facts[fact] = [low + rng.randrange(1 << bits[kind]) for _ in range(count)]
    return Rows(names, starts, ends, facts)


@pytest.mark.parametrize("seed", range(6))
def test_blocks_and_directory_are_as_the_format_says(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        rows = random_rows(rng)
        count = len(rows.names)
        encoder = BlockEncoder()
        parts = [(0, count)] if rng.random() < 0.5 or count <= 1024 else [(0, 1024), (1024, count)]
        written = b"".join(encoder.add(**rows.part(*part).arguments()) for part in parts)
        firsts = range(0, count, BLOCK_ROWS)
        blocks = [expected_block(rows.part(first, first + 1024), first) for first in firsts]
        assert written == b"".join(blocks)
        assert (len(encoder), encoder.blocks_bytes) == (count, len(written))
        base = rng.choice([0, 512, 1 << 40])
        starts = [base + start for start in accumulate(map(len, blocks), initial=0)]
        body = struct.pack(f"<I{len(starts)}Q", DIRECTORY, *starts).ljust(PAGE - 4, b"\0")
        assert encoder.directory(base) == sealed(body)
        assert encoder.guide() == (rows.names[::1024] if rows.names == sorted(rows.names) else None)
        # what is written is read
        found = decode_blocks(
            written, array("q", [start - base for start in starts]), 0, count, 1 << 62, 31, "x", 0
        )
        assert bytes(found.names or b"") == b"".join(rows.names)
        assert list(found.offset_start) == rows.starts
        assert list(found.offset_end) == rows.ends
        for fact in FACTS:
            low = [0] * count
            assert list(getattr(found, fact)) == rows.facts.get(fact, low)


@pytest.mark.parametrize("blocks", [1, 509, 510, 511, 1020, 1021, 1022])
def test_a_directory_has_as_many_pages_as_it_needs(blocks: int) -> None:
    """One position for each block, and one where the last block ends."""
    encoder = BlockEncoder()
    count = (blocks - 1) * BLOCK_ROWS + 1
    nothing = memoryview(bytes(8 * (count + 1))).cast("q")
    size = len(encoder.add(b"", nothing, nothing[1:], nothing[1:])) // blocks
    pages = encoder.directory(10)
    assert len(pages) == -(-(blocks + 1) // PAGE_POSITIONS) * PAGE
    found: list[int] = []
    for number, at in enumerate(range(0, len(pages), PAGE)):
        page = pages[at : at + PAGE]
        assert page == sealed(page[4:])
        assert struct.unpack_from("<I", page, 4) == (DIRECTORY + number,)
        found += struct.unpack_from(f"<{PAGE_POSITIONS}Q", page, 8)
    whole = len(expected_block(Rows([b""] * 1024, [0] * 1024, [0] * 1024, {}), 0))
    assert found[:blocks] == [10 + whole * i for i in range(blocks)]
    assert found[blocks] == 10 + encoder.blocks_bytes
    assert not any(found[blocks + 1 :])
    assert size <= whole


def add(hashes: NameHashes, names: list[bytes]) -> None:
    hashes.add(b"".join(names), array("q", accumulate(map(len, names), initial=0)))


def add_all(hashes: NameHashes, names: list[bytes]) -> None:
    for first in range(0, len(names), BLOCK_ROWS):
        add(hashes, names[first : first + BLOCK_ROWS])


def lookup_of(
    names: list[bytes], hashes: NameHashes | None = None
) -> tuple[int, bytes, list[tuple[int, int]]]:
    """Make the lookup of names, and return its seed, its pages, and the rows of one name."""
    hashes = NameHashes() if hashes is None else hashes
    add_all(hashes, names)
    repeated: list[tuple[int, int]] = []
    seed, count, parts = hashes.make_lookup(lambda row, other: repeated.append((row, other)))
    pages = b"".join(parts)
    assert len(pages) == count * PAGE
    return seed, pages, repeated


def assert_found(names: list[bytes], seed: int, pages: bytes) -> None:
    """Check the pages' headers, and that the last row of each name is the only one in its page."""
    count = len(pages) // PAGE
    for number in range(count):
        page = pages[number * PAGE : (number + 1) * PAGE]
        assert page == sealed(struct.pack("<I", number) + bytes(56) + page[64:])
    last = {name: row for row, name in enumerate(names)}
    for name, row in last.items():
        number = page_number(name, seed, count)
        found = rows_in_page(pages[number * PAGE : (number + 1) * PAGE], name, seed)
        assert [other for other in found if names[other] == name] == [row]
    slots = sum(
        pages[at + 4 : at + 8] != b"\xff" * 4
        for start in range(0, len(pages), PAGE)
        for at in range(start + 64, start + PAGE, 8)
    )
    assert slots == len(last)


@pytest.mark.parametrize("count", [0, 1, 399, 400, 401, 800, 801, 5000])
def test_a_lookup_has_a_page_for_each_400_names(count: int) -> None:
    names = [b"name-%d" % i for i in range(count)]
    seed, pages, repeated = lookup_of(names)
    assert (seed, len(pages)) == (0, -(-count // PAGE_NAMES) * PAGE)
    assert repeated == []
    assert_found(names, seed, pages)


def test_equal_names_have_one_slot_which_has_the_last_row() -> None:
    names = [b"n%d" % (i * i % 1000) for i in range(3000)]
    seed, pages, repeated = lookup_of(names)
    assert all(names[row] == names[other] for row, other in repeated)
    assert len(repeated) == 3000 - len(set(names))
    assert_found(names, seed, pages)
    hashes = NameHashes()
    add_all(hashes, names)
    # what nobody asks about is not reported, and the lookup is the same
    assert b"".join(hashes.make_lookup()[2]) == pages


FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(x: int) -> int:
    """Spread every bit over the whole word, as docs/format.md says."""
    x = (x ^ x >> 30) * FIRST & U64
    x = (x ^ x >> 27) * SECOND & U64
    return x ^ x >> 31


def unmix(x: int) -> int:
    """Return the word that mix has made into another one."""
    x ^= x >> 31 ^ x >> 62
    x = x * pow(SECOND, -1, 1 << 64) & U64
    x ^= x >> 27 ^ x >> 54
    x = x * pow(FIRST, -1, 1 << 64) & U64
    return x ^ x >> 30 ^ x >> 60


def names_of_one_hash(count: int, value: int = 12345) -> list[bytes]:
    """Make different names whose hashes are equal in all bits: the second word undoes what the first one did."""
    state = 16 * 0x9E3779B97F4A7C15 & U64
    names = [struct.pack("<QQ", i, mix(state ^ i) ^ value) for i in range(count)]
    assert len({hash_of(name, 0) for name in names[:3]}) == 1
    return names


def name_of_hash(wanted: int) -> bytes:
    """Make a name that has this hash under seed 0, of 64 bits."""
    (name,) = names_of_one_hash(1, unmix(unmix(unmix(wanted))))
    assert hash_of(name, 0) == wanted
    return name


def test_names_of_one_print_are_different() -> None:
    """A slot holds 32 bits of a hash, and two names that agree in these are different nevertheless."""
    names = [name_of_hash(high << 48 | 0x123456789ABC) for high in range(9)]
    seed, pages, repeated = lookup_of(names)
    assert repeated == []
    assert_found(names, seed, pages)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_free_slot_is_no_slot_of_a_name_with_the_same_print(count: int, tmp_path: Path) -> None:
    """A free slot is of ones only, and so are 32 bits of some hashes."""
    names = [name_of_hash(low << 48 | 0xFFFF_FFFF_0000 | 13 * low) for low in range(count + 1)]
    text = [name.decode("utf-8", "surrogateescape") for name in names]
    Index([Member(name, 512, 600) for name in text[:count]]).save(tmp_path / "a.idx")
    index = Index.load(tmp_path / "a.idx")
    assert text[count] not in index
    assert [index.row_of(name) for name in text[:count]] == [*range(count)]
    _, pages, _ = lookup_of(names[:count])
    if count:
        assert set(rows_in_page(pages[:PAGE], names[count], 0)) < {*range(count + 1)}


@pytest.mark.parametrize(("count", "fits"), [(2, True), (504, True), (505, False), (1500, False)])
def test_different_names_of_one_hash_have_slots_while_a_page_has_room(
    count: int, fits: bool
) -> None:
    others = [b"other-%d" % i for i in range(0 if count == 504 else 100)]
    names = [*others, *names_of_one_hash(count)]
    seed, pages, repeated = lookup_of(names)
    assert repeated == []
    if fits:
        assert_found(names, seed, pages)
    else:
        assert (seed, pages) == (0, b"")


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_page_that_overflows_is_filled_under_another_seed(seeds: int) -> None:
    names: list[bytes] = []
    at = 0
    while len(names) < 600:  # two pages, and all names are in the first one under some seeds
        name = b"%d" % at
        at += 1
        if all(page_number(name, seed, 2) == 0 for seed in range(seeds)):
            names.append(name)
    seed, pages, _ = lookup_of(names)
    assert (seed, len(pages)) == (seeds, 2 * PAGE)
    assert_found(names, seed, pages)


def test_a_lookup_that_overflows_under_all_seeds_is_made_larger() -> None:
    """Two groups of names, each of one hash, fall into one of two pages under all seeds, but not into one of four."""
    first = names_of_one_hash(300)
    value = next(
        value
        for value in range(100_000)
        for (name,) in [names_of_one_hash(1, value)]
        if all(page_number(name, seed, 2) == page_number(first[0], seed, 2) for seed in range(8))
        and page_number(name, 0, 4) != page_number(first[0], 0, 4)
    )
    second = names_of_one_hash(300, value)
    seed, pages, _ = lookup_of(first + second)
    assert (seed, len(pages)) == (0, 4 * PAGE)
    assert_found(first + second, seed, pages)


# Hashes in a file


def spilling() -> NameHashes:
    """Return hashes of which those of one part of members are kept in memory."""
    return NameHashes(TemporaryFile, in_memory=1)


def names_of_one_part(rows: int, different: int) -> list[bytes]:
    """Make names whose hashes go to one of the 256 parts of a file of hashes, some of them several times."""
    rng = random.Random(rows)
    names = [name_of_hash(7 << 56 | rng.getrandbits(56)) for _ in range(different)]
    return [names[rng.randrange(different)] for _ in range(rows)]


@pytest.mark.parametrize("count", [1025, 3000, 12_345])
def test_hashes_in_a_file_make_a_lookup(count: int) -> None:
    names = [b"n%d" % (i * i % (count - 7)) for i in range(count)]
    seed, pages, repeated = lookup_of(names, spilling())
    assert (seed, len(pages)) == (0, 256 * PAGE)
    assert_found(names, seed, pages)
    assert sorted(repeated) == sorted(lookup_of(names)[2])
    hashes = spilling()
    add_all(hashes, names)
    assert b"".join(hashes.make_lookup()[2]) == pages


@pytest.mark.parametrize("rows", [3276, 3277, 10_000])
def test_a_part_of_the_file_has_several_chunks(rows: int) -> None:
    names = names_of_one_part(rows, 300)
    seed, pages, repeated = lookup_of(names, spilling())
    assert_found(names, seed, pages)
    assert len(repeated) == rows - len(set(names))


def test_a_lookup_of_hashes_in_a_file_grows_if_a_page_overflows() -> None:
    names = [name_of_hash(7 << 56 | i << 48 | i * i) for i in range(256)] * 5
    names += [name_of_hash(7 << 56 | i << 48 | i) for i in range(256)]
    names += [name_of_hash(7 << 56 | i << 48 | i + 1) for i in range(256)]
    assert len(set(names)) > 504
    seed, pages, _ = lookup_of(names, spilling())
    # at first one page for each part of the file, then two
    assert (seed, len(pages)) == (0, 2 * 256 * PAGE)
    assert_found(names, seed, pages)


def test_hashes_in_a_file_that_collide_make_no_lookup() -> None:
    seed, pages, _ = lookup_of(names_of_one_hash(1500), spilling())
    assert (seed, pages) == (0, b"")


@pytest.mark.parametrize("make", [NameHashes, spilling])
def test_a_copy_of_hashes_has_names_of_its_own(make: Callable[[], NameHashes]) -> None:
    """If hashes are spilled, some are in the file when they are copied."""
    filler = [b"f%d" % i for i in range(3 * 1024)]
    names = [b"./f%d" % (i * 3) for i in range(1024)]
    hashes = make()
    add_all(hashes, filler)
    files = hashes.copy()
    add(hashes, names)
    add(files, [b"f%d" % (i * 3) for i in range(1024)])
    for both in (hashes, files):
        add(both, [b"f5", b"x"])
    asked: list[tuple[int, int]] = []
    pages = b"".join(hashes.make_lookup(lambda row, other: asked.append((row, other)))[2])
    assert asked == [(5, 4096)]
    assert_found([*filler, *names, b"f5", b"x"], 0, pages)
    asked.clear()
    for _ in files.make_lookup(lambda row, other: asked.append((row, other)))[2]:
        pass
    assert sorted(asked) == sorted([(5, 4096), *((3 * i, 3072 + i) for i in range(1024))])


def extended(names: list[bytes], pages: bytes, first_new: int) -> tuple[bytes, list[Any]]:
    """Put the names from a row on into pages; return the pages, and the rows of one name."""
    hashes = NameHashes(TemporaryFile)
    add_all(hashes, names)
    repeated: list[tuple[int, int]] = []
    parts = hashes.extend_lookup(
        len(pages) // PAGE,
        first_new,
        lambda first, last: pages[first * PAGE : last * PAGE],
        names.__getitem__,
        lambda row, other: repeated.append((row, other)),
    )
    return b"".join(parts), repeated


@pytest.mark.parametrize("between", [0, 5])
def test_names_of_one_print_in_one_page_come_from_several_parts(between: int) -> None:
    """One page of a small lookup takes names of all parts of the hashes."""
    names = [b"first"]
    for part in (42, 43, 200, 255):
        names += [name_of_hash(part << 56 | 0x123456789ABC)]
        names += [name_of_hash(part << 56 | number) for number in range(between)]
    pages, repeated = extended(names, lookup_of(names[:1])[1], 1)
    assert repeated == []
    assert_found(names, 0, pages)


def test_rows_in_a_page_that_are_not_there_have_no_name() -> None:
    """Their slots have the fingerprint of new names, and the checksum of the page is right."""
    names = [b"first", name_of_hash(0xFF << 56 | 0x123456789ABC), b"second"]
    page = bytearray(lookup_of(names[:1])[1])
    slot = PAGE - 8 * 8 * (63 - (0x9ABC * 63 >> 16))
    page[slot : slot + 16] = struct.pack("<IIII", *(0x12345678, 1 << 31) * 2)
    pages, repeated = extended(names, sealed(bytes(page[4:])), 1)
    assert repeated == []
    assert 1 in rows_in_page(pages, names[1], 0)


def test_a_file_of_hashes_that_cannot_be_written_or_read_is_a_storage_error(tmp_path: Path) -> None:
    hashes = NameHashes((tmp_path / "none").open, in_memory=1)
    names = names_of_one_part(3277, 3000)
    with pytest.raises(StorageError, match=r"temporary file .* can't be opened: .*No such file"):
        lookup_of(names, hashes)
    (tmp_path / "a").touch()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def last_file() -> BinaryIO:
        """Open a file, and leave no number for one more."""
        file = (tmp_path / "a").open("r+b")
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, limits[1]))
        return file

    hashes = NameHashes(last_file, in_memory=1)
    try:
        with pytest.raises(StorageError, match=r"can't be opened: .*Too many open files"):
            lookup_of(names, hashes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    hashes = NameHashes(lambda: (tmp_path / "a").open("rb"), in_memory=1)
    with pytest.raises(StorageError, match=r"temporary file .*: Bad file descriptor"):
        lookup_of(names, hashes)
    # the chunk that could not be written is full, and takes no more hashes
    for _ in range(3):
        with pytest.raises(StorageError, match=r"temporary file .*: Bad file descriptor"):
            hashes.make_lookup()
    hashes = NameHashes(lambda: (tmp_path / "a").open("r+b"), in_memory=1)
    add_all(hashes, [*names, *names[:1100]])
    os.truncate(tmp_path / "a", 0)
    with pytest.raises(StorageError, match=r"temporary file .*: Input/output error"):
        hashes.make_lookup()


# What is refused


def test_the_names_of_a_block_take_no_more_than_4_gib() -> None:
    bounds = array("q", [0, 1 << 32])
    zero = array("q", [0])
    with pytest.raises(FormatError, match="the names of 1,024 members take more than 4 GiB"):
        BlockEncoder().add(b"a", bounds, zero, zero)


@pytest.mark.parametrize("before", [0, BLOCK_ROWS])
def test_an_index_has_less_rows_than_numbers_of_32_bits(before: int) -> None:
    count = (1 << 32) - 1 - before
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    with mmap.mmap(-1, 8 * (count + 1), flags=flags) as room:
        numbers = memoryview(room).cast("q")
        encoder = BlockEncoder()
        if before:
            encoder.add(b"", numbers[: before + 1], numbers[:before], numbers[:before])
        with (
            numbers,
            numbers[1:] as values,
            pytest.raises(FormatError, match="at most 4,294,967,294 members"),
        ):
            encoder.add(b"", numbers, values, values)
        assert len(encoder) == before


def test_an_index_may_have_as_many_rows_as_numbers_of_32_bits_but_one() -> None:
    """That many rows pass the count, and then the names of the first block are refused."""
    count = (1 << 32) - 2
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    with mmap.mmap(-1, 8 * (count + 1), flags=flags) as room:
        numbers = memoryview(room).cast("q")
        numbers[BLOCK_ROWS] = 1 << 33
        with (
            numbers,
            numbers[1:] as values,
            pytest.raises(FormatError, match="the names of 1,024 members take more than 4 GiB"),
        ):
            BlockEncoder().add(b"a", numbers, values, values)


# A map of a file


def test_rows_are_found_by_each_page_of_the_directory(tmp_path: Path) -> None:
    blocks = 2 * PAGE_POSITIONS + 1
    count = (blocks - 1) * BLOCK_ROWS + 1
    encoder = BlockEncoder()
    nothing = memoryview(bytes(8 * (count + 1))).cast("q")
    packed = encoder.add(b"", nothing, nothing[1:], nothing[1:]) + encoder.directory(0) + bytes(512)
    (tmp_path / "a.idx").write_bytes(packed)
    with (tmp_path / "a.idx").open("rb") as opened:
        index = MappedIndex(
            opened.fileno(), "a.idx", 0, len(packed), bytes(512), lambda: None, row_count=count, last_end=0,
            block_count=blocks, directory=encoder.blocks_bytes, lookup=0, pages=0, seed=0, facts=0, media_types=MEDIA_TYPES,
        )  # fmt: skip
        for block in (0, 510, 511, 1021, 1022):
            assert index.bounds_at(block * BLOCK_ROWS) == (0, 0)
            assert index.name_at(block * BLOCK_ROWS) == ""


def test_the_lookup_may_stand_before_the_blocks(tmp_path: Path) -> None:
    """The footer says where each section is."""
    count = 30 * BLOCK_ROWS
    names = [b"name-%06d" % i for i in range(count)]
    starts = [512 * i for i in range(count)]
    encoder = BlockEncoder()
    blocks = encoder.add(**Rows(names, starts, starts, {}).arguments())
    seed, pages, _ = lookup_of(names)
    directory = encoder.directory(len(pages))
    packed = pages + blocks + directory + bytes(512)
    (tmp_path / "a.idx").write_bytes(packed)
    with (tmp_path / "a.idx").open("rb") as opened:
        index = MappedIndex(
            opened.fileno(), "a.idx", 0, len(packed), bytes(512), lambda: None, row_count=count, last_end=1 << 40,
            block_count=30, directory=len(pages) + len(blocks), lookup=0, pages=len(pages) // PAGE, seed=seed, facts=0,
            media_types=MEDIA_TYPES,
        )  # fmt: skip
        found = index.search([name.decode() for name in names])
    assert [(row.row, row.offset_start) for row in found] == [
        *zip(range(count), starts, strict=True)
    ]


def test_an_index_may_begin_anywhere_in_its_file(tmp_path: Path) -> None:
    members = [Member(f"{i:05}", 512 * i, 512 * i + 3) for i in range(1500)]
    file: Any = io.BytesIO()
    file.write(Index(members)._write_sections(file, None).encode())
    packed = file.getvalue()
    footer = read_footer(MemoryStore(packed))
    assert footer is not None
    for offset in (0, 512, 3584, 4096, 4608, 1 << 20):
        path = tmp_path / "a.bin"
        path.write_bytes(os.urandom(offset) + packed)
        arguments: dict[str, Any] = {
            "where": "a.bin", "offset": offset, "region_bytes": len(packed), "footer": packed[-512:],
            "owner": lambda: None, "row_count": 1500, "last_end": footer.last_end, "block_count": 2,
            "directory": footer.directory, "lookup": footer.lookup, "pages": footer.lookup_pages,
            "seed": footer.lookup_seed, "facts": 0, "media_types": MEDIA_TYPES,
        }  # fmt: skip
        with path.open("rb") as opened:
            index = MappedIndex(opened.fileno(), **arguments)
            assert index.find("01400") == 1400
            assert index.locate("00000") == (0, 3)
            assert list(index.rows(0, 1500).offset_start) == [512 * i for i in range(1500)]
        with path.open("ab") as opened, pytest.raises(StorageError, match="its index can't be mapped: Permission denied"):  # fmt: skip
            MappedIndex(opened.fileno(), **arguments)


def test_each_of_many_blocks_is_compared_with_its_checksum(tmp_path: Path) -> None:
    """Which blocks were compared is kept in a bit for each."""
    members = [Member(f"{i:05}", 512 * i, 512 * i) for i in range(17 * BLOCK_ROWS + 1)]
    path = tmp_path / "a.idx"
    Index(members).save(path)
    whole = path.read_bytes()
    starts = PlainIndex(whole).block_starts
    for damaged in range(18):
        packed = bytearray(whole)
        packed[starts[damaged] + 60] ^= 1
        path.write_bytes(packed)
        index = Index.load(path)
        for block in [*range(18), *range(18)]:
            name = members[BLOCK_ROWS * block].name
            if block == damaged:
                with pytest.raises(ChecksumError) as caught:
                    index.row_of(name)
                assert caught.value.offset == starts[block]
            else:
                assert index.row_of(name) == BLOCK_ROWS * block
