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


# ru_maxrss of a new process begins with that of its parent, VmHWM does not
MEASURED = """
import re, sys
from pathlib import Path
import numpy, blobpack.cli.main
def peak(): return int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1])
before = peak()
try:
    {code}
except (blobpack.FormatError, SystemExit) as exc:
    print(exc, file=sys.stderr)
print(peak() - before, file=sys.stderr)
"""


def grown_kib(code, *arguments, cwd=None):
    """Run code in a process of its own; return by how much its memory has grown, and its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.replace("{code}", code), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd=cwd,
    )
    *lines, grown = done.stderr.splitlines()
    return int(grown), "\n".join(lines)


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
    index = blobpack.scan(sys.argv[1])
    name = "n" * {MIB}
    assert len(index) == {rows}
    assert index.row_of(name) == {named - 1}
    assert ("x" in index) == ({named} < {rows})
    assert sum(len(member.name) for member in index) == {named * MIB + rows - named}
    """.strip()
    grown, error = grown_kib(code, path)
    assert not error
    # the window, the name in a few forms, and the names of a part of the rows
    assert grown < 40 << 10


DONE = [
    "info a.tar",
    "ls a.tar",
    "ls a.tar --rescan",
    "cat a.tar x",
    "verify a.tar --index-file b.idx",
]
# too many bytes of names
REFUSED = [
    "ls a.tar --filter n*",
    "extract a.tar out --min-size 1",
    "verify a.tar",
    "verify a.tar --fast",
    "subset a.tar out.tar",
    "merge b.tar a.tar out.tar",
    "merge a.tar b.tar out.tar --duplicates last",
    "append a.tar files --all",
    "append a.tar files --all --duplicates last",
    "index a.tar",
    "index a.tar --facts -o out.idx",
    "collect a.tar b.tar --scan -o out.idx",
    *(
        f"offsets a.tar --format {kind} -o out.{kind}"
        for kind in ("pkl", "csv", "jsonl", "parquet")
    ),
    "offsets a.tar --names basename",
]
# for another reason: one file has several names, or its name is too long for a file
OTHERWISE = ["repack a.tar out.tar --all", "extract a.tar out"]


@pytest.mark.parametrize("command", [*DONE, *REFUSED, *OTHERWISE])
def test_commands_take_little_memory_for_such_a_tar(command, tmp_path):
    blob = FIRST + pax({"path": NAME}, b"g") + FILES * 300 + END
    (tmp_path / "a.tar").write_bytes(blob)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "b").write_bytes(b"b")
    blobpack.pack([("x", b"x")], tmp_path / "b.tar", all_files=True, index="none")
    blobpack.scan(tmp_path / "b.tar").save(tmp_path / "b.idx")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    code = "blobpack.cli.main.main(sys.argv[1:])"
    grown, error = grown_kib(code, *command.split(), cwd=tmp_path)
    # a megabyte for each of a few forms of the name, windows and buffers
    assert grown << 10 < 40 * MIB + 4 * len(blob)
    offset = len(FIRST) + len(pax({"path": NAME}, b"g"))
    refused = "a.tar: the names of 301 members take" in error and f"at byte {offset}" in error
    assert refused == (command in REFUSED)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


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
    grown, error = grown_kib("assert list(blobpack.scan(sys.argv[1]).names) == ['a']", path)
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
    assert [index._name_at(row) for row in range(len(index))] == names
    last = {name: row for row, name in enumerate(names)}
    assert {name: index.row_of(name) for name in last} == last
    assert [found and found.row for found in index._search([*last, "absent", ""])] == [
        *last.values(),
        None,
        None,
    ]
    for name, row in last.items():
        assert index._bounds_of(name) == (tar.rows[row][1], sum(tar.rows[row][1:]))
    assert index.payload_bytes == sum(row[2] for row in tar.rows)
    for other in (
        pickle.loads(pickle.dumps(index)),
        blobpack.Index(index),
        scan_store(store, facts=True),
    ):
        assert other == index
        assert rows_of(other) == tar.rows
    assert list(index.select("*own*").names) == [name for name in names if "own" in name]


def test_pieces_hold_a_bounded_number_of_name_bytes():
    index = scan_store(MemoryStore(pax({"path": NAME}, b"g") + FILES * 40 + END))
    pieces = list(index._pieces())
    assert [len(piece) for piece in pieces] == [8] * 5
    assert [name for piece in pieces for name in piece.iter_names()] == [NAME] * 40


@pytest.mark.parametrize("copies", [9, 10])
def test_names_are_copied_until_they_take_8_mib_more_than_once(copies):
    """Nine names of 1 MiB less a byte, and short ones that fill up 9 MiB; one byte more is refused."""
    name = NAME[:-1]
    short = Tar().file("s" * 10, b"", pax({"path": "s" * 10})).blob
    named = pax({"path": name}, b"g") + FILES * copies
    index = scan_store(MemoryStore(short + named + END))
    if copies == 9:
        assert list(index._columns.iter_names()) == ["s" * 10, *[name] * 9]
        assert index == index.select()
    else:
        with pytest.raises(blobpack.FormatError, match="names of 11 members") as caught:
            _ = index._columns
        # where the first member of this name begins, behind the global header
        assert caught.value.offset == len(short) + len(pax({"path": name}, b"g"))


USES = {
    "columns": lambda index, _: index._columns,
    "parts": lambda index, _: list(index._parts()),
    "select": lambda index, _: index.select("*"),
    "take": lambda index, _: index[range(100)],
    "slice": lambda index, _: index[0:100],
    "names": lambda index, _: index.names[:],
    "equal": lambda index, _: index == index,
    "joined": lambda index, _: blobpack.Index.concatenate([index, index]),
    "basenames": lambda index, _: index.with_basenames(),
    "numpy": lambda index, _: index.to_numpy(),
    "arrow": lambda index, _: index.to_arrow(),
    "pandas": lambda index, _: index.to_pandas(),
    "parquet": lambda index, folder: index.to_parquet(folder / "a.parquet"),
    "save": lambda index, folder: index.save(folder / "a.idx"),
    "offsets": lambda index, folder: blobpack.write_offsets(index, folder / "a.pkl"),
}


@pytest.mark.parametrize("use", USES)
def test_an_index_refuses_to_copy_such_names_for_all_rows(use, tmp_path):
    index = scan_store(MemoryStore(FIRST + NAMED["path"][0] + END, "a.tar"))
    with pytest.raises(blobpack.FormatError, match=r"^a\.tar: .* at byte") as caught:
        USES[use](index, tmp_path)
    assert caught.value.offset == len(FIRST) + len(pax({"path": NAME}, b"g"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(blobpack.MemberNotFoundError, match=f"no member 'y' among {len(index):,} "):
        index.row_of("y")


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
