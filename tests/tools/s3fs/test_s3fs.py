"""s3fs, and with it every library that reads by fsspec, finds and reads members."""

from __future__ import annotations

import pytest
import s3fs
from s3_tools import ACCESS_KEY, SECRET_KEY, files_below, members, serving_s3

import blobpack


@pytest.fixture
def payloads(small_images):
    return members(small_images)


@pytest.fixture
def url(payloads, tmp_path, no_aws):
    blobpack.pack(payloads.items(), tmp_path / "photos.tar", all_files=True)
    with serving_s3(tmp_path / "photos.tar") as url:
        yield url


@pytest.fixture
def s3(url):
    return s3fs.S3FileSystem(
        key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=url, skip_instance_cache=True
    )


def test_finding(s3, payloads):
    assert s3.ls("") == ["photos"]
    assert sorted(s3.find("photos")) == sorted(f"photos/{name}" for name in payloads)
    assert s3.ls("photos/cats") == [
        f"photos/cats/{name}" for name in ("0001.jpg", "0002.jpg", "turned.jpg")
    ]
    assert s3.glob("photos/*/000*.jpg") == ["photos/cats/0001.jpg", "photos/cats/0002.jpg"]
    assert s3.isdir("photos/cats")
    assert s3.isfile("photos/cats/0001.jpg")
    assert not s3.exists("photos/none")
    assert s3.info("photos/large.bin")["size"] == len(payloads["large.bin"])


def test_reading(s3, payloads, tmp_path):
    for name, payload in payloads.items():
        assert s3.cat_file(f"photos/{name}") == payload
    with s3.open("photos/large.bin") as file:
        file.seek(1_000_000)
        assert file.read(10) == payloads["large.bin"][1_000_000:1_000_010]
    assert s3.cat_file("photos/large.bin", start=5, end=9) == payloads["large.bin"][5:9]
    s3.get("photos/cats", str(tmp_path / "cats"), recursive=True)
    assert set(files_below(tmp_path / "cats")) == {"0001.jpg", "0002.jpg", "turned.jpg"}


def test_refusals(s3, url):
    with pytest.raises(FileNotFoundError):
        s3.cat_file("photos/none")
    with pytest.raises(OSError, match="not allowed"):
        s3.pipe_file("photos/new", b"new")
    wrong = s3fs.S3FileSystem(
        key=ACCESS_KEY, secret="wrong", endpoint_url=url, skip_instance_cache=True
    )
    with pytest.raises(PermissionError):
        wrong.cat_file("photos/cats/0001.jpg")
