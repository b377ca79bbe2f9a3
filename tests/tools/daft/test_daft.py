"""Daft reads payloads from the blob by the files of `Index.to_daft`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import daft
import pytest
from daft.io import IOConfig, S3Config

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PAYLOADS = {
    **{f"cats/{i}.txt": b"%d" % i * (i + 1) for i in range(200)},
    "größe 1%20.txt": b"spaces",
    "empty": b"",
}


@daft.func
def read(file: daft.File) -> bytes:
    if file is None:
        return b""
    with file.open() as opened:
        return opened.read()


def payloads_of(frame: Any) -> dict[str, bytes]:
    columns = frame.select("name", read(daft.col("file")).alias("payload")).to_pydict()
    return dict(zip(columns["name"], columns["payload"], strict=True))


@pytest.mark.parametrize("stem", ["out", "größe 1%20#?"])
def test_files_are_the_payloads(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.tar"
    blobpack.pack(PAYLOADS, path, all_files=True)
    with blobpack.open_blob(path) as blob:
        frame = blob.index.to_daft()
        assert payloads_of(frame) == PAYLOADS
        table = blob.index.to_arrow()
        assert frame.column_names == [*table.column_names, "file"]
        assert frame.to_pydict()["offset_start"] == table["offset_start"].to_pylist()
        large = frame.where(daft.col("offset_end") - daft.col("offset_start") > 500)
        assert payloads_of(large) == {
            name: payload for name, payload in PAYLOADS.items() if len(payload) > 500
        }


def test_files_of_a_selection_of_a_collection(tmp_path: Path) -> None:
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=50_000, all_files=True)
    with blobpack.open(tmp_path / "shards") as collection:
        assert len(collection.blobs) > 2
        some = collection.index[::-3]
        assert payloads_of(some.to_daft()) == {name: PAYLOADS[name] for name in some.names}


def test_files_of_a_blob_in_s3(s3_env: S3Server) -> None:
    url = f"s3://{s3_env.new_bucket()}/größe 1%20.tar"
    blobpack.pack(PAYLOADS, url, all_files=True)
    account = S3Config(
        endpoint_url=s3_env.endpoint,
        key_id=s3_env.access_key,
        access_key=s3_env.secret_key,
        region_name=s3_env.region,
        use_ssl=False,
        force_virtual_addressing=False,
    )
    with (
        blobpack.open_blob(url) as blob,
        daft.planning_config_ctx(default_io_config=IOConfig(s3=account)),
    ):
        assert payloads_of(blob.index.to_daft()) == PAYLOADS
