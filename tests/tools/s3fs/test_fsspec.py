"""Chained URLs whose blob lies in S3 or on a web server, and kerchunk's references read by s3fs and fsspec's HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import fsspec
import pytest
from webserver import WebServer

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PAYLOADS = {
    **{f"cats/{i:03}.txt": b"%d" % i * (i + 1) for i in range(200)},
    "größe 1%20.txt": b"spaces",
    "empty": b"",
}


def s3fs_options(s3: S3Server) -> dict[str, object]:
    return {
        "key": s3.access_key,
        "secret": s3.secret_key,
        "client_kwargs": {"endpoint_url": s3.endpoint, "region_name": s3.region},
    }


def test_a_chained_url_of_a_blob_in_s3(s3: S3Server, no_aws: None, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    blobpack.pack(PAYLOADS, tmp_path / "out.tar", all_files=True)
    s3.put(bucket, "out.tar", (tmp_path / "out.tar").read_bytes())
    options = {"s3": s3fs_options(s3)}
    url = f"blob://cats/*.txt::s3://{bucket}/out.tar"
    files = fsspec.open_files(url, **options)
    assert len(files) == 200
    with files[7] as file:
        assert file.read() == b"7" * 8
    fs, path = fsspec.core.url_to_fs(f"blob::s3://{bucket}/out.tar", **options)
    before = fs.reader.stats.requests
    assert fs.cat(path, recursive=True) == PAYLOADS
    # the names, and the payloads
    assert fs.reader.stats.requests - before < 10


def test_a_chained_url_of_a_collection_in_s3(s3_env: S3Server) -> None:
    prefix = f"{s3_env.new_bucket()}/größe 1%20"
    blobpack.pack_shards(PAYLOADS, f"s3://{prefix}", shard_bytes=50_000, all_files=True)
    for place in (prefix, f"{prefix}/", f"{prefix}/collection.idx"):
        fs, path = fsspec.core.url_to_fs(f"blob::s3://{place}")
        assert len(fs.reader.blobs) > 2
        assert fs.cat(path, recursive=True) == PAYLOADS


def test_a_chained_url_of_a_blob_on_a_web_server(tmp_path: Path) -> None:
    blobpack.pack(PAYLOADS, tmp_path / "out.tar", all_files=True)
    with (
        WebServer(tmp_path) as web,
        fsspec.open(f"blob://cats/003.txt::{web.url}out.tar") as file,
    ):
        assert file.read() == b"3333"


@pytest.mark.parametrize("shards", [False, True])
def test_references_are_read_from_s3(s3_env: S3Server, *, shards: bool) -> None:
    root = f"s3://{s3_env.new_bucket()}/größe 1%20"
    if shards:
        blobpack.pack_shards(PAYLOADS, root, shard_bytes=50_000, all_files=True)
    else:
        blobpack.pack(PAYLOADS, f"{root}.tar", all_files=True)
    with blobpack.open(f"{root}/" if shards else f"{root}.tar") as reader:
        references = json.loads(json.dumps(reader.index.to_references()))
        assert len(references["templates"]) == len(reader.blobs)
    fs = fsspec.filesystem(
        "reference", fo=references, remote_protocol="s3", remote_options=s3fs_options(s3_env)
    )
    assert fs.cat(list(PAYLOADS)) == PAYLOADS
    assert len(fs.ls("cats", detail=False)) == 200
    # each by a read of its own
    assert fs.cat_file("empty") == b""
    assert fs.cat_file("cats/123.txt") == PAYLOADS["cats/123.txt"]


def test_references_are_read_from_a_web_server(tmp_path: Path) -> None:
    blobpack.pack(PAYLOADS, tmp_path / "out.tar", all_files=True)
    with WebServer(tmp_path) as web:
        with blobpack.open_blob(f"{web.url}out.tar") as blob:
            references = blob.index.to_references()
        fs = fsspec.filesystem("reference", fo=references, remote_protocol="http")
        assert fs.cat(list(PAYLOADS)) == PAYLOADS
        assert fs.cat_file("empty") == b""
