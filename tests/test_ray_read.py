"""Which members `blobpack.integrations.ray` reads, in which runs and columns; this needs no Ray.

tests/tools/ray/ reads them in Ray.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

import blobpack
from blobpack.errors import (
    FactsMissingError,
    FormatError,
    PackageMissingError,
)
from blobpack.integrations.ray.columns import TABLE_BYTES, Tables, check_columns
from blobpack.integrations.ray.matching import matching
from blobpack.integrations.ray.selection import AllMembers, Selection, select, shares
from blobpack.reading.wanted import Wanted

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

    from blobpack.opening.reader import Reader

SHARD_BYTES = 40_000


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    """Name → payload; the sizes vary a lot."""
    made = random.Random(5)
    return {
        f"{'ab'[i % 2]}/{i:04}.bin": made.randbytes(made.choice([0, 10, 900, 5000]))
        for i in range(300)
    }


@pytest.fixture(scope="module")
def reader(payloads: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A collection of them, of several blobs."""
    folder = tmp_path_factory.mktemp("in") / "shards"
    blobpack.pack_shards(payloads, folder, SHARD_BYTES, all_files=True)
    return blobpack.open(folder)


def tables(*columns: str) -> Tables:
    return Tables(columns, Wanted("RGB"), lambda images, size: images)


def rows_in(selection: Selection, count: int) -> list[int]:
    """Check that the runs are all members in order, and return their rows."""
    runs = selection.runs(count)
    assert all(first < last for first, last in runs)
    assert [0, *(last for _, last in runs)] == [*(first for first, _ in runs), len(selection)]
    return [int(row) for first, last in runs for row in selection.rows[first:last]]


# Runs


@pytest.mark.parametrize("count", [1, 2, 7, 40, 300, 1000])
@pytest.mark.parametrize("where", [None, "a/*"])
def test_runs_hold_each_member_once(reader: Reader, count: int, where: str | None) -> None:
    selection = select(reader, where, "archive", 0)
    expected = [row for row, name in enumerate(reader) if where is None or name.startswith("a/")]
    assert rows_in(selection, count) == expected
    assert len(selection.runs(count)) <= count


@pytest.mark.parametrize("where", [None, {"globs": ["a/*", "b/*"]}])
def test_a_run_lies_in_one_blob_if_there_are_enough_runs(reader: Reader, where: Any) -> None:
    selection = select(reader, where, "archive", 0)
    blobs = len(reader.blobs)
    assert blobs > 5
    for count in (blobs, blobs + 1, 3 * blobs):
        runs = selection.runs(count)
        assert len(runs) == count
        for first, last in runs:
            assert reader._number_of(first) == reader._number_of(last - 1)


@pytest.mark.parametrize("where", [None, {"min_size": 1}])
def test_runs_are_about_equally_large(reader: Reader, where: Any) -> None:
    selection = select(reader, where, "archive", 0)
    for count in (2, 3, 5, 30):
        sizes = [
            selection.bytes_before(last) - selection.bytes_before(first)
            for first, last in selection.runs(count)
        ]
        # a member has up to 6,000 bytes, and a border between blobs may be 10,000 bytes away
        assert max(sizes) < 2 * selection.bytes_before(len(selection)) / count + 6000


def test_runs_of_a_remote_index_ask_for_no_offsets(s3_env: S3Server) -> None:
    url = f"s3://{s3_env.new_bucket()}/a.tar"
    # an index that does not come with the request that opens the blob
    blobpack.pack(((f"{i:06}.bin", b"") for i in range(10_000)), url, all_files=True)
    with blobpack.open(url) as remote:
        before = remote.stats.requests
        selection = AllMembers(remote)
        for count in (3, 50):
            assert rows_in(selection, count) == list(range(10_000))
            assert len(selection.runs(count)) == count
        assert remote.stats.requests == before


def test_a_compressed_blob_is_cut_by_the_bytes_of_its_tar(tmp_path: Path) -> None:
    blobpack.pack(
        {f"{i:03}.txt": b"a" * 10_000 for i in range(100)}, tmp_path / "a.tar.zst", all_files=True
    )
    with blobpack.open(tmp_path / "a.tar.zst") as blob:
        assert [last - first for first, last in AllMembers(blob).runs(4)] == [25] * 4


def test_no_members_make_no_runs(reader: Reader, tmp_path: Path) -> None:
    assert select(reader, "nothing", "archive", 0).runs(5) == []
    blobpack.pack({}, tmp_path / "empty.tar", allow_empty=True)
    with blobpack.open(tmp_path / "empty.tar") as blob:
        assert AllMembers(blob).runs(5) == []


def test_shares_make_the_largest_run_small() -> None:
    assert shares([10, 10], 2) == [1, 1]
    assert shares([90, 10], 5) == [4, 1]
    assert shares([0, 0, 5], 4) == [1, 1, 2]


# Order and conditions


def test_orders(reader: Reader) -> None:
    names = list(reader)
    by_name = select(reader, None, "name", 0)
    assert [names[row] for row in by_name.rows] == sorted(names)
    one, same, other = (select(reader, None, "random", seed).rows for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert sorted(one) == list(range(300))
    assert rows_in(select(reader, "a/*", "random", 3), 4) != rows_in(
        select(reader, "a/*", "archive", 0), 4
    )


@pytest.mark.parametrize(
    "where",
    [
        "a/00*",
        ["a/00*", "b/01*"],
        {"globs": "a/*", "min_size": 10, "max_size": 900},
        {"regex": "7"},
        {"where": lambda member: member.size == 5000},
    ],
)
def test_conditions_are_those_of_select(reader: Reader, where: Any) -> None:
    if isinstance(where, dict):
        conditions = dict(where)
        globs = conditions.pop("globs", [])
        expected = reader.index.select(
            *([globs] if isinstance(globs, str) else globs), **conditions
        )
    else:
        expected = reader.index.select(*([where] if isinstance(where, str) else where))
    assert 0 < len(expected) < 300
    found = select(reader, where, "archive", 0)
    assert [reader.index.names[int(row)] for row in found.rows] == list(expected.names)
    assert found.bytes_before(len(found)) == expected.payload_bytes


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        (5, TypeError, "where must be one or several str"),
        ([5], TypeError, "where must be one or several str"),
        ({"glob": "a"}, TypeError, "where has no condition glob, only globs, exclude"),
        ({"globs": 5}, TypeError, "globs"),
        ({"min_size": "5"}, TypeError, "min_size"),
        ({"regex": "("}, ValueError, "regex"),
    ],
)
def test_wrong_conditions(reader: Reader, where: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        select(reader, where, "archive", 0)


# Columns


def test_columns_of_a_collection(reader: Reader, payloads: dict[str, bytes]) -> None:
    columns = ("bytes", "name", "blob", "row", "offset_start", "offset_end", "size", "crc32c")
    [table] = tables(*columns).of_rows(reader, range(100, 200))
    assert table.schema == tables(*columns).schema()
    index = reader.index
    for row, found in zip(range(100, 200), table.to_pylist(), strict=True):
        member = index[row]
        assert found == {
            "bytes": payloads[member.name],
            "name": member.name,
            "blob": reader.url_of(row),  # type: ignore[attr-defined]  # it is a collection
            "row": row,
            "offset_start": member.offset_start,
            "offset_end": member.offset_end,
            "size": member.size,
            "crc32c": member.crc32c,
        }


@pytest.mark.parametrize("rows", [[7, 3, 250, 3], list(range(0, 300, 3)), [299], []])
def test_rows_in_any_order(reader: Reader, payloads: dict[str, bytes], rows: list[int]) -> None:
    [table] = tables("row", "name", "bytes").of_rows(reader, np.array(rows, np.int64))
    assert table.column("row").to_pylist() == rows
    names = [reader.index.names[row] for row in rows]
    assert table.column("name").to_pylist() == names
    assert table.column("bytes").to_pylist() == [payloads[name] for name in names]
    assert table.schema == tables("row", "name", "bytes").schema()


def test_facts_and_images(small_images: dict[str, bytes], tmp_path: Path) -> None:
    blobpack.pack(small_images, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob:
        made = tables("name", "image", "media_type", "width", "height", "mtime")
        made = Tables(made.columns, made.wanted, lambda images, size: list(range(len(images))))
        [table] = made.of_rows(blob, range(len(blob)))
        for found, member in zip(table.to_pylist(), blob.index, strict=True):
            assert found["media_type"] == member.media_type
            assert (found["width"], found["height"]) == (member.width, member.height)
        decoded: list[Any] = []
        seen = Tables(
            ("image", "bytes"),
            Wanted("RGB", size=(8, 9)),
            lambda images, size: decoded.extend([images, size]) or [0] * len(images),
        )
        list(seen.of_rows(blob, range(len(blob))))
        expected = list(blobpack.read_images(blob, list(blob), size=(8, 9)))
        assert all(map(np.array_equal, decoded[0], expected))
        assert decoded[1] == (8, 9)


def test_tables_are_small(tmp_path: Path) -> None:
    sizes = [TABLE_BYTES // 2, TABLE_BYTES // 2, 1, TABLE_BYTES + 5, 3, 4]
    blobpack.pack(
        {str(i): bytes(size) for i, size in enumerate(sizes)}, tmp_path / "a.tar", all_files=True
    )
    with blobpack.open(tmp_path / "a.tar") as blob:
        parts = list(tables("row", "bytes").of_rows(blob, range(6)))
        assert [part.column("row").to_pylist() for part in parts] == [[0, 1], [2], [3], [4, 5]]
        # without payloads, there is nothing to cut
        assert len(list(tables("row").of_rows(blob, range(6)))) == 1


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    blobpack.pack({"ok": b"1", "\udcff": b"2"}, tmp_path / "a.tar", all_files=True)
    with blobpack.open(tmp_path / "a.tar") as blob:
        with pytest.raises(
            FormatError, match=r"a\.tar: the name of member '\\udcff' in row 1 is not UTF-8"
        ):
            list(tables("name").of_rows(blob, range(2)))
        [table] = tables("row", "bytes").of_rows(blob, range(2))
        assert table.column("bytes").to_pylist() == [b"1", b"2"]


def test_columns_are_checked(reader: Reader) -> None:
    facts = reader.index.facts
    assert check_columns(["name", "size", "name"], facts) == ("name", "size")
    with pytest.raises(ValueError, match="columns must be one of"):
        check_columns(["nothing"], facts)
    with pytest.raises(TypeError, match="columns"):
        check_columns("name", facts)
    with pytest.raises(ValueError, match="at least one"):
        check_columns([], facts)
    with pytest.raises(FactsMissingError, match="no width, height of its members"):
        check_columns(["name", "width", "height"], frozenset())


def test_filters_on_the_index(reader: Reader) -> None:
    import pyarrow.compute as pc

    chosen = tables("name", "bytes", "offset_start")
    for selection in (AllMembers(reader), select(reader, "b/*", "random", 1)):
        found = matching(
            reader,
            selection,
            chosen,
            (pc.field("offset_start") > 9000) & pc.starts_with(pc.field("name"), "b"),
        )
        assert found is not None
        expected = [
            row
            for row in map(int, selection.rows)
            if reader.index[row].offset_start > 9000 and reader.index[row].name[0] == "b"
        ]
        assert found.rows.tolist() == expected
        assert found.bytes_before(len(found)) == sum(reader.index[row].size for row in expected)
        assert matching(reader, selection, chosen, pc.field("bytes") == b"") is None


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "blobpack.integrations.ray.ray_data", raising=False)
    import blobpack.integrations.ray as face

    # a function that mentions the package goes to a worker
    assert cloudpickle.loads(cloudpickle.dumps(face)) is face
    assert set(dir(face)) >= {"Conditions", "read_blobs", "write_blobs"}
    with pytest.raises(PackageMissingError, match=r"pip install 'ray\[data\]'"):
        face.read_blobs  # noqa: B018
