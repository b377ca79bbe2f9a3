"""What takes a blob takes a collection, and a folder, prefix or glob of blobs, too."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

import blobpack
from blobpack.cli.main import main

PAYLOADS = {
    f"{i // 20}/{i:03}.bin": random.Random(i).randbytes(i * 37 % 1700 + 1) for i in range(60)
}
# how the same blobs can be named
KINDS = ["collection", "folder", "uncollected", "glob", "open"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three blobs of 20 members each, in a folder."""
    folder = tmp_path / "shards"
    folder.mkdir()
    files = list(PAYLOADS.items())
    for i in range(3):
        blobpack.pack(files[20 * i : 20 * i + 20], folder / f"{i}.tar", all_files=True)
    return folder


@pytest.fixture(params=KINDS)
def source(request, folder):
    """The blobs as a collection's file, a folder with and without it, a glob, and an open collection."""
    if request.param in ("collection", "folder", "open"):
        blobpack.collect(folder)
    if request.param == "open":
        with blobpack.open_collection(folder) as collection:
            yield collection
        return
    yield {
        "collection": folder / "collection.idx",
        "folder": folder,
        "uncollected": folder,
        "glob": folder / "*.tar",
    }[request.param]


def run(*arguments: object) -> str:
    ran = CliRunner().invoke(main, list(map(str, arguments)))
    assert ran.exit_code == 0, ran.output
    return ran.output


def damage(blob: Path, name: str) -> None:
    """Change a byte of a payload."""
    index = blobpack.scan(blob)
    with blob.open("r+b") as file:
        file.seek(index[name].offset_start)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


class TestVerify:
    def test_all_blobs_are_verified(self, source):
        calls: list[tuple[int, int]] = []
        report = blobpack.verify(source, progress=lambda *done: calls.append(done))
        payload_bytes = sum(map(len, PAYLOADS.values()))
        assert (report.members, report.blobs, report.payload_bytes) == (60, 3, payload_bytes)
        assert report.ok
        assert report.checksums
        assert "60 members of 3 blobs, structure and checksums of" in str(report)
        assert calls == sorted(calls)
        assert calls[-1] == (60, payload_bytes)

    def test_failures_name_their_blobs(self, source, folder):
        damage(folder / "0.tar", "0/003.bin")
        damage(folder / "2.tar", "2/055.bin")
        report = blobpack.verify(source)
        # a collection also notices that these are not the blobs that were collected
        failures = [each for each in report.failures if each.kind != "archive"]
        assert [(Path(each.blob).name, each.kind, each.name) for each in failures] == [
            ("0.tar", "checksum", "0/003.bin"),
            ("2.tar", "checksum", "2/055.bin"),
        ]
        assert str(failures[0]).startswith(f"{folder}/0.tar: 0/003.bin: bytes ")
        assert str(report).endswith(f"{len(report.failures)} failures")

    def test_a_blob_alone_is_not_named(self, folder):
        damage(folder / "0.tar", "0/003.bin")
        report = blobpack.verify(folder / "0.tar")
        assert [each.blob for each in report.failures] == [""]
        assert report.blobs == 1

    def test_a_collection_knows_its_blobs(self, folder):
        blobpack.collect(folder)
        (folder / "0.tar").unlink()
        blobpack.pack([("1/999.bin", b"new")], folder / "1.tar", all_files=True)
        report = blobpack.verify(folder)
        gone, other, *members = report.failures
        assert (Path(gone.blob).name, gone.kind) == ("0.tar", "archive")
        assert (Path(other.blob).name, other.kind) == ("1.tar", "archive")
        assert "no such" in gone.reason
        assert "is not the blob that" in other.reason
        # each of the members that were collected is named, and the one that is there now
        assert {each.blob for each in members} == {other.blob}
        assert {each.name for each in members} >= {n for n in PAYLOADS if n[0] == "1"}
        assert ("extra", "1/999.bin") in [(each.kind, each.name) for each in members]
        assert (report.members, report.blobs) == (40, 3)

    def test_a_blob_that_is_no_tar_does_not_hide_the_others(self, folder):
        (folder / "1.tar").write_bytes(b"no tar at all" * 100)
        report = blobpack.verify(folder)
        assert [(Path(each.blob).name, each.kind) for each in report.failures] == [
            ("1.tar", "archive")
        ]
        assert report.members == 40

    def test_blobs_elsewhere_are_verified_only_if_the_caller_opens_them(self, folder, tmp_path):
        (tmp_path / "other").mkdir()
        blobpack.collect(folder, tmp_path / "other" / "c.idx")
        with pytest.raises(blobpack.UnsafeNameError, match="not below the collection's own folder"):
            blobpack.verify(tmp_path / "other" / "c.idx")
        with blobpack.open_collection(tmp_path / "other" / "c.idx", allow=folder) as collection:
            assert blobpack.verify(collection).ok

    def test_an_object_that_was_replaced(self, s3_env, bucket, folder):
        for path in folder.iterdir():
            s3_env.put(bucket, f"train/{path.name}", path.read_bytes())
        url = f"s3://{bucket}/train/"
        assert blobpack.verify(url).blobs == 3
        blobpack.collect(url)
        assert blobpack.verify(url).ok
        blobpack.pack([("1/999.bin", b"new")], f"{url}1.tar", all_files=True)
        report = blobpack.verify(url)
        assert (report.failures[0].blob, report.failures[0].kind) == (f"{url}1.tar", "archive")
        assert {each.blob for each in report.failures} == {f"{url}1.tar"}

    def test_the_command(self, folder):
        damage(folder / "0.tar", "0/003.bin")
        ran = CliRunner().invoke(main, ["verify", str(folder)])
        assert ran.exit_code == 1
        first, last = ran.stdout.splitlines()
        assert first.startswith(f"{folder}/0.tar: 0/003.bin: bytes ")
        assert "60 members of 3 blobs" in last
        ran = CliRunner().invoke(main, ["verify", f"{folder}/*.tar", "--json"])
        report = json.loads(ran.stdout)
        assert (report["blobs"], report["failures"][0]["blob"]) == (3, f"{folder}/0.tar")


class TestExtract:
    def test_the_members_of_all_blobs(self, source, tmp_path):
        report = blobpack.extract(source, tmp_path / "out")
        assert report.members == 60
        found = {
            path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
            for path in (tmp_path / "out").rglob("*.bin")
        }
        assert found == PAYLOADS

    def test_of_one_blob_by_its_path(self, folder, tmp_path):
        members = blobpack.scan(folder / "1.tar").select("1/02*")
        report = blobpack.extract(folder / "1.tar", tmp_path / "out", members)
        assert report.members == 10
        assert sorted(os.listdir(tmp_path / "out" / "1")) == sorted(
            name.partition("/")[2] for name in members.names
        )

    def test_a_path_is_closed_again(self, folder, tmp_path):
        before = os.listdir("/proc/self/fd")
        blobpack.extract(folder / "1.tar", tmp_path / "out")
        assert len(os.listdir("/proc/self/fd")) == len(before)
