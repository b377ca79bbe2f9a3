"""Dask reads members in threads, in processes and in the workers of a cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dask
import dask.bag
import dask.dataframe
import fsspec
import pytest
from dask.bytes import read_bytes
from dask.distributed import Client

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

TABLES = {f"tables/{i}.csv": f"i,square\n{i},{i * i}\n{i + 100},0\n".encode() for i in range(12)}
LINES = {f"lines/{i}.jsonl": json.dumps({"n": i}).encode() + b"\n" for i in range(12)}


def pack(target: object) -> None:
    blobpack.pack(TABLES | LINES, target, all_files=True)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_members_are_tables_and_lines(tmp_path: Path, scheduler: str) -> None:
    pack(tmp_path / "out.tar")
    behind = f"::file://{tmp_path}/out.tar"
    with dask.config.set(scheduler=scheduler, num_workers=2):
        frame = dask.dataframe.read_csv(f"blob://tables/*.csv{behind}")
        assert frame.npartitions == 12
        assert int(frame.square.sum().compute()) == sum(i * i for i in range(12))
        lines = dask.bag.read_text(f"blob://lines/*.jsonl{behind}").map(json.loads)
        assert sorted(line["n"] for line in lines.compute()) == list(range(12))
        _, blocks = read_bytes(f"blob://lines/*.jsonl{behind}", sample=False)
        found = dask.compute(*[block for blocks_of_file in blocks for block in blocks_of_file])
        assert sorted(found) == sorted(LINES.values())


def test_workers_of_a_cluster_share_a_blob_in_s3(s3_env: S3Server) -> None:
    place = f"s3://{s3_env.new_bucket()}/out.tar"
    pack(place)
    fs = fsspec.filesystem("blob", fo=place)
    names = fs.glob("lines/*")

    def sizes(names: list[str]) -> list[int]:
        return [len(payload) for payload in fs.cat(names).values()]

    with Client(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
    ) as client:
        parts = [names[first::4] for first in range(4)]
        found = client.gather(client.map(sizes, parts))
    assert found == [[len(LINES[name]) for name in sorted(part)] for part in parts]
