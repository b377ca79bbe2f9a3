"""The AWS CLI lists, copies and synchronises the members of a blob."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import commands
from s3_tools import files_below, members, serving_s3, settings

import blobpack

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture
def payloads(small_images):
    return members(small_images)


@pytest.fixture
def url(payloads, tmp_path):
    blobpack.pack(payloads.items(), tmp_path / "photos.tar", all_files=True)
    with serving_s3(tmp_path / "photos.tar") as url:
        yield url


@pytest.fixture
def aws(url):
    def run(*arguments, fails=False, **more):
        command = [AWS, *map(str, arguments)]
        done = subprocess.run(
            command,
            env=settings(url, **more),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_ls(aws, payloads):
    assert aws("s3", "ls").split()[-1] == "photos"
    lines = aws("s3", "ls", "s3://photos/cats/").splitlines()
    assert [line.split()[2:] for line in lines] == [
        [str(len(payloads[f"cats/{name}"])), name]
        for name in ("0001.jpg", "0002.jpg", "turned.jpg")
    ]
    assert "PRE cats/" in aws("s3", "ls", "s3://photos")
    listed = aws("s3", "ls", "s3://photos", "--recursive", "--summarize")
    assert f"Total Objects: {len(payloads)}" in listed
    assert f"Total Size: {sum(map(len, payloads.values()))}" in listed


def test_cp(aws, payloads, tmp_path):
    for name in ("cats/0001.jpg", "dogs/größer 1.png", "large.bin", "empty.bin"):
        aws("s3", "cp", f"s3://photos/{name}", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == payloads[name]
    aws("s3", "cp", "--recursive", "s3://photos", tmp_path / "all")
    assert files_below(tmp_path / "all") == payloads


def test_sync_fetches_once(aws, payloads, tmp_path):
    assert aws("s3", "sync", "s3://photos", tmp_path / "all").count("download:") >= len(payloads)
    assert files_below(tmp_path / "all") == payloads
    assert aws("s3", "sync", "s3://photos", tmp_path / "all") == ""


def test_s3api(aws, payloads, tmp_path):
    head = json.loads(
        aws(
            "s3api",
            "head-object",
            "--bucket",
            "photos",
            "--key",
            "cats/0001.jpg",
            "--checksum-mode",
            "ENABLED",
        )
    )
    assert head["ContentLength"] == len(payloads["cats/0001.jpg"])
    assert head["ContentType"] == "image/jpeg"
    assert head["ChecksumCRC32C"]
    pages = json.loads(aws("s3api", "list-objects-v2", "--bucket", "photos", "--page-size", "2"))
    assert [one["Key"] for one in pages["Contents"]] == sorted(payloads, key=str.encode)
    aws(
        "s3api",
        "get-object",
        "--bucket",
        "photos",
        "--key",
        "large.bin",
        "--range",
        "bytes=5-9",
        tmp_path / "part",
    )
    assert (tmp_path / "part").read_bytes() == payloads["large.bin"][5:10]


def test_presign(aws, payloads):
    import urllib.request

    link = aws("s3", "presign", "s3://photos/dogs/größer 1.png").strip()
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == payloads["dogs/größer 1.png"]


PAGE = Path(__file__).parents[3] / "docs" / "guides" / "s3-face.md"
SIZES = {
    "cats/0001.jpg": 51200,
    "cats/0002.jpg": 48317,
    "dogs/a b.jpg": 20480,
    "dogs/größer.png": 30001,
    "readme.txt": 1234,
}


def test_the_outputs_that_the_docs_show(tmp_path):
    blob = tmp_path / "photos.tar"
    blobpack.pack(((name, bytes(size)) for name, size in SIZES.items()), blob, all_files=True)
    # noon of 2026-01-31, UTC
    os.utime(blob, (1769860800, 1769860800))
    shown = PAGE.read_text().partition("## The AWS CLI")[2].partition("```console\n")[2]
    blocks = list(commands(shown.partition("```")[0]))
    assert len(blocks) == 4
    with serving_s3(blob) as url:
        path = f"{AWS.parent}{os.pathsep}{os.environ['PATH']}"
        env = settings(url, PATH=path, TZ="UTC", COLUMNS="100")
        for command, output in blocks:
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            assert lines(done.stdout) == lines(output)


def lines(output):
    """The lines of an output, without those that show how far a copy is."""
    found = [line.rstrip() for line in output.splitlines()]
    return [line for line in found if line and not line.startswith("Completed")]


def test_refusals(aws, tmp_path):
    assert "SignatureDoesNotMatch" in aws(
        "s3", "ls", "s3://photos", fails=True, AWS_SECRET_ACCESS_KEY="wrong"
    )
    assert "Access Denied" in aws("s3", "ls", "s3://photos", "--no-sign-request", fails=True)
    (tmp_path / "new").write_bytes(b"new")
    assert "MethodNotAllowed" in aws("s3", "cp", tmp_path / "new", "s3://photos/new", fails=True)
