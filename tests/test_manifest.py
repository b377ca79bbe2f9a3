"""A list of what to pack, in text, CSV or JSON lines: URLs, keys and paths, in any mixture."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from test_cli import COMMAND

import blobpack
from blobpack import read_manifest
from blobpack.errors import DuplicateNameError, FormatError, SourceError, UnsafeNameError

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server


@pytest.fixture
def folder(tmp_path: Path, small_images: dict[str, bytes]) -> Path:
    folder = tmp_path / "imgs"
    for name, payload in small_images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
    return folder


def written(tmp_path: Path, name: str, rows: list[dict[str, str]]) -> Path:
    """Write a list of rows that have a place, and perhaps a name."""
    path = tmp_path / name
    if name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["label", "key", "name"])
            writer.writeheader()
            writer.writerows({"label": "x,\ny", **row} for row in rows)
    elif name.endswith(".jsonl"):
        path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        path.write_text("\ufeff" + "\r\n".join(row["key"] for row in rows) + "\r\n\r\n")
    return path


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.jsonl", "noending"])
@pytest.mark.parametrize("far", [False, True])
def test_what_is_listed_is_packed_in_byte_order(
    s3_env: S3Server, tmp_path, folder, small_images, name, far
):
    bucket = s3_env.new_bucket()
    for key, payload in small_images.items():
        s3_env.put(bucket, f"some/imgs/{key}", payload)
    rows = [{"key": key} for key in reversed(small_images)]
    base = f"s3://{bucket}/some/imgs/" if far else folder
    blobpack.pack(read_manifest(written(tmp_path, name, rows), base), tmp_path / "out.tar")
    blobpack.pack(folder, tmp_path / "expected.tar")
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "expected.tar").read_bytes()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_names_urls_and_paths_mix(s3_env, tmp_path, folder, small_images, kind):
    bucket = s3_env.new_bucket()
    payload = small_images["cats/0001.jpg"]
    rows = [
        {"key": s3_env.put(bucket, "a b/+ä.jpg", payload)},
        {"key": s3_env.put(bucket, "named", payload), "name": "z/last.jpg"},
        {"key": (folder / "cats/0002.jpg").as_uri(), "name": "0.jpg"},
        {"key": str(folder / "birds/grey.png")},
        {"key": "dogs/clear.png"},
    ]
    blobpack.pack(read_manifest(written(tmp_path, f"l.{kind}", rows), folder), tmp_path / "out.tar")
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        assert list(blob.index.names) == sorted(
            ["0.jpg", "a b/+ä.jpg", "dogs/clear.png", f"{folder}/birds/grey.png"[1:], "z/last.jpg"],
            key=str.encode,
        )
        assert blob.read("z/last.jpg") == payload
        assert blob.read("0.jpg") == small_images["cats/0002.jpg"]


def test_large_objects_that_were_not_listed_are_read_whole(s3_env, tmp_path, small_images):
    """The first answer brings but the end of one."""
    payload = small_images["cats/0001.jpg"] + bytes(300_000) + b"end"
    url = s3_env.put(s3_env.new_bucket(), "large.jpg", payload)
    (tmp_path / "l.txt").write_text(url)
    blobpack.pack(read_manifest(tmp_path / "l.txt"), tmp_path / "out.tar")
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        assert blob.read("large.jpg") == payload


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("l.csv", "file\na.jpg\n", FormatError, "no column url, path or key"),
        ("l.csv", "url,name\n,x.jpg\n", FormatError, "line 2: it has no url"),
        ("l.csv", 'url\n"a.jpg\n', FormatError, "line 2: unexpected end"),
        ("l.jsonl", '"a.jpg"\n{"url": 3}\n', FormatError, "line 2: neither a string"),
        ("l.jsonl", '"a.jpg"\n[1]\n', FormatError, "line 2: neither a string"),
        ("l.jsonl", '"a.jpg"\n{"url"\n', FormatError, "line 2: "),
        ("l.txt", "a.jpg\ngopher://host/x.jpg\n", FormatError, "line 2: 'gopher://host/x.jpg'"),
        ("l.txt", "s3://bucket\n", FormatError, "line 1: 's3://bucket' is not s3://bucket/key"),
        ("l.txt", "a.jpg\n../b.jpg\n", UnsafeNameError, "line 2: "),
        ("l.txt", "a.jpg\n./a.jpg\n", DuplicateNameError, "would both be member 'a.jpg'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, content, error, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=says):
        read_manifest(tmp_path / name)


def test_what_is_not_there_is_an_error(s3_env, tmp_path):
    bucket = s3_env.new_bucket()
    for place in (f"s3://{bucket}/none.jpg", str(tmp_path / "none.jpg")):
        (tmp_path / "l.txt").write_text(place)
        with pytest.raises(SourceError, match=r"none\.jpg is not there") as caught:
            blobpack.pack(read_manifest(tmp_path / "l.txt"), tmp_path / "out.tar")
        assert caught.value.paths == (place,)
        assert not (tmp_path / "out.tar").exists()
    with pytest.raises(SourceError, match="can't be read"):
        read_manifest(tmp_path / "no list.txt")


PEAK = """
import resource, sys
import blobpack
from blobpack.packing import objects
objects.PAYLOADS_AHEAD_BYTES = 16 << 20
listed = blobpack.read_manifest(sys.argv[1])
blobpack.pack(listed, sys.argv[2], globs=["0000.jpg"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blobpack.pack(listed, sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("far", [False, True])
def test_memory_is_bounded_though_sizes_are_not_known(s3_env, tmp_path, small_images, far):
    payload = small_images["cats/0001.jpg"] + bytes(6 << 20)
    (tmp_path / "large.jpg").write_bytes(payload)
    place = str(tmp_path / "large.jpg")
    if far:
        place = s3_env.put(s3_env.new_bucket(), "large.jpg", payload)
    rows = [{"key": place, "name": f"{number:04}.jpg"} for number in range(48)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, written(tmp_path, "l.csv", rows), tmp_path / "out.tar"],
        env=s3_env.env(),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 80  # MiB, of 288


def test_the_command_takes_a_list(tmp_path, folder):
    (tmp_path / "l.txt").write_text("cats/0001.jpg\ndogs/clear.png\n")

    def run(*arguments: object, code: int = 0) -> None:
        done = subprocess.run(
            [COMMAND, "pack", *map(str, arguments)], capture_output=True, cwd=folder, check=False
        )
        assert done.returncode == code, done.stderr

    run("--manifest", tmp_path / "l.txt", tmp_path / "here.tar")
    run("--manifest", tmp_path / "l.txt", folder, tmp_path / "there.tar")
    assert (tmp_path / "here.tar").read_bytes() == (tmp_path / "there.tar").read_bytes()
    with blobpack.open_blob(tmp_path / "here.tar") as blob:
        assert list(blob.index.names) == ["cats/0001.jpg", "dogs/clear.png"]
    run("--manifest", tmp_path / "l.txt", "cats", "dogs", tmp_path / "x.tar", code=2)
    run(tmp_path / "x.tar", code=2)


def test_urls_of_http_are_fetched_and_no_file_of_their_name(
    s3_env: S3Server, tmp_path: Path, folder: Path, small_images: dict[str, bytes], monkeypatch
):
    bucket = s3_env.new_bucket()
    for key, payload in small_images.items():
        s3_env.put(bucket, key, payload)
        s3_env.client.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")
        (tmp_path / key.rpartition("/")[2]).write_bytes(b"another file of that name")
    monkeypatch.chdir(tmp_path)
    base = f"{s3_env.endpoint}/{bucket}"
    lines = [f"{base}/{quote(key)}" for key in small_images]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    report = blobpack.pack(read_manifest(tmp_path / "urls.txt"), tmp_path / "out.tar")
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        assert {name: blob.read(f"{bucket}/{name}") for name in small_images} == small_images
    (tmp_path / "keys.txt").write_text("\n".join(small_images))
    blobpack.pack(read_manifest(tmp_path / "keys.txt", base), tmp_path / "by-base.tar")
    blobpack.pack(folder, tmp_path / "expected.tar")
    assert (tmp_path / "by-base.tar").read_bytes() == (tmp_path / "expected.tar").read_bytes()
    assert report.members == len(small_images)
    (tmp_path / "urls.txt").write_text(f"{base}/none.jpg")
    with pytest.raises(SourceError, match=r"nothing was packed: http://.*/none\.jpg: "):
        blobpack.pack(read_manifest(tmp_path / "urls.txt"), tmp_path / "none.tar")
