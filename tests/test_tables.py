"""An index goes out to NumPy, Arrow, pandas, Parquet, DuckDB and jq, and comes back the same."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from tars import need_tool

from blobpack import Index, Member, pack
from blobpack.columns import FACTS, MEDIA_TYPES, Columns
from blobpack.errors import (
    BlobNotFoundError,
    BlobpackError,
    DuplicateNameError,
    FormatError,
    PackageMissingError,
    StorageError,
)
from blobpack.index.tables.parquet import GROUP_ROWS
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = [
    Member("cats/0001.jpg", 512, 1000, "image/jpeg", 640, 480, 0, 1_700_000_000),
    Member('dogs/größer "1", 日.png', 1536, 1536, "image/png", 1, (1 << 32) - 1, (1 << 32) - 1, -1),
    Member("line\nbreak", 2048, 1 << 62, None, None, None, 3, None),
    Member("", 5, 6, "image/svg+xml", None, 7, 4, -(1 << 63)),
    Member("cats/0001.jpg", 9, 10, "image/webp", 3, None, 5, (1 << 63) - 1),
]
NOT_UTF8 = Member("caf\udce9.jpg", 6144, 6400, "image/jpeg", 4, 4, 6, 7)
BARE = [Member(member.name, member.offset_start, member.offset_end) for member in MEMBERS]
FIELDS = [field.name for field in dataclasses.fields(Member)]


@pytest.fixture
def index() -> Index:
    return Index(MEMBERS)


def rows_of(members: list[Member], fields: list[str]) -> list[tuple[Any, ...]]:
    return [tuple(getattr(member, field) for field in fields) for member in members]


def read_back(index: Index, tmp_path: Path) -> Index:
    index.to_parquet(tmp_path / "index.parquet")
    return Index.from_parquet(tmp_path / "index.parquet")


# Out and back


@pytest.mark.parametrize("members", [MEMBERS, BARE, [*MEMBERS, NOT_UTF8], [NOT_UTF8], []])
def test_tables_come_back_the_same(members: list[Member], tmp_path: Path) -> None:
    index = Index(members)
    for again in (
        Index.from_arrow(index.to_arrow()),
        Index.from_arrow(index.to_pandas()),
        Index.from_arrow(pa.Table.from_pandas(index.to_pandas())),
        read_back(index, tmp_path),
    ):
        assert list(again) == members
        assert again == index
        assert dict(again._columns.facts()).keys() == dict(index._columns.facts()).keys()
        assert all(again[name] == index[name] for name in index.names)


MEMBER = st.builds(
    lambda name, start, size, *facts: Member(name, start, start + size, *facts),
    st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 61),
    st.sampled_from(MEDIA_TYPES).map(lambda name: name or None),
    st.one_of(st.none(), st.integers(1, (1 << 32) - 1)),
    st.one_of(st.none(), st.integers(1, (1 << 32) - 1)),
    st.integers(0, (1 << 32) - 1),
    st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1).filter(bool)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(MEMBER, max_size=20), st.sets(st.sampled_from(sorted(FACTS))), st.data())
def test_any_members_come_back_the_same(
    members: list[Member], without: set[str], data: st.DataObject
) -> None:
    members = [dataclasses.replace(member, **dict.fromkeys(without)) for member in members]
    whole = Index(members)
    first = data.draw(st.integers(0, len(members)))
    index = whole[first : len(members)]  # names that do not start at the first byte
    assert list(Index.from_arrow(index.to_arrow())) == members[first:]
    file = io.BytesIO()
    write_offsets(index, file, format="parquet")
    table = pq.read_table(io.BytesIO(file.getvalue()))
    assert list(Index.from_arrow(table)) == members[first:]
    table.validate(full=True)  # what says it is text, is text
    arrays = index.to_numpy()
    assert list(arrays["name"]) == [member.name for member in members[first:]]
    for name in set(arrays) - {"name"}:
        values = [getattr(member, name) for member in members[first:]]
        unknown = None if name == "media_type" else 0
        assert arrays[name].tolist() == [unknown if v is None else v for v in values]


def test_arrays_are_read_only_and_of_the_types_that_are_promised(index: Index) -> None:
    arrays = index.to_numpy()
    assert list(arrays) == FIELDS
    assert {name: str(values.dtype) for name, values in arrays.items()} == {
        "name": "object",
        "offset_start": "int64",
        "offset_end": "int64",
        "media_type": "object",
        "width": "uint32",
        "height": "uint32",
        "crc32c": "uint32",
        "mtime": "int64",
    }
    for name in ("offset_start", "width", "mtime"):
        with pytest.raises(ValueError, match="read-only"):
            arrays[name][0] = 1
    assert list(Index(BARE).to_numpy()) == ["name", "offset_start", "offset_end"]
    assert isinstance(index.to_numpy()["name"][1], str)


def test_arrow_has_the_types_that_are_promised_and_copies_no_names(index: Index) -> None:
    table = index.to_arrow()
    assert table.schema == pa.schema(
        {
            "name": pa.large_string(),
            "offset_start": pa.int64(),
            "offset_end": pa.int64(),
            "media_type": pa.dictionary(pa.int8(), pa.string()),
            "width": pa.uint32(),
            "height": pa.uint32(),
            "crc32c": pa.uint32(),
            "mtime": pa.int64(),
        }
    )
    assert table.column("width").null_count == 2
    packed = np.frombuffer(index._columns.names, np.uint8)
    assert table.column("name").chunk(0).buffers()[2].address == packed.ctypes.data
    assert Index([NOT_UTF8]).to_arrow().schema.field("name").type == pa.large_binary()
    assert Index([NOT_UTF8]).to_arrow()["name"].to_pylist() == [b"caf\xe9.jpg"]


def test_pandas_keeps_whole_numbers_whole(index: Index) -> None:
    frame = index.to_pandas()
    assert frame["name"].tolist() == list(index.names)
    assert isinstance(frame["width"].dtype, pd.UInt32Dtype)
    assert frame["width"].isna().tolist() == [False, False, True, True, False]
    assert frame[frame["media_type"] == "image/png"]["height"].tolist() == [(1 << 32) - 1]
    assert list(index.select(names=frame["name"][:1]).names) == ["cats/0001.jpg"] * 2


def test_a_stored_index_goes_out_part_by_part(tmp_path: Path) -> None:
    rows = 2 * GROUP_ROWS + 5
    names = b"".join(b"%09d" % row for row in range(rows))
    bounds = np.arange(rows + 1, dtype=np.int64) * 9
    starts = np.arange(rows, dtype=np.int64) * 512
    views = [memoryview(column).toreadonly() for column in (bounds, starts, starts + 1)]
    index = Index._from_columns(Columns(memoryview(names), *views))
    index.save(tmp_path / "a.idx")
    stored = Index.load(tmp_path / "a.idx")
    stored[0:1].to_parquet(tmp_path / "warm.parquet")  # pyarrow is imported
    tracemalloc.start()
    stored.to_parquet(tmp_path / "a.parquet")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20  # but for Arrow's and our own C arrays, a group each
    assert stored._loaded is None
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2
    index.to_parquet(tmp_path / "b.parquet")
    assert pq.ParquetFile(tmp_path / "b.parquet").num_row_groups == 3
    assert Index.from_parquet(tmp_path / "a.parquet") == index
    assert Index.from_parquet(tmp_path / "b.parquet") == index
    late = Index.concatenate([index, Index([NOT_UTF8])])  # found when two groups are written
    assert read_back(late, tmp_path) == late


def test_parquet_appears_whole_or_not_at_all(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    Index(BARE).to_parquet(path)
    before = path.read_bytes()
    mixed = [index, Index(BARE)]
    with pytest.raises(ValueError, match="some members have"):
        write_offsets((part for part in mixed for _ in range(10_000)), path, format="parquet")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["index.parquet"]
    with pytest.raises(StorageError, match="nowhere"):
        index.to_parquet(tmp_path / "nowhere" / "index.parquet")


# What others wrote


def table_of(**columns: Any) -> pa.Table:
    """A table of two rows, with columns in place of those it would have."""
    whole = {"name": ["a", "b"], "offset_start": [0, 1], "offset_end": [1, 2]} | columns
    return pa.table({name: values for name, values in whole.items() if values is not None})


@pytest.mark.parametrize(
    "columns",
    [
        {"name": pa.array(["a", "b"], pa.string())},
        {"name": pa.array(["a", "b"], pa.string_view())},
        {"name": pa.array([b"a", b"b"], pa.binary())},
        {"name": pa.array(["a", "b"]).dictionary_encode()},
        {"name": pa.chunked_array([["a"], [], ["b"]])},
        {"name": pa.array(["x", "a", "b", "y"]).slice(1, 2)},
        {"offset_start": pa.array([0, 1], pa.uint8()), "offset_end": pa.array([1, 2], pa.uint64())},
        {"label": ["cat", "dog"], "nested": [[1], [2]]},
    ],
)
def test_tables_of_others_are_read(columns: dict[str, Any], tmp_path: Path) -> None:
    table = table_of(**columns)
    expected = [Member("a", 0, 1), Member("b", 1, 2)]
    assert list(Index.from_arrow(table)) == expected
    pq.write_table(table, tmp_path / "theirs.parquet", row_group_size=1)
    assert list(Index.from_parquet(tmp_path / "theirs.parquet")) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"media_type": pa.array(["image/gif", None])}, ("image/gif", None)),
        ({"media_type": pa.array([None, "image/gif"], pa.large_string())}, (None, "image/gif")),
        ({"media_type": pa.nulls(2)}, (None, None)),
        ({"width": pa.array([None, 5], pa.int16())}, (None, 5)),
        ({"height": pa.array([0, 5], pa.uint64())}, (None, 5)),
        ({"width": pa.nulls(2)}, (None, None)),
        ({"crc32c": pa.array([1, None])}, (None, None)),
        ({"mtime": pa.nulls(2)}, (None, None)),
        ({"mtime": pa.array([-1, 1], pa.int8())}, (-1, 1)),
    ],
)
def test_facts_of_others_are_read(columns: dict[str, Any], expected: tuple[Any, Any]) -> None:
    (name,) = columns
    read = Index.from_arrow(table_of(**columns))
    assert tuple(getattr(member, name) for member in read) == expected


REFUSED = [
    ({"name": None}, "'name'"),
    ({"offset_start": None}, "'offset_start'"),
    ({"offset_end": None}, "'offset_end'"),
    ({"name": [1, 2]}, "column name: int64"),
    ({"name": ["a", None]}, "column name: row 1 is null"),
    ({"name": [["a"], ["b"]]}, "column name: list"),
    ({"name": pa.nulls(2)}, "column name: null"),
    ({"offset_start": [0.0, 1.0]}, "column offset_start: double"),
    ({"offset_start": ["0", "1"]}, "column offset_start: string"),
    ({"offset_start": [None, 1]}, "column offset_start: row 0 is null"),
    ({"offset_end": pa.nulls(2)}, "column offset_end: row 0 is null"),
    ({"offset_start": [-1, 1]}, "offset_start and offset_end: row 0 is -1 to 1"),
    ({"offset_end": [1, 0]}, "offset_start and offset_end: row 1 is 1 to 0"),
    ({"offset_end": pa.array([1, 1 << 63], pa.uint64())}, "column offset_end: "),
    ({"width": [1, -1]}, "column width: "),
    ({"height": [1, 1 << 32]}, "column height: "),
    ({"width": [1.0, 2.0]}, "column width: double"),
    ({"crc32c": [1, 1 << 32]}, "column crc32c: "),
    ({"mtime": pa.array([0, 1], pa.timestamp("s"))}, "column mtime: timestamp"),
    ({"mtime": [True, False]}, "column mtime: bool"),
    ({"media_type": ["image/png", "video/mp4"]}, "column media_type: 'video/mp4'"),
    ({"media_type": ["", None]}, "column media_type: ''"),
    ({"media_type": [1, 2]}, "column media_type: int64"),
    ({"media_type": pa.array([b"a", b"b"])}, "column media_type: binary"),
    ({"media_type": pa.array([1, 2]).dictionary_encode()}, "column media_type: int64"),
]


@pytest.mark.parametrize(("columns", "message"), REFUSED)
def test_what_can_not_be_is_refused_and_its_column_named(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    table = table_of(**columns)
    with pytest.raises(FormatError) as caught:
        Index.from_arrow(table)
    assert message in str(caught.value)
    path = tmp_path / "theirs.parquet"
    pq.write_table(table, path)
    with pytest.raises(FormatError) as caught:
        Index.from_parquet(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["a"])] * 2, ["name", "name"])
    with pytest.raises(FormatError, match="2 columns 'name'"):
        Index.from_arrow(table)


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    with pytest.raises(BlobNotFoundError, match="no such Parquet file"):
        Index.from_parquet(path)
    with pytest.raises(StorageError):
        Index.from_parquet(tmp_path)
    for content in (b"", b"PAR1", b"name,offset_start\n", b"PAR1" + bytes(100) + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="not a Parquet file") as caught:
            Index.from_parquet(path)
        assert str(path) in str(caught.value)


def test_a_damaged_parquet_file_is_an_index_or_an_error(index: Index, tmp_path: Path) -> None:
    """Parquet has no checksum of its footer, and pyarrow writes none of its pages: damage may go unseen."""
    path = tmp_path / "index.parquet"
    index.to_parquet(path)
    whole = path.read_bytes()
    seeded = random.Random(5)
    outcomes = set()
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(seeded.randint(1, 3)):
            damaged[seeded.randrange(len(damaged))] = seeded.randrange(256)
        path.write_bytes(damaged[: seeded.choice([len(whole), seeded.randrange(len(whole))])])
        try:
            members = list(Index.from_parquet(path))
        except FormatError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            assert all(0 <= member.offset_start <= member.offset_end for member in members)
    assert outcomes == {"refused", "read"}


@pytest.mark.parametrize("package", ["pyarrow", "pandas"])
def test_a_missing_package_is_named_with_what_to_install(
    package: str, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    asked = [index.to_pandas]
    if package == "pyarrow":
        asked += [
            index.to_arrow,
            lambda: index.to_parquet(tmp_path / "a.parquet"),
            lambda: Index.from_parquet(tmp_path / "a.parquet"),
            lambda: Index.from_arrow(None),
        ]
    for ask in asked:
        with pytest.raises(PackageMissingError, match=r"pip install 'blobpack\[(arrow|pandas)\]'"):
            ask()
    assert list(tmp_path.iterdir()) == []
    assert issubclass(PackageMissingError, ImportError | BlobpackError)
    assert len(index.to_numpy()) == 8


# Other tools read what we write


@pytest.fixture
def blob(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    pack(iter(small_images.items()), tmp_path / "out.tar")
    return tmp_path / "out.tar"


def run(*arguments: str, cwd: Path) -> bytes:
    command = [sys.executable, "-c", "from blobpack.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, check=True).stdout


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("members", [MEMBERS, BARE], ids=["facts", "bare"])
def test_duckdb_reads_every_format(format: str, members: list[Member], tmp_path: Path) -> None:
    path = tmp_path / f"offsets.{format}"
    assert write_offsets(Index(members), path, format=format) == len(members)
    fields = FIELDS if members is MEMBERS else FIELDS[:3]
    source = {
        "parquet": f"read_parquet('{path}')",
        "csv": f"read_csv('{path}', allow_quoted_nulls=false)",  # else "" is NULL
        "jsonl": f"read_json('{path}', format='newline_delimited')",
    }[format]
    found = duckdb.sql(f"SELECT {', '.join(fields)} FROM {source}")
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    assert types["name"] == "VARCHAR"
    assert {types[name] for name in fields if name not in ("name", "media_type")} <= {
        "BIGINT", "UINTEGER", "UBIGINT", "HUGEINT"
    }  # fmt: skip
    assert found.fetchall() == rows_of(members, fields)


def test_duckdb_asks_a_table_directly(index: Index) -> None:
    members = index.to_arrow()
    assert members.num_rows == 5  # DuckDB finds the variable by its name
    sizes = duckdb.sql("SELECT sum(width) FROM members WHERE media_type LIKE 'image/%'")
    assert sizes.fetchall() == [(644,)]


def test_duckdb_reads_names_that_are_not_utf8_as_bytes(tmp_path: Path) -> None:
    Index([*MEMBERS, NOT_UTF8]).to_parquet(tmp_path / "a.parquet")
    found = duckdb.sql(f"SELECT name FROM '{tmp_path}/a.parquet' WHERE crc32c = 6").fetchall()
    assert found == [(b"caf\xe9.jpg",)]


def test_jq_reads_json_lines(tmp_path: Path) -> None:
    jq = need_tool("jq")
    path = tmp_path / "offsets.jsonl"
    write_offsets(Index(MEMBERS[:2]), path, format="jsonl")
    write_offsets(Index(MEMBERS), path, format="jsonl")
    done = subprocess.run(
        [jq, "-c", "select(.width == null) | [.name, .height]", path],
        capture_output=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["line\nbreak", None],
        ["", 7],
    ]
    (sums,) = subprocess.run(
        [jq, "-s", "map(.crc32c) | add", path], capture_output=True, check=True
    ).stdout.split()
    assert int(sums) == sum(member.crc32c or 0 for member in MEMBERS)


def test_csv_leaves_cells_of_the_unknown_empty(tmp_path: Path) -> None:
    path = tmp_path / "offsets.csv"
    write_offsets(Index([MEMBERS[1], MEMBERS[2]]), path, format="csv")
    assert path.read_text() == (
        "name,offset_start,offset_end,media_type,width,height,crc32c,mtime\n"
        '"dogs/größer ""1"", 日.png",1536,1536,"image/png",1,4294967295,4294967295,-1\n'
        f'"line\nbreak",2048,{1 << 62},,,,3,\n'
    )
    write_offsets([Index(MEMBERS)[0:1], Index(BARE)[2:3]], path, format="csv")
    assert path.read_text() == (  # joined into one batch, of what both have
        f'name,offset_start,offset_end\n"cats/0001.jpg",512,1000\n"line\nbreak",2048,{1 << 62}\n'
    )


def test_basenames_in_every_format(tmp_path: Path) -> None:
    index = Index(MEMBERS[:3])
    for format in ("parquet", "csv", "jsonl"):
        for source in (index, [index[0:2], index[2:3]]):
            path = tmp_path / f"base.{format}"
            assert write_offsets(source, path, names="basename", format=format) == 3
            found = duckdb.sql(f"SELECT name FROM '{path}'").fetchall()
            assert [name for (name,) in found] == ["0001.jpg", 'größer "1", 日.png', "line\nbreak"]
        with pytest.raises(DuplicateNameError):
            write_offsets([index, index], path, names="basename", format=format)


@pytest.mark.parametrize(
    ("options", "output", "format"),
    [
        (["-o", "x.csv"], "x.csv", "csv"),
        (["-o", "x.CSV"], "x.CSV", "csv"),
        (["-o", "x.jsonl"], "x.jsonl", "jsonl"),
        (["-o", "x.ndjson"], "x.ndjson", "jsonl"),
        (["-o", "x.parquet"], "x.parquet", "parquet"),
        (["-o", "x.pkl"], "x.pkl", "pkl"),
        (["-o", "x"], "x", "pkl"),
        (["-o", "x.csv", "--format", "parquet", "--force"], "x.csv", "parquet"),
        (["-o", "x.parquet", "--format", "pkl", "--force"], "x.parquet", "pkl"),
        (["--format", "parquet"], "out_offsets.parquet", "parquet"),
        ([], "out_offsets.pkl", "pkl"),
    ],
)
def test_the_format_is_told_by_the_suffix_unless_it_is_given(
    options: list[str], output: str, format: str, blob: Path, small_images: dict[str, bytes]
) -> None:
    run("offsets", "out.tar", *options, cwd=blob.parent)
    start = (blob.parent / output).read_bytes()[:4]
    known = {b"name": "csv", b'{"na': "jsonl", b"PAR1": "parquet"}
    assert known.get(start, "pkl") == format


def test_parquet_goes_to_stdout(blob: Path, small_images: dict[str, bytes]) -> None:
    out = run("offsets", "out.tar", "--format", "parquet", "-o", "-", cwd=blob.parent)
    read = Index.from_arrow(pq.read_table(io.BytesIO(out)))
    assert list(read.names) == sorted(small_images)
    assert [member.size for member in read] == [len(small_images[name]) for name in read.names]
