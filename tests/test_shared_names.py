"""Long names of pax global headers, which many members have, and other names that are large for their tar."""

import pickle
import random
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st
from tars import BLOCK, END, Tar, header, pax, rows_of

import blobpack
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store

MIB = 1 << 20
LONG = "g" * 5000
OTHER = "h" * 4097


def grown_kib(path, code):
    """Run code with `index`, a scan of a tar, in a process of its own; return by how much its memory has grown."""
    script = f"""
import resource, sys
import numpy, blobpack
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    index = blobpack.scan(sys.argv[1])
    {code}
except blobpack.FormatError as exc:
    print(exc, file=sys.stderr)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    return int(done.stdout), done.stderr


NAME = "n" * MIB
FIRST = Tar().file(NAME, b"x", pax({"path": NAME})).blob
FILES = header(b"x", 1) + b"x".ljust(BLOCK, b"\0")
LINKS = header(b"x", typeflag=b"1", link=b"y")
# a tar of 2 MB; the number of its rows, and those of them that have the name of 1 MiB
NAMED = {
    "path": (pax({"path": NAME}, b"g") + FILES * 1000, 1000, 1000),
    "linkpath": (FIRST + pax({"linkpath": NAME}, b"g") + LINKS * 2000, 2001, 1),
    "both": (FIRST + pax({"path": NAME, "linkpath": NAME}, b"g") + LINKS * 2000, 2001, 2001),
}


@pytest.mark.parametrize("key", NAMED)
def test_a_global_name_is_in_memory_once_not_for_each_row(key, tmp_path):
    """A copy for each row would take 1 to 2 GB."""
    blob, rows, named = NAMED[key]
    path = tmp_path / "a.tar"
    path.write_bytes(blob + END)
    code = f"""
    name = "n" * {MIB}
    assert len(index) == {rows}
    assert index.row_of(name) == {named - 1}
    assert ("x" in index) == ({named} < {rows})
    assert sum(len(member.name) for member in index) == {named * MIB + rows - named}
    """.strip()
    grown, _ = grown_kib(path, code)
    # the window, the name in a few forms, and the names of a part of the rows
    assert grown < 40 << 10


@pytest.mark.parametrize("command", ["info", "ls"])
def test_commands_print_such_a_tar_in_little_memory(command, tmp_path):
    (tmp_path / "a.tar").write_bytes(NAMED["path"][0] + END)
    script = """
import resource, sys
import numpy, blobpack.cli.main
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    blobpack.cli.main.main(sys.argv[1:], standalone_mode=False)
finally:
    print(peak() - before, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, command, tmp_path / "a.tar"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert int(done.stderr.split()[-1]) < 64 << 10


@pytest.mark.parametrize("headers", [1, 2, 8])
def test_the_memory_for_extended_headers_is_bounded(headers, tmp_path):
    """Headers of 60 MiB each before one member: more than 64 MiB in all is refused, however many there are."""
    head = b"%d comment=" % (60 * MIB)
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for _ in range(headers):
            file.write(header(b"x", 60 * MIB, b"x") + head)
            file.seek(60 * MIB - len(head) - 1, 1)  # a hole
            file.write(b"\n")
        file.write(Tar().file("a", b"x").end().blob)
    grown, error = grown_kib(path, "assert list(index.names) == ['a']")
    assert ("extended headers of over 67108864 bytes, at byte" in error) == (headers > 1)
    # one window, which is read with as much again behind it
    assert grown < 160 << 10


PARTS = st.lists(
    st.sampled_from(
        ["global", "other", "short", "none", "file", "own", "link", "to_own", "links", "folder"]
    ),
    max_size=25,
)


def build(parts):
    """Make a tar whose global names change; return it, and the rows that a scan must find."""
    tar, path, target = Tar(), "", ""
    for i, part in enumerate(parts):
        if part in ("global", "other", "short", "none"):
            path = {"global": LONG, "other": OTHER, "short": "s", "none": ""}[part]
            tar.extension(pax({"path": path}, b"g"))
        elif part == "links":
            target = {"": LONG, LONG: "own", "own": ""}[target]
            tar.extension(pax({"linkpath": target}, b"g"))
        elif part == "file":
            payload = b"%d" % i
            tar.file(path or f"file{i}", payload, header(b"file%d" % i, len(payload)))
        elif part == "own":
            tar.file("own", b"own", pax({"path": "own"}))
        elif part == "folder":
            tar.other("folders", header(b"folder", typeflag=b"5"))
        else:
            named = b"never" if part == "link" else b"own"
            wanted = target or named.decode()
            found = [row for row in tar.rows if row[0] == wanted]
            tar.group(header(b"link%d" % i, typeflag=b"1", link=named))
            tar.borders.append(len(tar.blob))
            tar.counts["hard_links"] += 1
            if found:
                tar.row(path or f"link{i}", *found[-1][1:])
            else:
                tar.counts["dangling_links"] += 1
    return tar.end()


@given(PARTS)
def test_rows_are_those_of_names_that_each_row_has_for_itself(parts):
    tar = build(parts)
    store = MemoryStore(bytes(tar.blob))
    index = scan_store(store)
    assert rows_of(index) == tar.rows
    assert index.report.hard_links == tar.counts["hard_links"]
    assert index.report.dangling_links == tar.counts["dangling_links"]
    names = [row[0] for row in tar.rows]
    assert list(index.names) == names
    assert [index.name_at(row) for row in range(len(index))] == names
    last = {name: row for row, name in enumerate(names)}
    assert {name: index.row_of(name) for name in last} == last
    assert [found and found.row for found in index.search([*last, "absent", ""])] == [
        *last.values(),
        None,
        None,
    ]
    for name, row in last.items():
        assert index.bounds_of(name) == (tar.rows[row][1], sum(tar.rows[row][1:]))
    assert index.payload_bytes == sum(row[2] for row in tar.rows)
    for other in (
        pickle.loads(pickle.dumps(index)),
        blobpack.Index(index),
        scan_store(store, facts=True),
    ):
        assert other == index
        assert rows_of(other) == tar.rows
    assert list(index.select("*own*").names) == [name for name in names if "own" in name]


def test_parts_hold_a_bounded_number_of_name_bytes():
    index = scan_store(MemoryStore(pax({"path": NAME}, b"g") + FILES * 40 + END))
    parts = list(index.parts())
    assert [len(part) for part in parts] == [8] * 5
    assert [name for part in parts for name in part.iter_names()] == [NAME] * 40


def test_a_local_tar_is_scanned_and_indexed_with_shared_names(tmp_path):
    """Long enough for several threads, which meet the global header far behind the start."""
    chance = random.Random(29)
    tar = Tar()
    for i in range(3000):
        tar.file(f"{i}", chance.randbytes(chance.randrange(1500)))
    tar.extension(pax({"path": LONG}, b"g"))
    for i in range(700):
        payload = b"%d" % i * chance.randrange(800)
        tar.file(LONG, payload, header(b"x", len(payload)))
    path = tmp_path / "a.tar"
    path.write_bytes(tar.end().blob)
    for threads in (1, 4):
        index = blobpack.scan(path, threads=threads)
        assert rows_of(index) == tar.rows
    index.save(tmp_path / "a.idx")
    assert blobpack.Index.load(tmp_path / "a.idx") == index
