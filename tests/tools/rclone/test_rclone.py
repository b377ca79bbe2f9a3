"""rclone lists, copies and checks the members of a blob."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from s3_tools import files_below, members, serving_s3, settings

import blobpack

RCLONE = Path(sys.executable).with_name("rclone")


@pytest.fixture
def payloads(small_images):
    return members(small_images)


@pytest.fixture
def url(payloads, tmp_path):
    blobpack.pack(payloads.items(), tmp_path / "photos.tar", all_files=True)
    with serving_s3(tmp_path / "photos.tar") as url:
        yield url


@pytest.fixture
def rclone(url):
    env = settings(url, RCLONE_CONFIG="/nowhere") | {
        "RCLONE_CONFIG_BLOB_TYPE": "s3",
        "RCLONE_CONFIG_BLOB_PROVIDER": "Other",
        "RCLONE_CONFIG_BLOB_ENV_AUTH": "true",
        "RCLONE_CONFIG_BLOB_ENDPOINT": url,
    }

    def run(*arguments, fails=False):
        command = [RCLONE, *map(str, arguments), "--retries", "1"]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_listing(rclone, payloads):
    assert rclone("lsd", "blob:").split()[-1] == "photos"
    assert rclone("lsf", "blob:photos/cats").split() == ["0001.jpg", "0002.jpg", "turned.jpg"]
    found = json.loads(rclone("lsjson", "--recursive", "--files-only", "blob:photos"))
    assert {one["Path"]: one["Size"] for one in found} == {
        name: len(payload) for name, payload in payloads.items()
    }
    assert len(rclone("ls", "blob:photos", "--s3-list-version", "1").splitlines()) == len(payloads)
    assert f"({sum(map(len, payloads.values()))} " in rclone("size", "blob:photos")


def test_copy_and_check(rclone, payloads, tmp_path):
    rclone("copy", "blob:photos", tmp_path / "all")
    assert files_below(tmp_path / "all") == payloads
    rclone("check", "blob:photos", tmp_path / "all", "--download")
    rclone("check", "blob:photos", tmp_path / "all")
    (tmp_path / "all" / "cats" / "0001.jpg").write_bytes(b"x" * len(payloads["cats/0001.jpg"]))
    assert "1 differences found" in rclone(
        "check", "blob:photos", tmp_path / "all", "--download", fails=True
    )


def test_reading(rclone, payloads):
    assert rclone("cat", "blob:photos/ä/ö~ü.png").encode() == payloads["ä/ö~ü.png"]
    assert (
        rclone("cat", "blob:photos/%41%2F%.jpg", "--offset", "2", "--count", "3").encode()
        == payloads["%41%2F%.jpg"][2:5]
    )


def test_refusals(rclone, tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    assert "not allowed" in rclone("copy", tmp_path / "new", "blob:photos", fails=True)
