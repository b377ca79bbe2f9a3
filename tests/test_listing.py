"""`blobpack ls`: the long form, JSON and CSV, sizes for people, and the order."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

import blobpack
from blobpack.cli.listing import date, human_size

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
SIDES = {"b.png": (30, 20), "a.png": (4, 50), "c.png": (300, 200)}
MTIMES = {"b.png": 1_000_000_000, "a.png": 1_500_000_000, "c.png": 1_200_000_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("listing")
    (folder / "imgs").mkdir()
    for name, size in SIDES.items():
        path = folder / "imgs" / name
        Image.new("RGB", size, "red").save(path)
        os.utime(path, (MTIMES[name], MTIMES[name]))
    (folder / "imgs" / "text, with a comma").write_bytes(b"x" * 2000)
    blobpack.pack(folder / "imgs", folder / "out.tar", all_files=True, keep_mtime=True)
    blobpack.pack(folder / "imgs", folder / "bare.tar", all_files=True, facts=False)
    return folder


def ls(folder, *arguments, code=0):
    done = subprocess.run(
        [PROGRAM, "ls", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_long_form_has_sizes_and_facts(folder):
    index = blobpack.open_blob(folder / "out.tar").index
    lines = ls(folder, "out.tar", "--long").splitlines()
    member = index["b.png"]
    assert lines[1].split(maxsplit=7) == [
        str(member.size),
        str(member.offset_start),
        "image/png",
        "30x20",
        f"{member.crc32c:08x}",
        *("2001-09-09", "01:46"),
        "b.png",
    ]
    # unknown values leave their columns where they are
    assert lines[3].split()[:4] == ["2000", str(index["text, with a comma"].offset_start), "-", "-"]
    assert lines[3].index("text") == lines[1].index("b.png")


def test_without_facts_the_long_form_has_sizes_only(folder):
    assert ls(folder, "bare.tar", "-l").splitlines()[3].split(maxsplit=2)[::2] == [
        "2000",
        "text, with a comma",
    ]


def test_json_and_csv_have_all_values(folder):
    index = blobpack.open_blob(folder / "out.tar").index
    wanted = [
        {
            "name": member.name,
            "size": member.size,
            "offset_start": member.offset_start,
            "offset_end": member.offset_end,
            "media_type": member.media_type,
            "width": member.width,
            "height": member.height,
            "crc32c": member.crc32c,
            "mtime": member.mtime,
        }
        for member in index
    ]
    assert list(map(json.loads, ls(folder, "out.tar", "--json").splitlines())) == wanted
    rows = list(csv.DictReader(io.StringIO(ls(folder, "out.tar", "--csv"))))
    shown = [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in wanted
    ]
    assert rows == shown


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Blobs below one folder: the first two have a member of one name at equal offsets; the third has none."""
    folder = tmp_path_factory.mktemp("several")
    for name, text in (("x/a", b"1"), ("x/b", b"2"), ("y/none", b""), ("y/long", b"3")):
        (folder / name).parent.mkdir(exist_ok=True)
        members = {"same.txt": text * 700, f"{name}.txt": text} if text else {}
        blobpack.pack(members, folder / f"{name}.tar", all_files=True, allow_empty=True)
    return folder


@pytest.mark.parametrize("source", [".", "x/*.tar", "all.idx"])
def test_members_of_a_collection_are_listed_with_their_blobs(several, source):
    if source == "all.idx":
        blobpack.collect(several, several / source, duplicates="last")
    rows = [("same.txt", "x/a"), ("x/a.txt", "x/a"), ("same.txt", "x/b"), ("x/b.txt", "x/b")]
    if source != "x/*.tar":
        rows += [("same.txt", "y/long"), ("y/long.txt", "y/long")]
    rows = [(name, f"{several}/{blob}.tar") for name, blob in rows]
    found = [
        (row["name"], row["blob"])
        for row in map(json.loads, ls(several, source, "--json").splitlines())
    ]
    assert found == rows
    for arguments, wanted in (
        ([], rows),
        (["--filter", "same.txt"], rows[::2]),
        (["--sort", "size"], rows[1::2] + rows[::2]),
    ):
        table = csv.DictReader(io.StringIO(ls(several, source, "--csv", *arguments)))
        assert table.fieldnames[:5] == ["name", "size", "offset_start", "offset_end", "blob"]
        assert [(row["name"], row["blob"]) for row in table] == wanted
    # paths begin in the folder that all blobs share, and stand in a column
    begin = len(f"{several}/x/" if source == "x/*.tar" else f"{several}/")
    lines = ls(several, source, "--long").splitlines()
    assert [tuple(line.split()[-2:]) for line in lines] == [
        (blob[begin:], name) for name, blob in rows
    ]
    assert len({line.rindex(name) for line, (name, _) in zip(lines, rows, strict=True)}) == 1
    assert ls(several, source).split() == [name for name, _ in rows]


def test_a_single_blob_has_no_column_for_it(folder):
    assert "blob" not in json.loads(ls(folder, "out.tar", "--json").splitlines()[0])
    assert "blob" not in ls(folder, "out.tar", "--csv").splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--sort", "width"], ["a.png", "b.png", "c.png", "text, with a comma"]),
        # unknown values stand last in either order
        (["--sort", "height", "-r"], ["c.png", "a.png", "b.png", "text, with a comma"]),
        (["--sort", "mtime", "-r", "--filter", "*.png"], ["a.png", "c.png", "b.png"]),
        (["--sort", "name", "-r", "--filter", "*.png"], ["c.png", "b.png", "a.png"]),
        (["--sort", "offset", "-r", "--filter", "*.png"], ["c.png", "b.png", "a.png"]),
        (["--sort", "size", "-r", "--filter", "t*"], ["text, with a comma"]),
    ],
)
def test_sort(folder, arguments, names):
    assert ls(folder, "out.tar", *arguments).splitlines() == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.tar", "--human"], "--human needs --long"),
        (["out.tar", "--reverse"], "--reverse needs --sort"),
        (["bare.tar", "--sort", "width"], "--sort width: the index has no widths"),
        (["out.tar", "--sort", "colour"], "is not one of"),
    ],
)
def test_wrong_usage(folder, arguments, message):
    assert message in ls(folder, *arguments, code=2)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (1025, "1.1K"),
        (10 * 1024, "10K"),
        (10 * 1024 + 1, "11K"),
        (1024 * 1024 - 1, "1.0M"),
        (1 << 20, "1.0M"),
        (5 << 30, "5.0G"),
        ((1 << 63) - 1, "8.0E"),
    ],
)
def test_sizes_for_people(size, shown):
    assert human_size(size) == shown


@given(st.lists(st.integers(0, (1 << 53)), min_size=20, max_size=20))
def test_sizes_for_people_are_those_of_gnu(sizes):
    wanted = subprocess.run(
        ["numfmt", "--to=iec", "--round=up", *map(str, sizes)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [human_size(size) for size in sizes] == wanted


def test_a_date_beyond_the_calendar_is_a_number():
    assert date(1 << 62) == str(1 << 62).ljust(16)
    assert date(None).strip() == "-"
