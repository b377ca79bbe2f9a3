"""Shards: cut between members, the same every time, and read as one through their collection."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

import blobpack
from blobpack import DuplicateNameError, SourceError, StorageError
from blobpack.packing import cutters

SIZES = [0, 10, 512, 513, 3000, 9000, 100, 20_000, 1, 2, 5000]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(60):
        path = tmp_path / "imgs" / f"{i % 3}" / f"{i:03d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * SIZES[i % len(SIZES)])
    return tmp_path / "imgs"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def archives_of(shards: Path) -> list[tuple[int, list[str]]]:
    """The bytes of each archive without its index, and the names in it, as tarfile sees them."""
    found = []
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar, blobpack.open_blob(path) as blob:
            identity = blob.index.identity
            assert identity is not None
            assert tar.getnames() == list(blob.index.names)
            found.append((identity.archive_bytes, tar.getnames()))
    return found


@pytest.mark.parametrize("shard_bytes", [1025, 12_000, 40_000, 1 << 30])
def test_members_are_cut_into_blobs_and_read_as_one(
    folder: Path, tmp_path: Path, shard_bytes: int
) -> None:
    report = blobpack.pack_shards(folder, tmp_path / "out", shard_bytes, all_files=True)
    archives = archives_of(tmp_path / "out")
    wanted = files_of(folder)
    assert [name for _, names in archives for name in names] == sorted(wanted)
    assert (report.shards, report.members) == (len(archives), 60)
    assert report.payload_bytes == sum(map(len, wanted.values()))
    assert report.blob_bytes == sum(
        path.stat().st_size for path in (tmp_path / "out").glob("*.tar")
    )
    for (size, names), (_, following) in pairwise(archives):
        assert size <= shard_bytes or len(names) == 1
        padded = -(-len(wanted[following[0]]) // 512) * 512
        assert size + 512 + padded > shard_bytes  # no room was left for the next one
    with blobpack.open_collection(tmp_path / "out") as collection:
        assert list(collection.read_many(wanted)) == list(wanted.values())
        assert list(report.index.names) == list(collection.index.names)
        assert {"crc32c", "mtime"} <= collection.index.facts


# Samples


def sample_payloads(count: int = 50) -> dict[str, bytes]:
    """An image, a label and an annotation of each sample, in the order of their names."""
    return {
        f"{i % 2}/{i:03}.{field}": bytes([i]) * SIZES[(i + place) % len(SIZES)]
        for i in sorted(range(count), key=lambda i: (i % 2, i))
        for place, field in enumerate(("cls", "jpg", "seg.png"))
    }


@pytest.mark.parametrize("shard_bytes", [33_000, 40_000, 100_000])
@pytest.mark.parametrize("kind", ["folder", "mapping", "prefix"])
def test_files_of_one_sample_stay_in_one_blob(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, shard_bytes: int
) -> None:
    payloads = sample_payloads()
    source: object = payloads
    if kind == "folder":
        source = write_files(tmp_path / "samples", payloads)
    elif kind == "prefix":
        s3 = request.getfixturevalue("s3_env")
        bucket = s3.new_bucket()
        for name, payload in payloads.items():
            s3.put(bucket, name, payload)
        source = f"s3://{bucket}/"
    blobpack.pack_shards(source, tmp_path / "out", shard_bytes, all_files=True)
    archives = archives_of(tmp_path / "out")
    assert len(archives) > 2
    assert [name for _, names in archives for name in names] == list(payloads)
    stems = [{name.partition(".")[0] for name in names} for _, names in archives]
    assert sum(map(len, stems)) == len(set.union(*stems)) == 50
    assert all(size <= shard_bytes for size, _ in archives)
    for (size, _), (_, following) in pairwise(archives):
        first = [name for name in following if name.partition(".")[0] == following[0][:-4]]
        more = sum(512 + -(-len(payloads[name]) // 512) * 512 for name in first)
        # no room was left for the next sample
        assert size + more > shard_bytes


def write_files(folder: Path, payloads: dict[str, bytes]) -> Path:
    for name, payload in payloads.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
    return folder


@pytest.mark.parametrize("kind", ["folder", "mapping"])
def test_a_sample_that_is_larger_than_a_blob_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """All frames of a film have one stem by their names."""
    film = {f"frame.{i:04}.png": bytes(2000) for i in range(100)} | {"last.png": b"x"}
    source = write_files(tmp_path / "film", film) if kind == "folder" else film
    blobpack.pack_shards(source, tmp_path / "out", 30_000, all_files=True)
    archives = archives_of(tmp_path / "out")
    assert [len(names) for _, names in archives] == [11] * 9 + [2]
    assert all(size <= 30_000 for size, _ in archives)
    # payloads of a sample are read ahead, so their size is bounded, too
    monkeypatch.setattr(cutters, "SAMPLE_BYTES_MAX", 10_000)
    blobpack.pack_shards(source, tmp_path / "more", 30_000, all_files=True)
    assert {len(names) % 3 for _, names in archives_of(tmp_path / "more")[:-1]} == {0}


def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    blobpack.pack_shards(folder, tmp_path / "one", 15_000, all_files=True, threads=1)
    blobpack.pack_shards(folder, tmp_path / "two", 15_000, all_files=True, threads=4)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_one_shard_is_what_pack_makes(folder: Path, tmp_path: Path) -> None:
    blobpack.pack_shards(folder, tmp_path / "out", 1 << 30, all_files=True)
    blobpack.pack(folder, tmp_path / "out.tar", all_files=True)
    assert (tmp_path / "out" / "00000.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()


def test_what_is_no_image_is_left_out_once(
    folder: Path, tmp_path: Path, small_images: dict[str, bytes]
) -> None:
    for number, image in enumerate(small_images.values()):
        (folder / f"0/{number:03d}x.jpg").write_bytes(image)
    report = blobpack.pack_shards(folder, tmp_path / "out", 30_000, exclude="2/*")
    assert report.members == len(small_images)
    assert report.skipped == {"not an image": 40, "filtered out": 20}
    with blobpack.open_collection(tmp_path / "out") as collection:
        images = list(collection.read_many(collection.index))
        assert images == list(small_images.values())
        assert collection.index.select(min_width=40).names[:] == ["0/005x.jpg"]


@pytest.mark.parametrize("shard_bytes", [3000, 1 << 20])
def test_payloads_are_cut_as_they_come(tmp_path: Path, shard_bytes: int) -> None:
    payloads = {f"{i:03d}/x{'ü' * (i % 90)}": bytes([i]) * (i * 37 % 2000) for i in range(100)}
    report = blobpack.pack_shards(
        iter(payloads.items()), tmp_path / "out", shard_bytes, all_files=True
    )
    archives = archives_of(tmp_path / "out")
    assert all(size <= shard_bytes or len(names) == 1 for size, names in archives)
    assert [name for _, names in archives for name in names] == list(payloads)
    assert (len(archives) == 1) == (shard_bytes > 3000)
    assert report.members == 100
    with blobpack.open_collection(tmp_path / "out") as collection:
        assert list(collection.read_many(payloads)) == list(payloads.values())


@pytest.mark.parametrize("level", [1, 19])
def test_blobs_are_compressed_if_a_level_is_given(folder: Path, tmp_path: Path, level: int) -> None:
    plain = blobpack.pack_shards(folder, tmp_path / "plain", 40_000, all_files=True)
    report = blobpack.pack_shards(folder, tmp_path / "out", 40_000, all_files=True, level=level)
    assert report.index == plain.index  # offsets are those in the tar that it decompresses to
    assert report.shards == plain.shards > 1
    assert report.blob_bytes == sum(
        path.stat().st_size for path in (tmp_path / "out").glob("*.tar.zst")
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"{i:05d}.tar.zst" for i in range(report.shards)),
        "collection.idx",
    ]
    wanted = files_of(folder)
    with blobpack.open_collection(tmp_path / "out") as collection:
        assert list(collection.read_many(wanted)) == list(wanted.values())
    with pytest.raises(ValueError, match="level must be from 1 to 22"):
        blobpack.pack_shards(folder, tmp_path / "other", 40_000, level=23)
    assert not (tmp_path / "other").exists()


def test_a_name_twice_in_one_blob_is_refused(tmp_path: Path) -> None:
    """What is no image leaves room, so that more is taken for the blob."""
    image = b"\x89PNG\r\n\x1a\n"
    payloads = [("a.png", image), *[(f"{i}.txt", bytes(900)) for i in range(4)], ("a.png", image)]
    with pytest.raises(DuplicateNameError, match=r"two payloads would both be member 'a\.png'"):
        blobpack.pack_shards(payloads, tmp_path / "out", 5000)
    assert not (tmp_path / "out").exists()


def test_nothing_to_pack_is_an_empty_blob_if_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    report = blobpack.pack_shards(tmp_path / "none", tmp_path / "out", 3000, allow_empty=True)
    assert (report.members, report.shards) == (0, 1)
    with blobpack.open_collection(tmp_path / "out") as collection:
        assert len(collection) == 0


def test_after_an_error_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    payloads = [(f"{i}", bytes(1000)) for i in range(9)]
    with pytest.raises(DuplicateNameError, match=r"'0' is in 00000\.tar and in 00004\.tar"):
        blobpack.pack_shards([*payloads, ("0", b"")], tmp_path / "out", 5000, all_files=True)
    assert not (tmp_path / "out").exists()

    def broken() -> object:
        yield from payloads
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        blobpack.pack_shards(broken(), tmp_path / "out", 5000, all_files=True)
    assert not (tmp_path / "out").exists()
    (folder / "1" / "dangling").symlink_to("nowhere")
    with pytest.raises(SourceError, match="dangling"):
        blobpack.pack_shards(folder, tmp_path / "out", 5000, all_files=True, follow_symlinks=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path) -> None:
    before = files_of(folder)
    with pytest.raises(StorageError, match="not empty"):
        blobpack.pack_shards(folder, folder, 5000, all_files=True)
    with pytest.raises(ValueError, match="shard_bytes must be at least 1025"):
        blobpack.pack_shards(folder, folder / "new", 1024)
    assert files_of(folder) == before


def test_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("blobpack"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done

    done = run("pack", "imgs/", "out/", "--all", "--shard-size", "40k", "--json")
    assert json.loads(done.stdout)["shards"] == len(archives_of(tmp_path / "out")) > 1
    done = run("pack", "imgs/", "again", "--all", "--shard-size", "40k")
    assert "blobs in" in done.stdout
    assert "is a folder" in run("pack", "imgs/", "out/", code=2).stderr
    assert (
        "can't be combined"
        in run("pack", "imgs", "x", "--shard-size", "1M", "--dry-run", code=2).stderr
    )
    assert "not empty" in run("pack", "imgs/", "out/", "--shard-size", "40k", code=1).stderr
