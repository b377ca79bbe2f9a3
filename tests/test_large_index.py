"""Commands that pass over all members of a large index take little memory: less than the index file has bytes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tars import BLOCK, END, header

import blobpack
from blobpack.columns import Columns
from blobpack.index.index import Index
from blobpack.stores.local import LocalStore
from blobpack.writing.embed import write_beside

# the index file has 78 MB, and columns of all members would take 100
MEMBERS = 2_300_000
PREFIX = b"images/large/"
CHILD = """
import re, sys
from pathlib import Path
from blobpack.cli.main import main

def status(name):
    return int(re.search(name + ":(.*)kB", Path("/proc/self/status").read_text())[1])

before = status("VmHWM")
try:
    main(sys.argv[1:])
finally:
    print((status("VmHWM") - before) // 1024, file=sys.stderr)
"""


def write_index(path, names):
    """Write the index of a tar of empty members; names are (n, length) uint8."""
    starts = np.arange(1, len(names) + 1) * BLOCK
    bounds = np.arange(len(names) + 1) * names.shape[1]
    columns = Columns(
        memoryview(names.tobytes()), *(column.data for column in (bounds, starts, starts))
    )
    with LocalStore(str(path)) as store:
        write_beside(store, Index._from_columns(columns), f"{path}.idx")


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    """A tar of very many members: an index, and a file with holes that has the headers of three members."""
    folder = tmp_path_factory.mktemp("large")
    numbers = np.arange(MEMBERS)
    names = np.empty((MEMBERS, 20), np.uint8)
    names[:, :13] = np.frombuffer(PREFIX, np.uint8)
    names[:, 13:] = numbers[:, None] // 10 ** np.arange(6, -1, -1) % 10 + ord("0")
    path = folder / "many.tar"
    with path.open("wb") as file:
        for row in (0, 1_234_567, MEMBERS - 1):
            file.seek(row * BLOCK)
            file.write(header(PREFIX + b"%07d" % row, 0))
        file.write(END)
    write_index(path, names)
    assert Path(f"{path}.idx").stat().st_size > 64 << 20
    return path


def run(words):
    """Run a command; return the memory that it took, in MiB, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)], capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1]), done.stdout


needs_peak = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM"
)


@needs_peak
@pytest.mark.parametrize(
    "command",
    [
        ["info", "BLOB"],
        ["offsets", "BLOB", "-o", "FOLDER/many.pkl"],
        ["offsets", "BLOB", "-o", "FOLDER/few.csv", "--filter", "*/1*4567"],
        ["subset", "BLOB", "FOLDER/few.tar", "--filter", "*/1234567"],
    ],
    ids=" ".join,
)
def test_a_large_index_is_read_in_bounded_memory(blob, tmp_path, command):
    words = [word.replace("FOLDER", str(tmp_path)).replace("BLOB", str(blob)) for word in command]
    taken_mb, shown = run(words)
    assert taken_mb < 60
    if command[0] == "info":
        assert f"{MEMBERS:,}" in shown
    if command[0] == "subset":
        assert blobpack.scan(tmp_path / "few.tar").names[:] == ["images/large/1234567"]


COPIED = 700_000  # in one go, they take 115 MiB


@needs_peak
def test_a_subset_of_all_members_is_copied_in_bounded_memory(tmp_path):
    tar, copy = tmp_path / "many.tar", tmp_path / "all.tar"
    first = header(b"0000000", 0)
    digits = np.arange(COPIED)[:, None] // 10 ** np.arange(6, -1, -1) % 10
    # the sum of a header's bytes, octal
    sums = int(first[148:154], 8) + digits.sum(axis=1)
    blocks = np.tile(np.frombuffer(first, np.uint8), (COPIED, 1))
    blocks[:, :7] = digits + ord("0")
    blocks[:, 148:154] = sums[:, None] // 8 ** np.arange(5, -1, -1) % 8 + ord("0")
    with tar.open("wb") as file:
        file.write(blocks.data)
        file.write(END)
    write_index(tar, blocks[:, :7])
    taken_mb, _ = run(["subset", tar, copy, "--index", "none"])
    assert taken_mb < 90
    assert copy.read_bytes() == tar.read_bytes()
