"""All names are checked before the first file is written, and hard links stay hard links."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

import blobpack
from blobpack.errors import UnsafeNameError
from blobpack.reading import target_names
from blobpack.reading.target_names import folded

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server


def make_tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    """Make a tar of files (bytes) and hard links (the name of the target)."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def extract(tar: Path, folder: Path) -> blobpack.ExtractReport:
    with blobpack.open_blob(tar) as blob:
        return blobpack.extract(blob, folder)


DEEP = "/".join(["d"] * 257)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x" * 256], "256 bytes in one part.* at most 255"),
        (["a/" + "ä" * 128 + "/b"], "256 bytes in one part"),
        (["/".join(["x" * 250] * 20)], "5019 bytes in the whole name"),
        ([DEEP], "257 folders above each other.* at most 256"),
        (["a/b", "a"], "'a' would be a file .* 'a/b' needs a folder"),
        (["a", "a/b"], "'a' would be a file .* 'a/b' needs a folder"),
        (["./a", "b", "a//b/c"], "'a' would be a file .* 'a/b/c' needs a folder"),
        (["a/b/c/d", "a/b/x", "a/b"], "'a/b' would be a file .* 'a/b/c/d' needs a folder"),
        (["../evil"], "outside the target folder"),
    ],
)
def test_nothing_is_written_where_one_name_cannot_be(
    names: list[str], message: str, tmp_path: Path
) -> None:
    tar = make_tar(tmp_path / "a.tar", [("good", b"1"), *((name, b"2") for name in names)])
    for folder in (tmp_path / "out", tmp_path / "new" / "out"):
        with pytest.raises(UnsafeNameError, match=message):
            extract(tar, folder)
    assert os.listdir(tmp_path) == ["a.tar"]


def test_what_just_fits_is_written(tmp_path: Path) -> None:
    names = [
        "x" * 255,
        "ä" * 127,
        DEEP[2:],
        "A",
        "a",
        "B/x",
        "b/x",
        "Straße",
        "STRASSE",
        "é",
        "e\u0301",
    ]
    tar = make_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    assert extract(tar, tmp_path / "out").members == len(names)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "out"]
    written = {
        os.path.relpath(os.path.join(folder, file), tmp_path / "out")
        for folder, _, files in os.walk(tmp_path / "out")
        for file in files
    }
    assert written == {*names}


def test_of_two_spellings_of_a_name_the_last_is_one_file(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "a.tar", [("a", b"1"), ("./a", b"22"), ("b", b"3"), (".//a", b"44")])
    report = extract(tar, tmp_path / "out")
    assert (report.members, report.payload_bytes) == (2, 3)
    assert (tmp_path / "out" / "a").read_bytes() == b"44"


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (["a.JPG", "a.jpg"], True),
        (["A/x", "a/x"], True),
        (["A", "a/x"], True),
        (["A/x", "a/y"], False),  # one folder of two files
        (["é", "e\u0301"], True),
        (["x\u200dy", "xy"], True),
        (["K", "\u212a"], True),  # the Kelvin sign
        (["a", "b"], False),
    ],
)
def test_names_that_the_target_takes_for_one(
    names: list[str], clash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of such a file system is injected: Linux mounts none without special rights."""
    asked: list[tuple[str, str]] = []

    def takes_for_one(trial: object, part: str, other: str) -> bool:
        asked.append((part, other))
        return True

    monkeypatch.setattr(target_names._Trial, "_try_out", takes_for_one)
    tar = make_tar(tmp_path / "a.tar", [("good", b"1"), *((name, b"2") for name in names)])
    if clash:
        with pytest.raises(UnsafeNameError):
            extract(tar, tmp_path / "out")
        assert os.listdir(tmp_path) == ["a.tar"]
        assert len(asked) == 1
    else:
        assert extract(tar, tmp_path / "out").members == 3
        assert not asked


def test_a_target_is_asked_once_for_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    try_out = target_names._Trial._try_out

    def count(trial: target_names._Trial, part: str, other: str) -> bool:
        asked.append(part)
        return try_out(trial, part, other)

    monkeypatch.setattr(target_names._Trial, "_try_out", count)
    names = [f"{letter}{number}" for number in range(50) for letter in "Aa"]
    tar = make_tar(tmp_path / "a.tar", [(name, b"1") for name in [*names, "Ä", "ä"]])
    assert extract(tar, tmp_path / "out").members == 102
    assert asked == ["A0", "Ä"]


def test_folded_names_are_equal() -> None:
    for one, other in [
        ("É", "e\u0301"),
        ("ſ", "S"),
        ("ﬁ", "FI"),
        ("\u1e9e", "ss"),
        ("Å", "\u212b"),
    ]:
        assert folded(one) == folded(other)
    for one, other in [("a", "b"), ("e", "é"), ("a/b", "ab"), ("\udcff", "\udcfe")]:
        assert folded(one) != folded(other)


# Hard links


def test_hard_links_are_hard_links(tmp_path: Path) -> None:
    members = [("d/a", b"x" * 9), ("b", "d/a"), ("e/f/c", "b"), ("d/own", b"x" * 9), ("empty", b"")]
    tar = make_tar(tmp_path / "a.tar", [*members, ("none", "empty")])
    for _ in range(2):  # over the files of the first time
        report = extract(tar, tmp_path / "out")
        assert (report.members, report.payload_bytes, report.hard_links) == (6, 36, 3)
        inodes = {name: (tmp_path / "out" / name).stat().st_ino for name, _ in members}
        assert inodes["d/a"] == inodes["b"] == inodes["e/f/c"] != inodes["d/own"]
        assert (tmp_path / "out" / "e" / "f" / "c").read_bytes() == b"x" * 9
        assert (tmp_path / "out" / "none").samefile(tmp_path / "out" / "empty")
        assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.ENOSPC])
def test_without_hard_links_there_are_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The error is injected: vfat answers EPERM, and ext4 EMLINK behind 65,000 links."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    tar = make_tar(tmp_path / "a.tar", [("a", b"x"), ("b", "a"), ("c", b"y")])
    if error == errno.ENOSPC:
        with pytest.raises(blobpack.StorageError, match=r"'b' can't be written.*No space"):
            extract(tar, tmp_path / "out")
        return
    report = extract(tar, tmp_path / "out")
    assert (report.members, report.hard_links) == (3, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "a": b"x",
        "b": b"x",
        "c": b"y",
    }


def test_equal_offsets_in_several_blobs_are_no_links(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_tar(tmp_path / f"{name}.tar", [(name, name.encode()), (f"{name}2", name)])
        blobpack.scan(tmp_path / f"{name}.tar").save(tmp_path / f"{name}.tar.idx")
    blobpack.collect(tmp_path, scan=True)
    with blobpack.open_collection(tmp_path) as collection:
        report = blobpack.extract(collection, tmp_path / "out")
    assert (report.members, report.hard_links) == (4, 2)
    for name in ("a", "b"):
        assert (tmp_path / "out" / name).read_bytes() == name.encode()
        assert (tmp_path / "out" / name).samefile(tmp_path / "out" / f"{name}2")


def test_a_link_put_in_the_targets_place_is_not_followed(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "a.tar", [("a", b"x"), ("b", "a")])
    (tmp_path / "victim").write_bytes(b"precious")

    def swap(progress: blobpack.Progress) -> None:
        if progress.done == 1:
            (tmp_path / "out" / "a").unlink()
            (tmp_path / "out" / "a").symlink_to(tmp_path / "victim")

    with blobpack.open_blob(tar) as blob:
        blobpack.extract(blob, tmp_path / "out", progress=swap)
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_blobs_that_differ_in_the_query_alone_are_two(
    s3_env: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Their URLs look the same in messages."""
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    client = s3_env.new_client(config=config)
    versions = {"Bucket": bucket, "VersioningConfiguration": {"Status": "Enabled"}}
    s3_env.client.put_bucket_versioning(**versions)
    urls = []
    for name in ("a", "b"):
        blobpack.pack([(name, name.encode())], tmp_path / "x.tar", all_files=True)
        body = (tmp_path / "x.tar").read_bytes()
        version = s3_env.client.put_object(Bucket=bucket, Key="x.tar", Body=body)["VersionId"]
        params = {"Bucket": bucket, "Key": "x.tar", "VersionId": version}
        urls.append(client.generate_presigned_url("get_object", Params=params))
    client.close()
    blobpack.collect(urls, tmp_path / "c.idx")
    with blobpack.open_collection(tmp_path / "c.idx", allow=s3_env.endpoint) as collection:
        report = blobpack.extract(collection, tmp_path / "out")
    assert (report.members, report.hard_links) == (2, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "a": b"a",
        "b": b"b",
    }
