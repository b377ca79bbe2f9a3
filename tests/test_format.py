"""An index is what docs/format.md says: a reader written from that page alone reads it in plain Python."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plain_reader
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from plain_reader import PlainIndex

import blobpack
from blobpack import Index, Member
from blobpack.columns import FACTS, MEDIA_TYPES, Columns

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
BLOCK = 1024
U64 = (1 << 64) - 1
OFFSET_MAX = (1 << 63) - 1
PNG = b"\x89PNG\r\n\x1a\n"


def text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def saved(index: Index, folder: Path) -> tuple[PlainIndex, Index]:
    """The index, written and read in both ways."""
    index.save(folder / "x.idx")
    return PlainIndex((folder / "x.idx").read_bytes()), Index.load(folder / "x.idx")


def plain(columns: Columns) -> list[plain_reader.PlainMember]:
    """What the plain reader should find."""
    names = [
        bytes(columns.names[start:end]) for start, end in pairwise(columns.name_bounds.tolist())
    ]
    facts = {name: column.tolist() for name, column in columns.facts()}
    return [
        plain_reader.PlainMember(
            name, start, end, {fact: values[row] for fact, values in facts.items()}
        )
        for row, (name, start, end) in enumerate(
            zip(names, columns.offset_start.tolist(), columns.offset_end.tolist(), strict=True)
        )
    ]


def assert_read_alike(
    index: Index, folder: Path, *, lookups: int = 300, absent: Iterable[bytes] = ()
) -> PlainIndex:
    """Both readers find what was written: every row, the last row of a name, and nothing else."""
    read, loaded = saved(index, folder)
    members = plain(index._columns)
    assert list(read.members()) == members
    assert plain(loaded._columns) == members
    assert len(loaded) == read.row_count == len(members)
    payload_bytes = min(sum(m[2] - m[1] for m in members), U64)
    assert loaded.payload_bytes == read.payload_bytes == payload_bytes
    assert loaded._last_end == read.last_end == max((m[2] for m in members), default=0)

    last_rows = {member.name: row for row, member in enumerate(members)}
    names = [member.name for member in members]
    assert bool(read.guide_bytes) == (bool(names) and names == sorted(names))
    if read.guide_bytes:
        assert read.first_names == names[::BLOCK]
    wanted = list(last_rows)
    rows = {name: last_rows[name] for name in wanted[:: len(wanted) // lookups + 1]}
    rows |= {name: None for name in (*absent, b"absent", b"\xff" * 40) if name not in last_rows}
    fresh = Index.load(folder / "x.idx")  # without columns: found where they are stored
    for name, row in rows.items():
        assert read.find_by_lookup(name) == row, name
        if read.guide_bytes:
            assert read.find_by_guide(name) == row, name
        assert (text(name) in fresh) == (row is not None), name
        if row is not None:
            assert fresh.row_of(text(name)) == row, name
            assert fresh._bounds_of(text(name)) == members[row][1:3], name
    return read


def numbered(count: int, *, ascending: bool = True) -> list[Member]:
    numbers = range(count) if ascending else [i * 7919 % count for i in range(count)]
    return [
        Member(f"{number:07d}.jpg", 1024 * i + 512, 1024 * i + 512 + i % 500)
        for i, number in enumerate(numbers)
    ]


def with_facts(count: int, most: int) -> list[Member]:
    return [
        Member(
            f"{i}",
            512 * i,
            512 * i,
            media_type=MEDIA_TYPES[1 + i % (len(MEDIA_TYPES) - 1)],
            width=1 + i * 7 % most,
            height=most - i,
            crc32c=i * 0x9E3779B9 & 0xFFFFFFFF,
            mtime=i * 86400 - 3600,
        )
        for i in range(count)
    ]


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    """Members of any names and offsets, with some of the facts."""
    names = draw(st.lists(st.binary(max_size=20) | st.sampled_from([b"", b"a", b"b/c"])))
    if draw(st.booleans()):
        names.sort()
    offsets = st.integers(0, OFFSET_MAX) | st.integers(0, 100_000).map(lambda block: block * 512)
    facts: dict[str, st.SearchStrategy[Any]] = {
        "media_type": st.sampled_from(MEDIA_TYPES[1:]),
        "width": st.integers(1, (1 << 32) - 1) | st.integers(1, 300),
        "height": st.integers(1, (1 << 32) - 1) | st.integers(1, 300),
        "crc32c": st.integers(0, (1 << 32) - 1),
        "mtime": st.integers(-(1 << 63), (1 << 63) - 1) | st.just(0),
    }
    taken = draw(st.sets(st.sampled_from(sorted(facts))))
    drawn = []
    for name in names:
        bounds = sorted(draw(st.tuples(offsets, offsets)))
        drawn.append(Member(text(name), *bounds, **{fact: draw(facts[fact]) for fact in taken}))
    return drawn


# What the page says


def test_the_hash_and_the_checksum_on_the_page() -> None:
    vectors = re.findall(r'`hash\("(.*?)"\)` = `0x([0-9A-F]{16})`', PAGE.read_text())
    assert len(vectors) == 3
    for name, digest in vectors:
        assert plain_reader.hash_of(name.encode(), 0) == int(digest, 16)
    assert plain_reader.crc32c(b"123456789") == 0xE3069283


def test_the_media_types_on_the_page() -> None:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith("| 3 media type"))
    assert re.findall(r"(\d+) (image/[^,; ]+)", row) == [
        (str(code), name) for code, name in enumerate(MEDIA_TYPES) if name
    ]


def test_no_members(tmp_path: Path) -> None:
    read = assert_read_alike(Index(), tmp_path)
    assert (read.block_count, read.lookup_pages, read.guide_bytes) == (0, 0, 0)
    assert read.region_bytes == 5 * 1024


@pytest.mark.parametrize("name", [b"", b"a", b"1234567", b"12345678", b"123456789", b"\xff\x00/"])
def test_one_member(name: bytes, tmp_path: Path) -> None:
    read = assert_read_alike(Index([Member(text(name), 512, 700)]), tmp_path, absent=[b"", b"b"])
    assert read.region_bytes == 9 * 1024


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("count", [7, 8, 9, 1023, 1024, 1025, 2048, 5000])
def test_blocks_of_1024(count: int, ascending: bool, tmp_path: Path) -> None:
    read = assert_read_alike(
        Index(numbered(count, ascending=ascending)),
        tmp_path,
        absent=[b"", b"0000000", b"9", *(b"%07d.png" % row for row in (0, 1, 1023, 1024))],
    )
    assert read.block_count == len(read.block_starts) - 1 == -(-count // BLOCK)


@pytest.mark.parametrize(
    "names",
    [
        [b"same"] * 3000,
        [b"%04d" % (i // 3) for i in range(3000)],  # equal ones across two blocks, and ascending
        [b"%04d" % (i % 1500) for i in range(3000)],  # far from one another
        [b"%04d" % i for i in range(1023)] + [b"1022"] * 1026 + [b"1023"],  # a block of one name
        [b""] * 2000 + [b"x"],
        [bytes([i % 256]) * (i // 256) for i in range(4000)],
        [b"\xff" * (i % 300) + b"%d" % i for i in range(2000)],
    ],
    ids=["one", "adjacent", "far", "a block of one", "empty", "any bytes", "long"],
)
def test_names_that_are_equal_empty_or_no_text(names: list[bytes], tmp_path: Path) -> None:
    index = Index([Member(text(name), 512 * i, 512 * i + i) for i, name in enumerate(names)])
    assert_read_alike(index, tmp_path, absent=[b"", b"0", b"1022 ", b"same ", b"sam", b"\x00"])


def colliding(count: int) -> list[bytes]:
    """Names of 16 bytes of which all hashes are equal, whatever the seed."""

    def state(name: bytes) -> int:  # in front of the last but one mix, which takes in the seed
        return plain_reader.hash_of(name, 0)

    def unmix(x: int) -> int:
        x ^= x >> 31 ^ x >> 62
        x = x * pow(0x94D049BB133111EB, -1, 1 << 64) & U64
        x ^= x >> 27 ^ x >> 54
        x = x * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & U64
        return x ^ x >> 30 ^ x >> 60

    names = []
    for i in range(count):
        first = struct.pack("<Q", i)
        # hash = mix(mix(mix(h ^ second))): undone for the second word 0, its h is known
        h = unmix(unmix(unmix(state(first + bytes(8)))))
        names.append(first + struct.pack("<Q", h ^ 0x1234567890ABCDEF))
    assert len({plain_reader.hash_of(name, 77) for name in names}) == 1
    return names


@pytest.mark.parametrize("count", [400, 504, 505, 3000])
def test_names_made_to_collide(count: int, tmp_path: Path) -> None:
    names = colliding(count)
    members = [Member(text(name), 512 * i, 512 * i + 1) for i, name in enumerate(names)]
    read = assert_read_alike(Index(members), tmp_path, lookups=10, absent=colliding(count + 1)[-1:])
    assert (read.lookup_pages == 0) == (count > 504)  # so many fit on a page


@pytest.mark.parametrize(
    ("start", "step", "size"),
    [
        (0, 0, 0),
        (512, 1536, 1024),
        (513, 1536, 1000),  # units of 1
        (1, 100_003, 99_999),
        (0, 512, (1 << 32) + 5),
        (1 << 40, 1 << 44, 1 << 33),
        (OFFSET_MAX - 3000, 1, 1),
        (0, OFFSET_MAX // 2999, 0),
        (OFFSET_MAX, 0, 0),
        (0, 0, OFFSET_MAX),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
def test_any_offsets(start: int, step: int, size: int, descending: bool, tmp_path: Path) -> None:
    starts = [start + step * i for i in range(3000)][:: -1 if descending else 1]
    index = Index(Member(f"{i:04d}", at, at + size) for i, at in enumerate(starts))
    assert_read_alike(index, tmp_path, lookups=30)


@pytest.mark.parametrize("most", [255, 256, 65_535, 65_536, (1 << 32) - 1])
def test_all_facts(most: int, tmp_path: Path) -> None:
    read = assert_read_alike(Index(with_facts(200, most)), tmp_path, lookups=30)
    assert read.facts == list(FACTS)


@pytest.mark.parametrize("fact", FACTS)
def test_one_fact(fact: str, tmp_path: Path) -> None:
    facts = (getattr(member, fact) for member in with_facts(1500, 3000))
    index = Index(Member(f"{i}", 0, 0, **{fact: value}) for i, value in enumerate(facts))
    assert assert_read_alike(index, tmp_path, lookups=30).facts == [fact]


@pytest.mark.parametrize(
    "times",
    [
        [-(1 << 63), (1 << 63) - 1, 0, -1],
        [1_700_000_000] * 4,
        [-5, -3, -1, -2],
        [(1 << 63) - 1] * 2,
    ],
)
def test_mtimes_from_end_to_end_of_an_i64(times: list[int], tmp_path: Path) -> None:
    assert_read_alike(Index(Member("a", 0, 0, mtime=mtime) for mtime in times), tmp_path)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(members(), st.lists(st.binary(max_size=20), max_size=5))
def test_any_members(tmp_path: Path, members: list[Member], absent: list[bytes]) -> None:
    read = assert_read_alike(Index(members), tmp_path, absent=absent)
    before = (tmp_path / "x.idx").read_bytes()
    assert len(before) == read.region_bytes
    Index(members).save(tmp_path / "again.idx")
    assert (tmp_path / "again.idx").read_bytes() == before
    Index.load(tmp_path / "x.idx").save(tmp_path / "again.idx")
    assert (tmp_path / "again.idx").read_bytes() == before


def test_300000_members(tmp_path: Path) -> None:
    index = Index(numbered(300_000, ascending=False))
    assert_read_alike(index, tmp_path, lookups=40)
    before = (tmp_path / "x.idx").read_bytes()
    assert len(before) < 300_000 * (11 + 22)
    index.save(tmp_path / "x.idx")
    assert (tmp_path / "x.idx").read_bytes() == before


@pytest.mark.parametrize(("count", "pages"), [(510 * 1024, 1), (510 * 1024 + 1, 2)])
def test_directory_of_several_pages(count: int, pages: int, tmp_path: Path) -> None:
    rows = np.arange(count, dtype=np.int64)
    starts = rows * 1024 + 512
    names = b"".join(b"%07d" % row for row in range(count))
    columns = Columns(
        memoryview(names),
        (np.arange(count + 1, dtype=np.int64) * 7).data,
        starts.data,
        (starts + rows % 500).data,
    )
    read, loaded = saved(Index._from_columns(columns), tmp_path)
    assert -(-len(read.block_starts) // 511) == pages
    assert (read.row_count, len(loaded)) == (count, count)
    assert loaded._columns.offset_start == columns.offset_start
    assert loaded._columns.offset_end == columns.offset_end
    assert loaded._columns.packed_names() == names
    fresh = Index.load(tmp_path / "x.idx")
    for row in (0, 1023, 1024, 509 * 1024, 510 * 1024 - 1, count - 1):
        name = b"%07d" % row
        assert read.find_by_lookup(name) == read.find_by_guide(name) == row
        assert fresh.row_of(text(name)) == row
        member = read.block(row // BLOCK)[row % BLOCK]
        assert member[1:3] == (starts[row], starts[row] + row % 500) == fresh._bounds_of(text(name))
    assert read.find_by_lookup(b"9999999") is None is read.find_by_guide(b"9999999")


# Which archive it is of


@pytest.mark.parametrize("count", [1, 5, 17, 40, 3000])
def test_an_index_in_its_blob_or_beside_it(count: int, tmp_path: Path) -> None:
    payloads = [(f"{i:04d}.png", PNG + b"%d" % i * (i % 200)) for i in range(count)]
    embedded, blob, bare = (tmp_path / f"{place}.tar" for place in ("embed", "sidecar", "none"))
    blobpack.pack(payloads, embedded, index="embed")
    report = blobpack.pack(payloads, blob, index="sidecar")
    blobpack.pack(payloads, bare, index="none")
    archive = bare.read_bytes()
    assert blob.read_bytes() == archive

    within = PlainIndex(embedded.read_bytes())
    beside = PlainIndex(Path(f"{blob}.idx").read_bytes())
    assert within.region_start == within.archive_bytes + 512 == len(archive) + 512
    assert embedded.read_bytes()[: within.archive_bytes] == archive
    assert beside.region_start == 0
    for read, path in ((within, embedded), (beside, blob)):
        assert read.flags == 3
        assert read.blob_version == ""
        assert read.report[:2] == (len(archive) - 1024, 2)
        assert not any(read.report[2:])
        assert read.is_of(archive)
        for place in (0, len(archive) - 1):
            other = bytearray(archive)
            other[place] ^= 1
            assert not read.is_of(bytes(other))
        assert not read.is_of(archive + bytes(512))
        assert list(read.members()) == plain(report.index._columns)
        with blobpack.open_blob(path) as opened:
            assert plain(opened.index._columns) == list(read.members())
            for member, (name, payload) in zip(read.members(), payloads, strict=True):
                assert archive[member.offset_start : member.offset_end] == payload
                assert text(member.name) == name
            assert opened.read(payloads[-1][0]) == payloads[-1][1]


def test_an_index_of_no_archive(tmp_path: Path) -> None:
    read, _ = saved(Index(numbered(3)), tmp_path)
    assert read.flags == 0
    assert (read.archive_bytes, read.tail_crc, read.samples_crc) == (0, 0, 0)
    assert not any(read.report)
    assert not read.is_of(b"")


def test_the_report_of_a_scan(tmp_path: Path) -> None:
    report = blobpack.ScanReport(1 << 40, 2, 3, 4, 5, 6, 7, 8, (1 << 63) - 1, 10, 11, 12)
    read, loaded = saved(Index(numbered(3), report=report), tmp_path)
    assert read.report == (1 << 40, 2, 3, 4, 5, 6, 7, 8, (1 << 63) - 1, 10, 11, 12)
    assert read.flags == 1
    assert loaded.report == report


# The plain reader is a judge: it lets no damage pass


def test_every_section_is_under_a_checksum(tmp_path: Path) -> None:
    Index(numbered(3)).save(tmp_path / "x.idx")
    right = (tmp_path / "x.idx").read_bytes()
    read = PlainIndex(right)
    sections = [(0, 64), (64, read.block_starts[-1] - 64), (read.lookup, 4096 * read.lookup_pages)]
    sections += [(read.directory, 4096), (read.guide, read.guide_bytes), (len(right) - 512, 512)]
    for start, size in sections:
        for place in range(start, start + size, 1 if size < 1000 else 61):
            wrong = bytearray(right)
            wrong[place] ^= 0x40
            with pytest.raises(plain_reader.DamagedError):
                damaged = PlainIndex(bytes(wrong))
                list(damaged.members())
                damaged.find_by_lookup(b"0000001.jpg")
