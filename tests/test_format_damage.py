"""A damaged index gives the right answer or an error; one that was made to do harm gives any answer, and does none.

Ten thousand seeds of damage, over an index that is mapped, one read from afar, and one inside a blob.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import resource
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fuzz.index_files import RowReader
from plain_reader import PlainIndex

import blobpack
from blobpack import BlobChangedError, BlobpackError, FormatError, Index, Member
from blobpack.checksum import crc32c
from blobpack.columns import FACTS, Columns
from blobpack.indexfile.identity import IDENTITY_TAIL_BYTES
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.opening.find_index import find_index
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COUNT = 3000
FOOTER = 512
PAGE = 4096
MEMORY_MAX = 256 << 20  # beside what the process has
JPEG = b"\xff\xd8\xff\xe0"


def made(*, ascending: bool) -> Index:
    """Members of names of 1 to 30 bytes: ascending and with all facts, or neither."""
    numbers = list(range(COUNT))
    if not ascending:
        random.Random(1).shuffle(numbers)
    facts = [
        {"media_type": "image/png", "width": 1 + i, "height": 7, "crc32c": i << 20, "mtime": -i}
        if ascending
        else {}
        for i in range(COUNT)
    ]
    return Index(
        Member(f"{n:04d}{'x' * (n % 27)}", 4096 * i + 512, 4096 * i + 600 + n, **facts[i])
        for i, n in enumerate(numbers)
    )


class Sample:
    """An index as it should be, its bytes, and where its sections are in them."""

    def __init__(self, packed: bytes, index: Index) -> None:
        self.packed = packed
        self.columns = index._columns
        self.names = list(index.names)
        self.bounds = dict(
            zip(self.names, zip(*map(list, self._offsets()), strict=True), strict=True)
        )
        self.facts = [name for name, _ in self.columns.facts()]
        read = PlainIndex(packed)
        start = self.start = read.region_start
        # inside a blob, a tar header of 512 bytes stands before the region
        self.archive_bytes = end = max(0, start - 512)
        self.footer_at = len(packed) - FOOTER
        self.blocks = [start + position for position in read.block_starts]
        self.lookup = start + read.lookup
        self.pages = read.lookup_pages
        self.directory = start + read.directory
        self.guide, self.guide_bytes = start + read.guide, read.guide_bytes
        sections = [
            (start, 64),
            *((at, end - at) for at, end in zip(self.blocks, self.blocks[1:], strict=False)),
            (self.blocks[-1], self.lookup - self.blocks[-1]),
            *((self.lookup + i * PAGE, PAGE) for i in range(self.pages)),
            (self.directory, PAGE),
            (self.guide, self.guide_bytes),
            (self.guide + self.guide_bytes, self.footer_at - self.guide - self.guide_bytes),
            (self.footer_at, FOOTER),
            (end, start - end),
            (max(0, end - IDENTITY_TAIL_BYTES), min(end, IDENTITY_TAIL_BYTES)),
        ]
        self.sections = [(at, size) for at, size in sections if size]

    def _offsets(self) -> tuple[memoryview, memoryview]:
        return self.columns.offset_start, self.columns.offset_end

    def assert_right(self, index: Index, rng: random.Random) -> None:
        """Ask for a few names and rows, and at last for all."""
        for name in rng.sample(self.names, 4):
            assert index._bounds_of(name) == self.bounds[name]
        for name in (rng.choice(self.names) + "?", f"{rng.random()}", ""):
            assert name not in index
        for row in rng.sample(range(COUNT), 2):
            member = index._member_at(row)
            assert member.name == self.names[row]
            assert (member.offset_start, member.offset_end) == self.bounds[member.name]
        some = rng.sample(self.names, 5)
        assert [hit and hit[1:3] for hit in index._search(some)] == list(map(self.bounds.get, some))
        columns = index._columns
        assert columns.packed_names() == self.columns.packed_names()
        for column in ("name_bounds", "offset_start", "offset_end", *self.facts):
            if (found := getattr(columns, column)) is not None or column not in FACTS:
                assert bytes(found) == bytes(getattr(self.columns, column)), column


@pytest.fixture(scope="module", params=[True, False], ids=["ascending", "shuffled"])
def sample(request: pytest.FixtureRequest) -> Sample:
    index = made(ascending=request.param)
    file = io.BytesIO()
    file.write(index._write_sections(file, None).encode())
    return Sample(file.getvalue(), index)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A blob of its own index. No header is in the archive's last bytes, which are damaged, too."""
    path = tmp_path_factory.mktemp("embedded") / "e.tar"
    payloads = [(f"{i:04d}{'x' * (i % 27)}", JPEG + bytes([i % 256]) * 20) for i in range(COUNT)]
    payloads[-1] = (payloads[-1][0], JPEG + bytes(3 * 1024))
    index = blobpack.pack(payloads, path, index="embed").index
    return Sample(path.read_bytes(), index)


@pytest.fixture(params=["mapped", "afar"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes], Index]]:
    """Open an index file's bytes; no descriptor may be left open by what was refused."""

    def mapped(packed: bytes) -> Index:
        path = tmp_path / "i.idx"
        path.unlink(missing_ok=True)
        path.write_bytes(packed)
        return Index.load(path)

    def afar(packed: bytes) -> Index:
        store = MemoryStore(packed)
        footer = read_footer(store)
        if footer is None or footer.region_bytes != store.size:
            raise FormatError("no index")
        return Index._from_stored(RemoteIndex(store, 0, footer))

    before = len(os.listdir("/proc/self/fd"))
    yield {"mapped": mapped, "afar": afar}[request.param]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# Damage by chance: the checksums tell


def damaged(sample: Sample, rng: random.Random) -> bytes:
    """Damage one to three places of any sections, or the size."""
    packed = bytearray(sample.packed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((flip, flip, overwrite, overwrite, swap, exchange, resize))(packed, sample, rng)
    return bytes(packed)


def place_in(packed: bytearray, sample: Sample, rng: random.Random) -> int:
    at, size = rng.choice(sample.sections)
    return min(rng.randrange(at, at + size), len(packed) - 1)


def flip(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    packed[place_in(packed, sample, rng)] ^= 1 << rng.randrange(8)


def overwrite(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    at = place_in(packed, sample, rng)
    size = min(rng.choice((1, 4, 8, 64, 512, 5000)), len(packed) - at)
    packed[at : at + size] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))


def swap(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8, 64))
    one, other = place_in(packed, sample, rng), place_in(packed, sample, rng)
    if abs(one - other) >= size and max(one, other) + size <= len(packed):
        packed[one : one + size], packed[other : other + size] = (
            packed[other : other + size],
            packed[one : one + size],
        )


def exchange(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    """Put a section whole over another one: its checksum stays right."""
    (at, size), (other, other_size) = rng.choice(sample.sections), rng.choice(sample.sections)
    size = min(size, other_size)
    if max(at, other) + size <= len(packed):
        kept = packed[at : at + size]
        packed[at : at + size] = packed[other : other + size]
        packed[other : other + size] = kept


def resize(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    """Cut the index, or let it grow, at its end or before its footer."""
    if rng.random() < 0.5:
        del packed[rng.randrange(sample.start, len(packed)) :]
        packed += sample.packed[-FOOTER:] if rng.random() < 0.3 else b""
    else:
        grown = rng.choice((bytes, rng.randbytes))(rng.choice((1, 8, 512, 4096)))
        at = rng.choice((len(packed), max(sample.start, len(packed) - FOOTER)))
        packed[at:at] = grown


@pytest.mark.parametrize("first", [0, 1000])
def test_damage_is_an_error_or_without_effect(
    sample: Sample, opened: Callable[[bytes], Index], first: int
) -> None:
    """8,000 seeds: 1,000 each of two indexes, opened in two ways."""
    refused = 0
    for seed in range(first, first + 1000):
        rng = random.Random(seed)
        packed = damaged(sample, rng)
        try:
            sample.assert_right(opened(packed), rng)
        except FormatError:
            refused += 1
        except Exception as exc:
            raise AssertionError(f"seed {seed}") from exc
    assert 500 < refused < 1000


@pytest.mark.parametrize("local", [True, False], ids=["mapped", "afar"])
def test_damage_of_an_index_in_a_blob(embedded: Sample, local: bool, tmp_path: Path) -> None:
    """2,000 seeds. An index whose end is gone is none, and the archive is scanned: that is right, too."""
    refused = scanned = 0
    for seed in range(1000):
        rng = random.Random(seed)
        packed = damaged(embedded, rng)
        path = tmp_path / f"{seed}.tar"
        if local:
            path.write_bytes(packed)
        try:
            with LocalStore(path) if local else MemoryStore(packed) as store:
                index = find_index(store, None, "refuse")
                embedded.assert_right(index, rng)
                scanned += index.report.bytes_scanned != embedded.archive_bytes - 1024
        except (FormatError, BlobChangedError):
            refused += 1
        except Exception as exc:
            raise AssertionError(f"seed {seed}") from exc
        path.unlink(missing_ok=True)
    assert refused > 500


# Made to do harm: every checksum is right


def number(rng: random.Random, usual: int) -> int:
    """A u64 from where counts and positions go wrong."""
    return rng.choice(
        (
            0,
            1,
            usual + rng.choice((-4096, -512, -64, -8, -1, 1, 8, 64, 512, 1024, 4096)),
            usual * 2,
            rng.randrange(1 << 17),
            (1 << rng.randrange(65)) - rng.randrange(2),
            (1 << 64) - rng.randrange(1, 5000),
        )
    ) % (1 << 64)


def change(packed: bytearray, kind: str, at: int, rng: random.Random) -> None:
    usual = struct.unpack_from(kind, packed, at)[0]
    top = 1 << 8 * struct.calcsize(kind)
    struct.pack_into(kind, packed, at, number(rng, usual) % top)


def hostile_footer(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    kind, place = rng.choice((*(("<Q", at) for at in range(32, 112, 8)), ("<I", 112), ("<I", 116)))
    change(packed, kind, sample.footer_at + place, rng)


def hostile_directory(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    at = sample.directory + 8
    places = range(len(sample.blocks) + rng.randrange(2))
    if rng.random() < 0.4:
        one, other = (at + 8 * rng.choice(places) for _ in range(2))
        packed[one : one + 8] = packed[other : other + 8]
    else:
        change(packed, "<Q", at + 8 * rng.choice(places), rng)


def hostile_block(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    start, end = rng.choice(list(zip(sample.blocks, sample.blocks[1:], strict=False)))
    kind, place = rng.choice(
        (
            *(("<I", 4), ("<Q", 8), ("<Q", 16), ("<Q", 24), ("<I", 32), ("<I", 36)),
            *(("<B", 40 + i) for i in range(8)),
        )
    )
    if rng.random() < 0.3:
        at = rng.randrange(start + 48, end)
        packed[at : min(at + 64, end)] = rng.choice((b"\xff", b"\0")) * min(64, end - at)
    elif kind == "<B":
        packed[start + place] = rng.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 255))
    else:
        change(packed, kind, start + place, rng)


def hostile_lookup(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    page = sample.lookup + PAGE * rng.randrange(sample.pages)
    last = rng.choice((COUNT - 1, COUNT, 1023, 1024, 3071, 3072, (1 << 32) - 2, (1 << 32) - 1))
    for at in range(page + 64, page + PAGE, 8):  # no free slot, rows of other names
        if rng.random() < 0.9:
            struct.pack_into("<I", packed, at + 4, rng.choice((last, rng.randrange(COUNT))))


def hostile_guide(packed: bytearray, sample: Sample, rng: random.Random) -> None:
    if sample.guide_bytes:
        at = sample.guide + 4 + 4 * rng.randrange(len(sample.blocks) - 1)
        change(packed, "<I", at, rng)


def sealed(packed: bytearray, sample: Sample) -> bytes:
    """Make all checksums right."""
    spans = [
        *zip(sample.blocks, sample.blocks[1:], strict=False),
        *((sample.lookup + i * PAGE, sample.lookup + (i + 1) * PAGE) for i in range(sample.pages)),
        (sample.directory, sample.directory + PAGE),
        (sample.guide, sample.guide + sample.guide_bytes),
        (sample.footer_at, sample.footer_at + FOOTER),
    ]
    for start, end in spans:
        if end > start:
            struct.pack_into("<I", packed, start, crc32c(bytes(packed[start + 4 : end])))
    return bytes(packed)


def hostile(sample: Sample, rng: random.Random) -> bytes:
    packed = bytearray(sample.packed)
    ways = (hostile_footer, hostile_directory, hostile_block, hostile_lookup, hostile_guide)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(ways)(packed, sample, rng)
    return sealed(packed, sample)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """What asks for much more memory than there is reason for is a MemoryError."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_MAX, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def an_error_names_its_place(sample: Sample, *, strict: bool = False) -> Iterator[None]:
    """Any error of ours will do, if it names no place outside of the file; strict: raise it again."""
    try:
        yield
    except FormatError as exc:
        assert exc.offset is None or 0 <= exc.offset <= len(sample.packed), exc
        assert "byte -" not in str(exc)
        if strict:
            raise
    except BlobpackError:
        pass


def ask_everything(index: Index, sample: Sample, rng: random.Random) -> None:
    """Any answer will do, and any error of ours; each question is asked whatever the others gave."""
    questions: list[Callable[[], object]] = [
        *(lambda name=name: index._bounds_of(name) for name in rng.sample(sample.names, 4)),
        lambda: "absent" in index,
        lambda: "" in index,
        lambda: index._search(rng.sample(sample.names, 5)),
        lambda: index.row_of(rng.choice(sample.names)),
        lambda: index._member_at(rng.randrange(len(index))) if len(index) else None,
        lambda: sum(map(len, index._parts())),
        lambda: list(index)[-1:],
        lambda: index._columns,
    ]
    for question in questions:
        with an_error_names_its_place(sample):
            question()
    with an_error_names_its_place(sample):  # a Blob looks at last_end, and at nothing else
        assert max(index.offset_end, default=0) <= index._last_end
    for name in rng.sample(sample.names, 4):
        with an_error_names_its_place(sample):
            start, end = index._bounds_of(name)
            assert 0 <= start <= end <= index._last_end


def test_an_index_made_to_do_harm_does_none(
    sample: Sample, opened: Callable[[bytes], Index]
) -> None:
    """4,000 seeds; of every fourth one that is read, the rows are those that the plain reader finds."""
    answered = compared = 0
    with little_memory():
        for seed in range(1000):
            rng = random.Random(seed)
            packed = hostile(sample, rng)
            try:
                index = opened(packed)
                ask_everything(index, sample, rng)
                answered += 1
                compared += (
                    has_the_plain_readers_rows(opened(packed), packed) if seed % 4 == 0 else 0
                )
            except FormatError:
                pass
            except Exception as exc:
                raise AssertionError(f"seed {seed}") from exc
    assert answered > 300
    assert compared > 20


def has_the_plain_readers_rows(index: Index, packed: bytes) -> bool:
    """Compare all rows of an index with those of the plain reader; False if they are refused."""
    try:
        columns = index._columns
    except FormatError:
        return False
    expected = list(RowReader(packed).members())
    assert columns.packed_names() == b"".join(member.name for member in expected)
    assert columns.offset_start.tolist() == [member.offset_start for member in expected]
    assert columns.offset_end.tolist() == [member.offset_end for member in expected]
    for fact, column in columns.facts():
        assert column.tolist() == [member.facts[fact] for member in expected]
    return True


@pytest.mark.parametrize("position", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 62, 1 << 40])
def test_a_block_that_is_nowhere_is_an_error_at_the_directory(
    sample: Sample, opened: Callable[[bytes], Index], position: int
) -> None:
    packed = bytearray(sample.packed)
    for block in range(len(sample.blocks) - 1):
        struct.pack_into("<Q", packed, sample.directory + 8 + 8 * block, position)
    index = opened(sealed(packed, sample))
    for ask in (
        lambda: index._bounds_of(sample.names[7]),
        lambda: index._search(sample.names[:40]),
        lambda: index._member_at(2000),
    ):
        with (
            pytest.raises(FormatError, match="the index is damaged"),
            an_error_names_its_place(sample, strict=True),
        ):
            ask()


def test_members_that_take_no_bytes_are_read_in_bounded_parts() -> None:
    """A thousand of them are a block of 56 bytes: what is fetched at once must not count by bytes alone."""
    count = 1200 * 1024
    zeros = np.zeros(count + 1, np.int64).data
    index = Index._from_columns(Columns(memoryview(b""), zeros, zeros[1:], zeros[1:]))
    file = io.BytesIO()
    file.write(index._write_sections(file, None).encode())
    store = MemoryStore(file.getvalue())
    footer = read_footer(store)
    assert footer is not None
    parts = list(map(len, RemoteIndex(store, 0, footer).parts()))
    assert sum(parts) == count
    assert max(parts) <= 512 * 1024
