"""A modification time that is not known is given out as unknown, never as 1970."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from click.testing import CliRunner

import blobpack
from blobpack import Index, Member
from blobpack.cli.main import main
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from pathlib import Path

TIME = 1_700_000_000


def packed(folder: Path, **options: bool) -> Path:
    """Pack two files, one of them with an mtime of 1970, as pack stores any file by default."""
    (folder / "in").mkdir()
    for name, mtime in ("a.svg", TIME), ("b.svg", 0):
        (folder / "in" / name).write_bytes(b"<svg/>")
        os.utime(folder / "in" / name, (1, mtime))
    blobpack.pack(folder / "in", folder / "o.tar", **options)
    return folder / "o.tar"


def times_everywhere(index: Index, folder: Path) -> list[list[int | None]]:
    """Return the times by each way out of an index."""
    index.to_parquet(folder / "i.parquet")
    index.save(folder / "i.idx")
    lines, cells = io.BytesIO(), io.BytesIO()
    write_offsets(index, lines, format="jsonl")
    write_offsets(index, cells, format="csv")
    frame = index.to_pandas()
    assert frame["mtime"].dtype == pd.Int64Dtype()
    assert frame["offset_start"].dtype == "int64"
    ways = [
        [member.mtime for member in index],
        [index[name].mtime for name in index.names],
        [member.mtime for member in Index.load(folder / "i.idx")],
        [member.mtime for member in Index.from_parquet(folder / "i.parquet")],
        [member.mtime for member in Index.from_arrow(frame)],
        index.to_arrow().column("mtime").to_pylist(),
        [None if time is pd.NA else int(time) for time in frame["mtime"]],
        [json.loads(line)["mtime"] for line in lines.getvalue().splitlines()],
        [
            int(row["mtime"]) if row["mtime"] else None
            for row in csv.DictReader(io.StringIO(cells.getvalue().decode()))
        ],
    ]
    assert index.to_numpy()["mtime"].tolist() == [time or 0 for time in ways[0]]
    return ways


@pytest.mark.parametrize("keep_mtime", [False, True])
def test_each_way_out_says_what_is_known(keep_mtime: bool, tmp_path: Path) -> None:
    path = packed(tmp_path, keep_mtime=keep_mtime)
    expected = [TIME if keep_mtime else None, None]
    with blobpack.open_blob(path) as blob:
        stored = blob.index
        for index in (stored, blobpack.scan(path, facts=True)):
            assert all(times == expected for times in times_everywhere(index, tmp_path))
    done = CliRunner().invoke(main, ["offsets", str(path), "--format", "jsonl", "-o", "-"])
    lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert [line["mtime"] for line in lines] == expected


def test_payloads_have_no_time(tmp_path: Path) -> None:
    report = blobpack.pack([("a.svg", b"<svg/>")], tmp_path / "o.tar")
    assert [member.mtime for member in report.index] == [None]
    blobpack.append(tmp_path / "o.tar", [("b.svg", b"<svg/>")])
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        assert [member.mtime for member in blob.index] == [None, None]


def test_the_times_that_are_known_stay_beside_unknown_ones(tmp_path: Path) -> None:
    path = packed(tmp_path, keep_mtime=True)
    blobpack.append(path, [("c.svg", b"<svg/>")])
    with blobpack.open_blob(path) as blob:
        assert [member.mtime for member in blob.index] == [TIME, None, None]
    with tarfile.open(path) as judge:
        assert [member.mtime for member in judge if member.name.endswith("svg")] == [TIME, 0, 0]


def test_members_of_a_caller_may_have_a_time_or_none() -> None:
    index = Index([Member("a", 0, 1, mtime=5), Member("b", 1, 2), Member("c", 2, 3, mtime=-5)])
    assert [member.mtime for member in index] == [5, None, -5]
    assert Index([Member("a", 0, 1)]).facts == frozenset()
