"""Commands that pass over all members of a large index take little memory.

With 2.3 million members, they take less than the index file has bytes. For commands that also copy payloads, the bounds from
which members stay in files are lowered, so that fewer members are enough.
"""

import shutil
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
    print((status("VmHWM") - before) / 1024, file=sys.stderr)
"""
# Bounds that make small blobs large ones: rows and names stay in files, and pages of mapped files are given back.
LOWERED = """
from functools import partial
from blobpack._native.name_hashes import NameHashes
from blobpack.editing import blob_state, copy_members, source_blobs
from blobpack.index import index, name_tables, repeated_names, rows
from blobpack.index.stored import picked
from blobpack.index.tables import offsets_table
from blobpack.indexfile import encoder, mapped
from blobpack.opening import collection

few = 1 << 14
for module in (
    blob_state, collection, copy_members, index, offsets_table, picked, repeated_names, rows, source_blobs
):
    assert module.ROWS_IN_MEMORY_MAX > few
    module.ROWS_IN_MEMORY_MAX = few
for module in (encoder, repeated_names):
    module.NameHashes = partial(NameHashes, in_memory=few)
name_tables.NAMES_MAX = few
mapped.KEPT_PAGES_BYTES_MAX = 0
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
    return float(done.stderr.split()[-1]), done.stdout


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


def write_tar(path, count, first):
    """Write a tar of empty members, and its index beside it; the names are numbers of seven digits."""
    block = header(b"0000000", 0)
    digits = np.arange(first, first + count)[:, None] // 10 ** np.arange(6, -1, -1) % 10
    # the sum of a header's bytes, octal
    sums = int(block[148:154], 8) + digits.sum(axis=1)
    blocks = np.tile(np.frombuffer(block, np.uint8), (count, 1))
    blocks[:, :7] = digits + ord("0")
    blocks[:, 148:154] = sums[:, None] // 8 ** np.arange(5, -1, -1) % 8 + ord("0")
    with path.open("wb") as file:
        file.write(blocks.data)
        file.write(END)
    write_index(path, blocks[:, :7])


COPIED = 700_000  # in one go, they take 115 MiB


@needs_peak
def test_a_subset_of_all_members_is_copied_in_bounded_memory(tmp_path):
    tar, copy = tmp_path / "many.tar", tmp_path / "all.tar"
    write_tar(tar, COPIED, 0)
    taken_mb, _ = run(["subset", tar, copy, "--index", "none"])
    assert taken_mb < 90
    assert copy.read_bytes() == tar.read_bytes()


MANY = 340_000
# Prints own pages of the process; those of mapped files do not count, because the system can free them.
SAMPLED = """
import threading, time

def sample():
    global own
    while True:
        own = max(own, status("RssAnon"))
        time.sleep(0.001)

# samples may miss the peak: a test can pass by mistake, but not fail by mistake
own = 0
before = status("RssAnon")
threading.Thread(target=sample, daemon=True).start()
try:
    main(sys.argv[1:])
finally:
    print((own - before) / 1024, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two blobs, their collection, and a list of the names in the first one."""
    folder = tmp_path_factory.mktemp("many")
    write_tar(folder / "a.tar", MANY, 0)
    write_tar(folder / "b.tar", MANY // 2, MANY)
    (folder / "names.txt").write_text("".join(f"{number:07}\n" for number in range(MANY)))
    blobpack.collect(folder)
    return folder


@needs_peak
@pytest.mark.parametrize(
    ("limit_mb", "command"),
    # With all members in memory, they took 41, 29, 28, 47, 43, 46, 103, 92, 65 and 44 MiB; now 22, 17, 13, 28, 26, 36, 45,
    # 38, 29 and 27.
    [
        (31, "ls . --csv --exclude *7"),
        (23, "offsets a.tar -o OUT/out.pkl --filter *"),
        (20, "offsets a.tar -o OUT/out.pkl --names basename"),
        (38, "offsets . -o OUT/ --exclude *7"),
        (35, "subset a.tar OUT/out.tar --filter *"),
        (42, "subset a.tar OUT/out.tar --names-from names.txt"),
        (70, "subset . OUT/out.tar --exclude *7"),
        (60, "merge a.tar b.tar OUT/out.tar"),
        (45, "merge a.tar a.tar OUT/out.tar --duplicates last"),
        (36, "append OUT/a.tar OUT/new.png --all"),
    ],
)
def test_many_members_stay_in_files_in_bounded_memory(
    folder, tmp_path, monkeypatch, limit_mb, command
):
    if command.startswith("append"):
        (tmp_path / "new.png").write_bytes(b"new")
        for name in ("a.tar", "a.tar.idx"):
            shutil.copy(folder / name, tmp_path / name)
    monkeypatch.chdir(folder)
    code = CHILD[: CHILD.index("before =")] + LOWERED + SAMPLED
    monkeypatch.setitem(globals(), "CHILD", code)
    taken_mb, _ = run([word.replace("OUT", str(tmp_path)) for word in command.split()])
    assert taken_mb < limit_mb
