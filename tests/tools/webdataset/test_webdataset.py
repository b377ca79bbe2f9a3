"""WebDataset reads the blobs that pack_shards makes, and finds each sample whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import webdataset
from hypothesis import given, strategies as st
from webdataset.tariterators import base_plus_ext

import blobpack
from blobpack.tar.names import split_sample

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 200


def payloads() -> dict[str, bytes]:
    return {
        f"{i // 100}/{i:03}.{field}": f"{i} {field} ".encode() * (i % 17 + 1)
        for i in range(COUNT)
        for field in ("cls", "jpg", "seg.png")
    }


@pytest.mark.parametrize("shard_bytes", [7000, 30_000])
@pytest.mark.parametrize("source", ["folder", "mapping"])
def test_samples_of_shards_are_whole(tmp_path: Path, shard_bytes: int, source: str) -> None:
    packed = payloads()
    if source == "folder":
        for name, payload in packed.items():
            path = tmp_path / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(payload)
    blobpack.pack_shards(
        tmp_path / "files" if source == "folder" else packed,
        tmp_path / "shards",
        shard_bytes,
        all_files=True,
    )
    paths = sorted(map(str, (tmp_path / "shards").glob("*.tar")))
    assert len(paths) > 5
    dataset = webdataset.WebDataset(
        f"{tmp_path}/shards/{{00000..{len(paths) - 1:05}}}.tar", shardshuffle=False
    )
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == [f"{i // 100}/{i:03}" for i in range(COUNT)]
    for sample in samples:
        assert {key for key in sample if not key.startswith("__")} == {"cls", "jpg", "seg.png"}
        for field in ("cls", "jpg", "seg.png"):
            assert sample[field] == packed[f"{sample['__key__']}.{field}"]
    # the same samples by name, at random
    with blobpack.open(tmp_path / "shards") as collection:
        assert collection.read("1/150.seg.png") == packed["1/150.seg.png"]


@given(st.text(st.sampled_from("ab./_"), max_size=9))
def test_names_are_split_as_webdataset_splits_them(name: str) -> None:
    stem, field = split_sample(name)
    their_stem, their_field = base_plus_ext(name)
    if field:
        assert (stem, field) == (their_stem, their_field.lower())
    # WebDataset also makes samples of hidden files, and of names that end with a dot
    elif their_field:
        assert "/." in f"/{name}" or name.startswith("__")
