"""The quick pass of verify: it reads a sound blob once, and never calls a blob sound that the thorough check does not."""

from __future__ import annotations

import random
import subprocess
import sys
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from random_blob import pack_random
from tars import BLOCK, DIALECTS, Tar, header, pax

import blobpack
from blobpack._native import matching
from blobpack.reading.verify import verify
from blobpack.reading.verify_blob import verify_blob
from blobpack.stores.arguments import location_of
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_tar
from blobpack.tar.check import is_sound

if TYPE_CHECKING:
    from pathlib import Path

    from blobpack.columns import Columns
    from blobpack.index.index import Index

RUN_BYTES = 1 << 19  # of row_match.pxd


def sound(path: Path, columns: Columns, threads: int | None = None) -> bool:
    with open_tar(location_of("blob", path)) as store:
        return is_sound(store, columns, threads, None)


def scanned(path: Path) -> Columns:
    return blobpack.scan(path, facts=True)._columns


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Index]:
    """A blob of several runs: small members, some larger than a run, long names, empty payloads, and an index inside."""
    rng = random.Random(5)
    sizes = [rng.choice((0, 1, 511, 512, 3000, 9000)) for _ in range(400)]
    sizes[150:153] = [RUN_BYTES - BLOCK, 3 * RUN_BYTES + 5, RUN_BYTES + 1]
    folders = ["d" * (i % 150 + 1) for i in range(len(sizes))]
    return pack_random(tmp_path_factory.mktemp("packed"), rng, folders, sizes)


@pytest.fixture
def blob(packed: tuple[bytes, Index], tmp_path: Path) -> Path:
    path = tmp_path / "out.tar"
    path.write_bytes(packed[0])
    return path


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_sound_blob_is_sound(blob: Path, packed: tuple[bytes, Index], threads: int) -> None:
    assert sound(blob, packed[1]._columns, threads)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gets_the_same_answer_from_both(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    tar = DIALECTS[name]()
    path.write_bytes(bytes(tar.blob))
    index = blobpack.scan(path, facts=True, concatenated=tar.concatenated)
    report = verify(path, index=index)
    assert report.ok
    assert report.payload_bytes == index.payload_bytes
    # these are left to the thorough check: hard links, global headers, and members behind an end of the archive
    is_global = any(tar.blob[start + 156] == ord("g") for start in tar.headers)
    if not (tar.counts["hard_links"] or is_global or tar.concatenated):
        assert sound(path, index._columns)


@pytest.mark.parametrize("seed", range(80))
def test_damage_gets_the_same_report_as_from_memory(
    blob: Path, packed: tuple[bytes, Index], seed: int
) -> None:
    """A blob in memory is always checked thoroughly."""
    whole, index = packed
    rng = random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(rng.randrange(1, 4)):
        place = rng.choice(
            (rng.randrange(len(whole)), index[rng.randrange(400)].offset_start - 300)
        )
        length = rng.choice((1, 4, 700, 3000))
        damaged[place : place + length] = rng.choice(
            (bytes(length), rng.randbytes(length), whole[:length])
        )[: len(damaged) - place]
    if seed % 8 == 0:
        del damaged[rng.randrange(len(damaged)) :]
    blob.write_bytes(damaged)
    store = MemoryStore(bytes(damaged))
    thorough = verify_blob(store, index, full=True, threads=None, progress=None)
    report = verify(blob, index=index)
    assert [str(failure) for failure in report.failures] == [
        str(failure) for failure in thorough.failures
    ]
    assert report.payload_bytes == thorough.payload_bytes
    if thorough.failures:
        assert not sound(blob, index._columns)


def test_each_byte_is_read_once(blob: Path) -> None:
    """By the system's own count of the bytes that a process has read."""
    code = (
        "import blobpack\n"
        "from pathlib import Path\n"
        "def bytes_read():\n"
        "    return int(Path('/proc/self/io').read_text().split()[1])\n"
        f"with blobpack.open_blob({str(blob)!r}) as blob:\n"
        "    blobpack.verify(blob, full=False)\n"
        "    before = bytes_read()\n"
        "    assert blobpack.verify(blob).checksums\n"
        "    print(bytes_read() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.1 * blob.stat().st_size


def test_progress_never_goes_back(blob: Path, packed: tuple[bytes, Index]) -> None:
    """The second pass over a damaged blob begins again."""
    whole, index = packed
    overwritten = bytearray(whole)
    overwritten[index[399].offset_start - BLOCK] ^= 1
    blob.write_bytes(overwritten)
    calls: list[blobpack.Progress] = []
    assert not verify(blob, index=index, progress=calls.append).ok
    assert [call.done for call in calls] == sorted(call.done for call in calls)
    assert calls[-1].done == 400


class TestDiffers:
    """Whatever the index says otherwise is noticed, if the blob itself is well-formed."""

    def files(self) -> Tar:
        return Tar().file("a.jpg", b"a" * 700).file("b.jpg", b"b" * 700)

    def write(self, tmp_path: Path, tar: Tar) -> Path:
        path = tmp_path / "t.tar"
        path.write_bytes(bytes(tar.blob))
        return path

    def test_members_behind_the_last_row(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.files().end())
        columns = scanned(path)
        assert sound(path, columns)
        assert not sound(path, columns.slice(0, 1))
        assert not sound(path, columns.slice(1, 2))
        assert not sound(path, columns.slice(0, 0))

    def test_a_folder_behind_the_last_row_is_no_member(self, tmp_path: Path) -> None:
        folder = header(b"d/", typeflag=b"5")
        path = self.write(tmp_path, self.files().other("folders", folder).end())
        assert sound(path, scanned(path))

    def test_a_damaged_header_behind_the_last_row(self, tmp_path: Path) -> None:
        folder = bytearray(header(b"d/", typeflag=b"5"))
        path = self.write(tmp_path, self.files().other("folders", bytes(folder)).end())
        columns = scanned(path)
        with path.open("r+b") as file:
            file.seek(4 * BLOCK + 2 * BLOCK)
            file.write(b"x")
        assert not sound(path, columns)

    def test_members_behind_the_end(self, tmp_path: Path) -> None:
        tar = self.files().end()
        path = self.write(tmp_path, tar)
        columns = scanned(path)
        path.write_bytes(bytes(tar.blob) + bytes(3 * BLOCK) + bytes(Tar().file("c", b"c").blob))
        assert not sound(path, columns)

    def test_a_large_folder_payload_before_a_row(self, tmp_path: Path) -> None:
        """What has no row may be larger than the window."""
        unknown = header(b"unknown", 3 * RUN_BYTES, b"Z")
        tar = self.files().other("other", unknown, payload=bytes(3 * RUN_BYTES))
        path = self.write(tmp_path, tar.file("c.jpg", b"c").end())
        assert sound(path, scanned(path))

    def test_headers_longer_than_the_window(self, tmp_path: Path) -> None:
        """They are left to the thorough check."""
        comment = pax({"comment": "c" * 2 * RUN_BYTES})
        path = self.write(tmp_path, self.files().file("c.jpg", b"c", comment).end())
        columns = scanned(path)
        assert not sound(path, columns)
        assert verify(path, index=blobpack.scan(path, facts=True)).ok

    @pytest.mark.parametrize("column", ["offset_start", "offset_end", "name_bounds"])
    @pytest.mark.parametrize("value", [-(1 << 63), -1, 0, 513, 1 << 40, (1 << 63) - 1])
    @pytest.mark.parametrize("row", [0, 1])
    def test_any_number_in_the_index(
        self, tmp_path: Path, column: str, value: int, row: int
    ) -> None:
        path = self.write(tmp_path, self.files().end())
        columns = scanned(path)
        numbers = array("q", getattr(columns, column))
        is_equal = numbers[row] == value
        numbers[row] = value
        changed = replace(columns, **{column: memoryview(numbers)})
        assert sound(path, changed) == is_equal


def test_columns_of_different_lengths_are_refused() -> None:
    none, one = memoryview(array("q")), memoryview(array("q", [0]))
    two = memoryview(array("q", [0, 0]))
    checksums = memoryview(array("I"))
    # in the order of the arguments: bounds of names, starts, ends
    for columns in ((one, one, none), (one, none, one), (none, none, none), (two, one, one)):
        with pytest.raises(ValueError, match=r"starts, "):
            matching.find_end_if_equal(0, 1, b"", *columns, checksums, threads=1)
    for columns in ((one, one, none), (one, none, one), (none, none, none)):
        with pytest.raises(ValueError, match=r"starts, .* ends, .* bounds of names"):
            matching.copy_if_equal(0, 1, 0, b"", *columns, 0, 0, threads=1)
