"""Lance reads payloads from the blob by the ranges that `Index.to_lance` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lance
import pytest

import blobpack
from blobpack import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PAYLOADS = {
    **{f"cats/{i}.txt": b"%d" % i * (i + 1) for i in range(200)},
    "größe 1%20.txt": b"spaces",
    "empty": b"",
}


def payloads_of(dataset: Any) -> dict[str, bytes]:
    names = dataset.to_table(columns=["name"])["name"].to_pylist()
    found = dataset.read_blobs("payload", indices=list(range(len(names))))
    files = dataset.take_blobs("payload", indices=list(range(len(names))))
    assert [file.read() for file in files] == [payload for _, payload in found]
    return dict(zip(names, (payload for _, payload in found), strict=True))


@pytest.mark.parametrize("stem", ["out", "größe 1%20#?"])
def test_ranges_are_the_payloads(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.tar"
    blobpack.pack(PAYLOADS, path, all_files=True)
    with blobpack.open_blob(path) as blob:
        blob.index.to_lance(tmp_path / "images.lance")
        dataset = lance.dataset(str(tmp_path / "images.lance"))
        assert payloads_of(dataset) == PAYLOADS
        columns = ["name", "offset_start", "crc32c"]
        written = dataset.to_table(columns=columns).to_pydict()
        assert written == blob.index.to_arrow().select(columns).to_pydict()
    # no payload was copied
    size = sum(each.stat().st_size for each in (tmp_path / "images.lance").rglob("*"))
    assert size < path.stat().st_size / 2


def test_a_dataset_is_not_replaced(tmp_path: Path) -> None:
    blobpack.pack(PAYLOADS, tmp_path / "out.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        blob.index.to_lance(tmp_path / "images.lance")
        with pytest.raises(StorageError, match=r"images\.lance: .*already exists"):
            blob.index[:1].to_lance(tmp_path / "images.lance")
    assert payloads_of(lance.dataset(str(tmp_path / "images.lance"))) == PAYLOADS


def test_ranges_of_a_selection_of_a_collection(tmp_path: Path) -> None:
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=50_000, all_files=True)
    with blobpack.open(tmp_path / "shards") as collection:
        assert len(collection.blobs) > 2
        some = collection.index[::-3]
        dataset = some.to_lance(tmp_path / "images.lance")
        assert payloads_of(dataset) == {name: PAYLOADS[name] for name in some.names}


def test_blob_and_dataset_in_s3(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_env.new_bucket()
    url = f"s3://{bucket}/größe 1%20.tar"
    blobpack.pack(PAYLOADS, url, all_files=True)
    account = {
        "aws_endpoint": s3_env.endpoint,
        "aws_access_key_id": s3_env.access_key,
        "aws_secret_access_key": s3_env.secret_key,
        "aws_region": s3_env.region,
        "allow_http": "true",
    }
    with blobpack.open_blob(url) as blob:
        blob.index.to_lance(f"s3://{bucket}/images.lance", storage_options=account)
    dataset = lance.dataset(f"s3://{bucket}/images.lance", storage_options=account)
    assert payloads_of(dataset) == PAYLOADS
