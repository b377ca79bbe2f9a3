"""Other packages find payloads by the references that an index makes; tests/tools/ has Daft, Lance and remote blobs."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

import blobpack
from blobpack import Index, Member, PackageMissingError
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

PAYLOADS = {
    **{f"cats/{i}.txt": b"%d" % i * (i + 1) for i in range(40)},
    "{{u}}/{name}.txt": b"braces",
    "größe 1%20.txt": b"spaces",
    "empty": b"",
}


def read_by(references: dict[str, Any]) -> dict[str, bytes]:
    """Read all files of references, as they are after JSON, by fsspec's own file system."""
    fs = fsspec.filesystem(
        "reference", fo=json.loads(json.dumps(references)), skip_instance_cache=True
    )
    return {path: fs.cat_file(path) for path in fs.find("")}


@pytest.mark.parametrize("stem", ["out", "größe 1%20#?", "a{{b}}c"])
def test_fsspec_reads_a_blob_by_its_references(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.tar"
    blobpack.pack(PAYLOADS, path, all_files=True)
    with blobpack.open_blob(path) as blob:
        references = blob.index.to_references()
        assert read_by(references) == PAYLOADS
        assert references["version"] == 1
        some = blob.index.select("cats/1*")
        assert read_by(some.to_references()) == {name: PAYLOADS[name] for name in some.names}
    assert read_by(blob.index.to_references()) == PAYLOADS


def test_references_of_a_collection_name_each_blob_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=8000, all_files=True)
    # the paths are absolute, wherever they are read
    monkeypatch.chdir(tmp_path)
    with blobpack.open("shards") as collection:
        monkeypatch.chdir("/")
        assert len(collection.blobs) > 3
        references = collection.index.to_references()
        assert references["templates"] == {
            f"u{i}": f"file://{blob.url}" for i, blob in enumerate(collection.blobs)
        }
        assert read_by(references) == PAYLOADS
        picked = collection.index[[30, 2, 17]] + collection.index[-3:]
        assert read_by(picked.to_references()) == {name: PAYLOADS[name] for name in picked.names}


def test_of_members_that_share_a_name_the_last_one_counts(tmp_path: Path) -> None:
    index = Index([Member("a", 512, 513), Member("b", 1536, 1537), Member("a", 2560, 2562)])
    references = index.to_references("s3://bucket/out.tar")
    assert references == {
        "version": 1,
        "templates": {"u": "s3://bucket/out.tar"},
        "refs": {"a": ["{{u}}", 2560, 2], "b": ["{{u}}", 1536, 1]},
    }


def test_another_url_may_stand_for_each_blob(tmp_path: Path) -> None:
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=8000, all_files=True)
    with blobpack.open(tmp_path / "shards") as collection:
        names = [os.path.basename(blob.url) for blob in collection.blobs]
        (tmp_path / "shards").rename(tmp_path / "moved")
        urls = [tmp_path / "moved" / name for name in names]
        assert read_by(collection.index.to_references(urls)) == PAYLOADS
        with pytest.raises(ValueError, match=f"each of the {len(names)} blobs, in their order"):
            collection.index.to_references(urls[:-1])
        with pytest.raises(ValueError, match="in their order, not 1"):
            collection.index.to_references("s3://bucket/out.tar")


def test_offsets_of_a_compressed_blob_are_not_those_of_its_file(tmp_path: Path) -> None:
    blobpack.pack(PAYLOADS, tmp_path / "out.tar.zst", all_files=True)
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=8000, all_files=True, level=3)
    for place in ("out.tar.zst", "shards"):
        with blobpack.open(tmp_path / place) as reader:
            assert all(blob.is_compressed for blob in reader.blobs)
            with pytest.raises(ValueError, match="is compressed"):
                reader.index.to_references()


def test_an_index_without_an_open_blob_needs_a_url(tmp_path: Path) -> None:
    index = Index([Member("a", 512, 513)])
    with pytest.raises(ValueError, match="url must be given"):
        index.to_references()
    with blobpack.Blob(MemoryStore(bytes(2048), "memory"), index) as blob:
        with pytest.raises(ValueError, match="url must be given"):
            blob.index.to_references()
        assert blob.index.to_references("/x/y.tar")["templates"] == {"u": "file:///x/y.tar"}


@pytest.mark.parametrize("url", [3, [3], b"x.tar"])
def test_a_url_of_another_type_is_refused(url: Any) -> None:
    with pytest.raises(TypeError, match="url must be"):
        Index([Member("a", 512, 513)]).to_references(url)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("daft", "lance"):
        monkeypatch.setitem(sys.modules, package, None)
    index = Index([Member("a", 512, 513)])
    with pytest.raises(PackageMissingError, match="pip install daft"):
        index.to_daft("/x.tar")
    with pytest.raises(PackageMissingError, match="pip install pylance"):
        index.to_lance(tmp_path / "x.lance", "/x.tar")
    assert not list(tmp_path.iterdir())
