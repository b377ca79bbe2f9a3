"""Megatron-Energon reads samples by blobpack's indexes, and blobpack reads members by Energon's."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from foreign_indexes import FOLDER, SAMPLES, TAR, rows_of
from megatron.energon.cache.file_store import WebdatasetFileStore
from megatron.energon.epathlib import EPath
from megatron.energon.flavors.webdataset.itar import TarIndexReader
from megatron.energon.flavors.webdataset.itar_reader import ShardInfosITarReader
from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator
from megatron.energon.flavors.webdataset.structs import ShardInfo

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

SHARDS = 3
SAMPLES_EACH = 20


def prepare(folder: Path, names: list[str]) -> None:
    """Make the indexes of some tars by Energon."""
    WebdatasetPreparator.prepare_dataset(
        EPath(str(folder)), names, split_parts_ratio=[("train", 1.0)], workers=1
    )


def payloads_of(shard: int) -> dict[str, bytes]:
    return {
        f"{shard}/{i:04}.{kind}": f"{shard} {i} {kind} ".encode() * (i + 1)
        for i in range(SAMPLES_EACH)
        for kind in ("json", "jpg")
    }


@pytest.fixture
def folder(tmp_path):
    """Three tars and their indexes, which Energon made."""
    names = [f"shard_{shard}.tar" for shard in range(SHARDS)]
    for shard, name in enumerate(names):
        blobpack.pack(payloads_of(shard), tmp_path / name, all_files=True, index="none")
    prepare(tmp_path, names)
    return tmp_path


def test_the_samples_are_what_energon_writes(tmp_path):
    shutil.copy(TAR, tmp_path)
    prepare(tmp_path, ["samples.tar"])
    assert (tmp_path / "samples.tar.idx").read_bytes() == (FOLDER / "samples.tar.idx").read_bytes()
    found = []
    for path in (tmp_path / ".nv-meta" / "index.sqlite", SAMPLES["energon-sqlite"]):
        with closing(sqlite3.connect(path)) as database:
            found.append(
                [
                    database.execute(f"SELECT * FROM {table}").fetchall()
                    for table in ("samples", "sample_parts")
                ]
            )
    assert found[0] == found[1]


def test_blobpack_reads_by_both(folder):
    for shard in range(SHARDS):
        tar = folder / f"shard_{shard}.tar"
        for index in (folder / f"shard_{shard}.tar.idx", folder / ".nv-meta" / "index.sqlite"):
            with blobpack.open_blob(tar, index=index) as blob:
                found = dict(zip(blob.index.names, blob.read_many([*blob.index]), strict=True))
            assert found == payloads_of(shard)


def test_our_tar_idx_has_the_bytes_of_energons(folder):
    for shard in range(SHARDS):
        theirs = folder / f"shard_{shard}.tar.idx"
        blobpack.write_foreign_index(
            folder / f"shard_{shard}.tar", folder / "ours", "energon", force=True
        )
        assert (folder / "ours").read_bytes() == theirs.read_bytes()


def test_our_database_has_the_rows_of_energons(folder):
    blobpack.write_foreign_index(folder, folder / "ours.sqlite", "energon-sqlite")
    found = []
    for path in (folder / "ours.sqlite", folder / ".nv-meta" / "index.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            found.append(
                [
                    sorted(database.execute(f"SELECT * FROM {table}").fetchall())
                    for table in ("samples", "sample_parts")
                ]
            )
    assert found[0] == found[1]


def test_energon_reads_by_ours(folder):
    for path in (*folder.glob("*.idx"), folder / ".nv-meta" / "index.sqlite"):
        path.unlink()
    blobpack.write_foreign_index(folder, folder / ".nv-meta" / "index.sqlite", "energon-sqlite")
    infos = []
    for shard in range(SHARDS):
        tar = folder / f"shard_{shard}.tar"
        blobpack.write_foreign_index(tar, folder / f"{tar.name}.idx", "energon")
        infos.append(ShardInfo(name=tar.name, path=EPath(str(tar)), count=SAMPLES_EACH))
    store = WebdatasetFileStore(EPath(str(folder)))
    wanted = {name: each for shard in range(SHARDS) for name, each in payloads_of(shard).items()}
    assert {name: store[name][0] for name in wanted} == wanted
    reader = ShardInfosITarReader(EPath(str(folder)), infos)
    for row in (0, 1, SAMPLES_EACH - 1, SAMPLES_EACH, SHARDS * SAMPLES_EACH - 1):
        sample = reader[row]
        key = f"{row // SAMPLES_EACH}/{row % SAMPLES_EACH:04}"
        assert sample["__key__"] == key
        assert (sample["jpg"], sample["json"]) == (wanted[f"{key}.jpg"], wanted[f"{key}.json"])


def test_energon_reads_samples_behind_folders_and_pax_headers(tmp_path):
    shutil.copy(TAR, tmp_path)
    prepare(tmp_path, ["samples.tar"])
    for path in (tmp_path / "samples.tar.idx", tmp_path / ".nv-meta" / "index.sqlite"):
        path.unlink()
    tar = tmp_path / "samples.tar"
    blobpack.write_foreign_index(tar, tmp_path / ".nv-meta" / "index.sqlite", "energon-sqlite")
    blobpack.write_foreign_index(tar, tmp_path / "samples.tar.idx", "energon")
    content = tar.read_bytes()
    store = WebdatasetFileStore(EPath(str(tmp_path)))
    for name, (start, end) in rows_of(tar).items():
        assert store[name][0] == content[start:end]
    reader = ShardInfosITarReader(
        EPath(str(tmp_path)), [ShardInfo(name=tar.name, path=EPath(str(tar)), count=6)]
    )
    assert [reader[row]["__key__"] for row in range(6)] == [
        *(f"cats/{i:04}" for i in range(3)),
        "dogs/größe 1",
        f"dogs/{'long' * 30}",
        "empty",
    ]
    with TarIndexReader(str(tar)) as numbers:
        assert len(numbers) == 7


def test_a_tar_that_energon_indexed_and_that_was_written_again(folder):
    tar = folder / "shard_1.tar"
    blobpack.pack(
        dict(reversed(payloads_of(1).items())), tar, all_files=True, index="none", force=True
    )
    with pytest.raises(blobpack.StaleIndexError, match=r"shard_1\.tar"):
        blobpack.open_blob(tar, index=folder / ".nv-meta" / "index.sqlite")
    info = json.loads((folder / ".nv-meta" / ".info.json").read_text())
    assert list(info["shard_counts"]) == [f"shard_{shard}.tar" for shard in range(SHARDS)]
