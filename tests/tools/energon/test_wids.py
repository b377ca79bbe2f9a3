"""wids reads samples by blobpack's list of shards, and blobpack reads members by that of widsindex."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wids
from foreign_indexes import FOLDER, TAR

import blobpack


def widsindex(folder: Path, *tars: str) -> dict[str, object]:
    """Make a list of shards by wids, and return it."""
    program = Path(sys.executable).with_name("widsindex")
    subprocess.run(
        [sys.executable, program, "create", *tars, "-o", "theirs.json"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return json.loads((folder / "theirs.json").read_text())


@pytest.fixture
def folder(tmp_path):
    for shard in range(3):
        payloads = {
            f"{shard}/{i:04}.{kind}": f"{shard} {i} {kind}".encode()
            for i in range(20)
            for kind in ("bin", "txt")
        }
        blobpack.pack(payloads, tmp_path / f"{shard}.tar", all_files=True, index="none")
    return tmp_path


def test_the_sample_is_what_widsindex_writes(tmp_path):
    (tmp_path / "samples.tar").write_bytes(TAR.read_bytes())
    assert widsindex(tmp_path, "samples.tar") == json.loads((FOLDER / "wids.json").read_text())


def test_our_list_is_that_of_widsindex(folder):
    blobpack.write_foreign_index(folder, folder / "ours.json", "wids")
    theirs = widsindex(folder, "0.tar", "1.tar", "2.tar")
    assert json.loads((folder / "ours.json").read_text())["shardlist"] == theirs["shardlist"]


def test_blobpack_reads_by_the_list_of_widsindex(folder):
    widsindex(folder, "0.tar", "1.tar", "2.tar")
    with blobpack.open_blob(folder / "1.tar", index=folder / "theirs.json") as blob:
        assert blob.read("1/0007.txt") == b"1 7 txt"


def test_wids_reads_by_our_list(folder):
    blobpack.write_foreign_index(folder, folder / "ours.json", "wids")
    samples = wids.ShardListDataset(
        str(folder / "ours.json"), cache_dir=str(folder / "cache"), transformations=[]
    )
    assert len(samples) == 60
    sample = samples[27]
    assert sample["__key__"] == "1/0007"
    assert sample[".txt"].read() == b"1 7 txt"
    assert os.path.samefile(folder / "1.tar", folder / "1.tar")
