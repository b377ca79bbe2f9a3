"""An index can't claim more rows than its sections hold: the memory of a reader is bounded by the size of the file."""

import struct
import subprocess
import sys

import pytest

import blobpack
from blobpack.checksum import crc32c
from blobpack.indexfile.footer import BLOCK_ROWS, INDEX_MAGIC, REGION_HEADER, VERSION, Footer

POSITIONS = 511  # of a page of the directory


def nameless_index(rows, *, padding=0):
    """Make an index of blocks whose columns have no bytes: 48 bytes for 1,024 rows."""
    region = bytearray(REGION_HEADER.pack(INDEX_MAGIC, VERSION))
    positions = []
    for first in range(0, rows, BLOCK_ROWS):
        positions.append(len(region))
        block = struct.pack("<IQQqII8x", min(BLOCK_ROWS, rows - first), first, 0, 0, 0, 1)
        region += struct.pack("<I", crc32c(block)) + block
    positions.append(len(region))
    directory = len(region)
    for number, first in enumerate(range(0, len(positions), POSITIONS)):
        page = positions[first : first + POSITIONS]
        page = struct.pack(
            f"<I{POSITIONS}Q", (1 << 31) + number, *page, *[0] * (POSITIONS - len(page))
        )
        region += struct.pack("<I", crc32c(page)) + page
    region += bytes(padding)
    footer = Footer(
        region_bytes=len(region) + 512,
        identity=None,
        row_count=rows,
        payload_bytes=0,
        last_end=0,
        block_count=len(positions) - 1,
        directory=directory,
        lookup=directory,
        lookup_pages=0,
        lookup_seed=0,
        guide=directory,
        guide_bytes=0,
        facts=frozenset(),
        report=None,
    )
    return bytes(region) + footer.encode()


def test_one_nameless_row_is_read(tmp_path):
    (tmp_path / "a.idx").write_bytes(nameless_index(1))
    assert list(blobpack.Index.load(tmp_path / "a.idx")) == [blobpack.Member("", 0, 0)]


@pytest.mark.parametrize("rows", [2, 1024, 1025, 5000])
@pytest.mark.parametrize("padding", [0, 1 << 20])
def test_rows_without_bytes_are_refused(rows, padding, tmp_path):
    (tmp_path / "a.idx").write_bytes(nameless_index(rows, padding=padding))
    with pytest.raises(blobpack.FormatError, match="damaged"):
        len(list(blobpack.Index.load(tmp_path / "a.idx")))


@pytest.mark.parametrize("padding", [0, 21 << 20])
@pytest.mark.parametrize("command", ["cat", "ls"])
def test_a_small_index_of_many_rows_takes_little_memory(command, padding, tmp_path):
    """1.1 MB that claim 20 million rows took 1.9 GB."""
    blobpack.pack([("a", b"1")], tmp_path / "a.tar", all_files=True, index="none")
    index = nameless_index(20_000_000, padding=padding)
    assert len(index) < (2 << 20) + padding
    (tmp_path / "a.tar.idx").write_bytes(index)
    script = """
import resource, sys
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import numpy, blobpack.cli.main
before = peak()
try:
    blobpack.cli.main.main(sys.argv[1:], standalone_mode=False)
except (SystemExit, Exception) as exc:
    print(exc, file=sys.stderr)
print(peak() - before)
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            command,
            tmp_path / "a.tar",
            *(["b"] if command == "cat" else []),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "damaged" in done.stderr
    assert int(done.stdout.split()[-1]) < 64 << 10


@pytest.mark.parametrize("count", [1, 2, 1024, 1025, 3000])
def test_equal_rows_without_names_are_written_and_read(count, tmp_path):
    index = blobpack.Index([blobpack.Member("", 512, 512)] * count)
    index.save(tmp_path / "a.idx")
    assert blobpack.Index.load(tmp_path / "a.idx") == index


def test_names_too_long_for_a_block_are_refused(tmp_path):
    """As many long names as one global header can give: they are never all in memory."""
    index = blobpack.Index([blobpack.Member("n" * (1 << 20), 512, 512)] * 65)
    with pytest.raises(blobpack.FormatError, match="the names of 1024 members in a row"):
        index.save(tmp_path / "a.idx")
    assert list(tmp_path.iterdir()) == []
    index[0:64].save(tmp_path / "a.idx")
    assert len(blobpack.Index.load(tmp_path / "a.idx")) == 64
