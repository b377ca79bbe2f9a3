"""A folder or prefix of blobs is one thing: any name is found, and only the blob that holds it is opened."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import threading
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from plain_reader import PlainIndex

import blobpack
from blobpack import (
    BlobChangedError,
    BlobNotFoundError,
    BlobpackError,
    ChecksumError,
    DuplicateNameError,
    FormatError,
    Index,
    MemberNotFoundError,
    StaleIndexError,
    StorageError,
    UnsafeNameError,
)
from blobpack.checksum import crc32c
from blobpack.cli.main import main
from blobpack.opening import collection as module
from blobpack.opening.list_blobs import translate
from blobpack.stores.http.ranged import RangedStore
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from faultserver import FaultServer
    from s3server import S3Server

    Opened = list[str]


def payload_of(name: str) -> bytes:
    return f"<{name}>".encode() * (1 + len(name) % 3)


def urls_of(collection: blobpack.Collection) -> list[str]:
    return [blob.url for blob in collection.blobs]


def make_blob(path: Path, names: list[str], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blobpack.pack(
        [(name, payload_of(name)) for name in names],
        path,
        all_files=True,
        allow_empty=not names,
        **options,
    )
    return path


def names_in(number: int, count: int = 20) -> list[str]:
    """Names of the blob of a number; over all blobs they do not ascend."""
    return [f"{i:03d}/{number:04d}.bin" for i in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        make_blob(tmp_path / "set" / f"{number:04d}.tar", names_in(number))
    return tmp_path / "set"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The blobs that a collection opened, one after the other."""
    urls: list[str] = []
    honest = module.open_shard

    def counted(location: Location, *rest: object, **named: object) -> object:
        urls.append(location.text)
        return honest(location, *rest, **named)

    monkeypatch.setattr(module, "open_shard", counted)
    return urls


ALL = [name for number in range(5) for name in names_in(number)]


# What it is


def test_any_name_is_read_from_its_blob(folder: Path, opened: Opened) -> None:
    report = blobpack.collect(folder)
    assert (report.blobs, report.members) == (5, 100)
    assert report.collection_bytes == (folder / "collection.idx").stat().st_size
    with blobpack.open_collection(folder) as collection:
        assert len(collection) == 100
        assert list(collection.index.names) == ALL
        assert urls_of(collection) == [str(folder / f"{i:04d}.tar") for i in range(5)]
        assert not opened
        assert collection.read("007/0003.bin") == payload_of("007/0003.bin")
        assert opened == [str(folder / "0003.tar")] == [collection.url_of("007/0003.bin")]
        assert "007/0003.bin" in collection
        assert "007/0009.bin" not in collection
        with pytest.raises(MemberNotFoundError, match=r"collection.idx: no member '007/0009.bin'"):
            collection.read("007/0009.bin")
        assert len(opened) == 1


def test_batches_keep_the_order_asked(folder: Path, opened: Opened) -> None:
    blobpack.collect(folder)
    wanted = random.Random(3).choices(ALL, k=1000)
    with blobpack.open_collection(folder) as collection:
        assert list(collection.read_many(wanted)) == list(map(payload_of, wanted))
        assert sorted(opened) == urls_of(collection)
        chosen = collection.index.select("01?/*")
        assert list(collection.read_many(chosen)) == [payload_of(name) for name in chosen.names]
        reads = collection.read_many([ALL[0], "none", ALL[1]])
        assert next(reads) == payload_of(ALL[0])
        with pytest.raises(MemberNotFoundError, match="none"):
            next(reads)
        with pytest.raises(TypeError):
            collection.read_many("007/0003.bin")


def test_images_are_read_from_it(small_images: dict[str, bytes], tmp_path: Path) -> None:
    for number, (name, image) in enumerate(small_images.items()):
        blobpack.pack([(name, image)], tmp_path / f"{number}.tar")
    blobpack.collect(tmp_path)
    with blobpack.open_collection(tmp_path) as collection:
        wide = collection.index.select(min_width=40)
        assert list(wide.names) == ["dogs/größer 1.png"]
        assert blobpack.read_image(collection, wide.names[0]).shape == (32, 48, 3)
        images = list(blobpack.read_images(collection, reversed(list(small_images))))
        assert [image.shape[2] for image in images] == [3] * len(small_images)
        assert all(
            collection.index[name].crc32c == crc32c(image) for name, image in small_images.items()
        )


def test_thousands_of_blobs_and_one_is_opened(tmp_path: Path, opened: Opened) -> None:
    for number in range(2000):
        make_blob(tmp_path / f"{number % 7}" / f"{number:04d}.tar", names_in(number, 3))
    assert blobpack.collect(tmp_path).blobs == 2000
    with blobpack.open_collection(tmp_path) as collection:
        assert collection.read("002/1234.bin") == payload_of("002/1234.bin")
        assert len(opened) == 1
        wanted = [f"001/{number:04d}.bin" for number in range(0, 2000, 11)]
        assert list(collection.read_many(wanted)) == list(map(payload_of, wanted))
        assert len(opened) == 1 + len(wanted)
        assert len(collection._open) == module.OPEN_BLOBS_MAX
    assert not collection._open


def test_open_blobs_are_bounded_and_let_go(folder: Path) -> None:
    blobpack.collect(folder)
    before = len(os.listdir("/proc/self/fd"))
    with blobpack.open_collection(folder, open_blobs=1) as collection:
        for name in ALL * 3:
            assert collection.read(name) == payload_of(name)
        assert len(os.listdir("/proc/self/fd")) <= before + 5  # the index, its mapping, one blob
    with pytest.raises(StorageError, match="closed"):
        collection.read(ALL[0])
    with blobpack.open_collection(folder, open_blobs=0) as collection:
        assert collection.read(ALL[0]) == payload_of(ALL[0])
        assert not collection._open


def test_threads_share_it(folder: Path) -> None:
    blobpack.collect(folder)
    wrong: list[str] = []
    with blobpack.open_collection(folder, open_blobs=2) as collection:

        def work(seed: int) -> None:
            for name in random.Random(seed).choices(ALL, k=400):
                if collection.read(name) != payload_of(name):
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_pickled_it_is_opened_anew(folder: Path) -> None:
    blobpack.collect(folder)
    with (
        blobpack.open_collection(folder) as collection,
        pickle.loads(pickle.dumps(collection)) as again,
    ):
        assert again.read(ALL[42]) == payload_of(ALL[42])
        assert urls_of(again) == urls_of(collection)


# Where it lies, and of what


def test_folders_globs_files_and_lists(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "note.txt").write_text("no blob")
    make_blob(folder / ".hidden.tar", ["hidden"])
    make_blob(folder / "below" / "x.tar", ["x"])
    assert blobpack.collect("set/*.tar").url == "set/collection.idx"
    with blobpack.open_collection("set/*.tar") as collection:
        assert len(urls_of(collection)) == 5
    blobpack.collect("set/**/*.tar", tmp_path / "all.idx")
    with blobpack.open_collection("all.idx") as collection:
        assert len(urls_of(collection)) == 6
        assert collection.read("x") == payload_of("x")
    blobpack.collect(f"file://{folder}")
    with blobpack.open_collection(f"file://{folder}") as collection:
        assert len(urls_of(collection)) == 6
    blobpack.collect([folder / "0004.tar", "set/0001.tar"], "two.idx")
    with blobpack.open_collection("two.idx") as collection:
        assert list(collection.index.names) == names_in(4) + names_in(1)
    with pytest.raises(ValueError, match="target"):
        blobpack.collect([folder / "0004.tar"])
    with pytest.raises(BlobNotFoundError, match="no blobs"):
        blobpack.collect("set/*.nothing")
    with pytest.raises(BlobNotFoundError, match="blobpack collect set/below"):
        blobpack.open_collection("set/below")


def test_a_collection_and_its_blobs_are_moved_together(folder: Path, tmp_path: Path) -> None:
    blobpack.collect(folder)
    shutil.copytree(folder, tmp_path / "moved")  # other inodes, other times
    shutil.rmtree(folder)
    with blobpack.open_collection(tmp_path / "moved") as collection:
        assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))


@pytest.mark.parametrize(
    ("glob", "matched", "passed_by"),
    [
        ("a/*.tar", ["a/x.tar", "a/.tar"], ["a/b/x.tar", "a/x.tar.idx"]),
        ("a/**/*.tar", ["a/x.tar", "a/b/c/x.tar"], ["b/x.tar"]),
        ("a/**", ["a/x", "a/b/c"], ["b"]),
        ("a?[0-9].tar", ["ab1.tar"], ["a/1.tar", "abx.tar"]),
        ("[!a].tar", ["b.tar"], ["a.tar", "/.tar"]),
        ("a+(b)*.tar", ["a+(b)1.tar"], ["aab.tar"]),
        ("[^a].tar", ["a.tar", "^.tar"], ["b.tar"]),  # as Python's fnmatch has it
        ("[[a].tar", ["[.tar", "a.tar"], ["b.tar"]),
        ("[z-a].tar", [], ["a.tar", "z.tar", "-.tar"]),
        ("[!-]/[.-0].tar", ["a/0.tar"], ["//0.tar", "a//.tar"]),
    ],
)
def test_globs_of_keys(glob: str, matched: list[str], passed_by: list[str]) -> None:
    pattern = translate(glob)
    assert all(map(pattern.fullmatch, matched))
    assert not any(map(pattern.fullmatch, passed_by))


# Names that repeat, blobs without an index, mixed facts


def test_a_name_in_two_blobs_is_refused_and_both_are_said(folder: Path) -> None:
    make_blob(folder / "0009.tar", [*names_in(9), "007/0003.bin"])
    with pytest.raises(DuplicateNameError, match=r"'007/0003.bin' is in 0003.tar and in 0009.tar"):
        blobpack.collect(folder)
    assert not (folder / "collection.idx").exists()
    assert not list(folder.glob(".*"))
    blobpack.collect(folder, duplicates="last")
    with blobpack.open_collection(folder) as collection:
        assert len(collection) == 121
        assert collection.url_of("007/0003.bin").endswith("0009.tar")
        assert collection.read("007/0003.bin") == payload_of("007/0003.bin")
        assert list(collection.read_many(["007/0003.bin", "008/0003.bin"])) == [
            payload_of("007/0003.bin"),
            payload_of("008/0003.bin"),
        ]


def test_a_blob_that_is_given_twice_is_refused(folder: Path) -> None:
    with pytest.raises(DuplicateNameError, match=r"in 0001\.tar and in 0001\.tar"):
        blobpack.collect([folder / "0001.tar"] * 2, folder / "two.idx")


def test_a_name_that_one_blob_has_twice_is_its_own_matter(folder: Path) -> None:
    import tarfile

    with tarfile.open(folder / "0003.tar", "w") as tar:
        for name in ("twice", "twice"):
            (folder / "x").write_text(str(len(tar.members)))
            tar.add(folder / "x", name)
    with pytest.raises(StorageError, match=r"0003.tar has no index: `blobpack index"):
        blobpack.collect(folder)
    blobpack.collect(folder, scan=True)
    with blobpack.open_collection(folder) as collection:
        assert collection.read("twice") == b"1"
        assert len(collection) == 82


def test_an_index_beside_a_blob_serves_too(folder: Path) -> None:
    make_blob(folder / "0003.tar", names_in(3), index="sidecar")
    blobpack.collect(folder)
    with blobpack.open_collection(folder) as collection:
        assert collection.read("007/0003.bin") == payload_of("007/0003.bin")


def test_facts_are_those_that_all_blobs_have(folder: Path) -> None:
    blobpack.collect(folder)
    with blobpack.open_collection(folder) as collection:
        assert collection.index.facts >= {"crc32c", "mtime"}
    make_blob(folder / "0004.tar", names_in(4), facts=False)
    blobpack.collect(folder)
    with blobpack.open_collection(folder) as collection:
        assert not collection.index.facts
        assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))


def test_large_and_empty_blobs(tmp_path: Path) -> None:
    make_blob(tmp_path / "a.tar", [])
    make_blob(tmp_path / "b.tar", [f"{i:06d}" for i in range(70_000)], facts=False)
    make_blob(tmp_path / "c.tar", [])
    make_blob(tmp_path / "d.tar", ["last"])
    make_blob(tmp_path / "e.tar", [])
    blobpack.collect(tmp_path)
    with blobpack.open_collection(tmp_path) as collection:
        assert len(collection) == 70_001
        wanted = ["last", "000000", "069999", "012345"]
        assert list(collection.read_many(wanted)) == list(map(payload_of, wanted))
        with blobpack.open_blob(tmp_path / "b.tar") as whole:
            assert collection.index["069999"] == whole.index["069999"]
            assert collection.index.payload_bytes > whole.index.payload_bytes


def test_compressed_blobs(tmp_path: Path) -> None:
    make_blob(tmp_path / "a.tar.zst", names_in(0))
    make_blob(tmp_path / "b.tar", names_in(1))
    blobpack.collect(tmp_path)
    with blobpack.open_collection(tmp_path) as collection:
        wanted = names_in(1) + names_in(0)
        assert list(collection.read_many(wanted)) == list(map(payload_of, wanted))


# Never a wrong byte


def test_a_blob_that_changed_is_refused(folder: Path) -> None:
    blobpack.collect(folder)
    make_blob(folder / "0002.tar", [name.replace("bin", "Bin") for name in names_in(2)])
    blobpack.append(folder / "0003.tar", [("new", b"new")], all_files=True)
    (folder / "0004.tar").unlink()
    with blobpack.open_collection(folder) as collection:
        assert collection.read("007/0001.bin") == payload_of("007/0001.bin")
        for number in (2, 3):
            with pytest.raises(
                StaleIndexError, match=f"000{number}.tar is not the blob that .*collection.idx"
            ):
                collection.read(f"007/000{number}.bin")
        with pytest.raises(BlobNotFoundError):
            collection.read("007/0004.bin")
        reads = collection.read_many(["007/0001.bin", "007/0002.bin"])
        assert next(reads) == payload_of("007/0001.bin")
        with pytest.raises(BlobChangedError):
            next(reads)


def test_it_is_never_taken_for_the_index_of_one_blob(folder: Path, tmp_path: Path) -> None:
    blobpack.collect(folder)
    path = folder / "collection.idx"
    with pytest.raises(FormatError, match="open the collection itself"):
        Index.load(path)
    with pytest.raises(FormatError, match="open the collection itself"):
        blobpack.open_blob(folder / "0001.tar", index=path)
    with blobpack.open_collection(folder) as collection:
        collection.index.select("01*").save(tmp_path / "some.idx")
        with pytest.raises(ValueError, match="several blobs"):
            blobpack.write_offsets(collection.index.select("01*"), tmp_path / "some.pkl")
    with pytest.raises(StaleIndexError, match="several blobs"):
        blobpack.open_blob(folder / "0001.tar", index=tmp_path / "some.idx")
    Index.load(tmp_path / "some.idx").save(tmp_path / "again.idx")
    with pytest.raises(StaleIndexError, match="several blobs"):
        blobpack.open_blob(folder / "0001.tar", index=tmp_path / "again.idx")
    (tmp_path / "joined.tar").write_bytes((folder / "0001.tar").read_bytes() + path.read_bytes())
    with pytest.raises(StaleIndexError):
        blobpack.open_blob(tmp_path / "joined.tar")
    with blobpack.open_blob(folder / "0001.tar") as blob:
        blob.index.save(tmp_path / "one.idx")
    with pytest.raises(FormatError, match="not a collection"):
        blobpack.open_collection(tmp_path / "one.idx")


def test_a_file_that_is_no_index_is_not_replaced(folder: Path) -> None:
    (folder / "0000.tar").rename(folder / "0000")
    before = (folder / "0000").read_bytes()
    with pytest.raises(StorageError, match="no collection"):
        blobpack.collect(folder, folder / "0000")
    assert (folder / "0000").read_bytes() == before


@pytest.fixture
def packed(folder: Path) -> bytes:
    blobpack.collect(folder)
    return (folder / "collection.idx").read_bytes()


def test_the_plain_reader_reads_it(folder: Path, packed: bytes) -> None:
    read = PlainIndex(packed)
    blobs = read.blob_columns()
    assert blobs["name"] == [b"%04d.tar" % i for i in range(5)]
    assert blobs["version"] == [b""] * 5
    assert blobs["row_end"] == [20, 40, 60, 80, 100]
    assert blobs["blob_bytes"] == [(folder / f"{i:04d}.tar").stat().st_size for i in range(5)]
    assert blobs["blob_flags"] == [0] * 5
    for number in range(5):
        whole = (folder / f"{number:04d}.tar").read_bytes()
        own = PlainIndex(whole)
        for column in ("payload_bytes", "archive_bytes", "tail_crc", "samples_crc"):
            assert blobs[column][number] == getattr(own, column)
        for name in names_in(number):
            row = read.find_by_lookup(name.encode())
            assert row is not None
            assert read.blob_of(row) == number
            member = read.block(0)[row]
            assert whole[member.offset_start : member.offset_end] == payload_of(name)
    assert read.archive_bytes == (1 << 64) - 1


def sealed_footer(packed: bytes, at: int, kind: str, value: int) -> bytes:
    """The same index with another number in its footer, and the checksum to match."""
    footer = bytearray(packed[-512:])
    struct.pack_into(kind, footer, at, value)
    struct.pack_into("<I", footer, 0, crc32c(bytes(footer[4:])))
    return packed[:-512] + footer


@pytest.mark.parametrize("bit", [17, 25, 31])
def test_flags_of_later_versions_are_refused(folder: Path, packed: bytes, bit: int) -> None:
    (folder / "collection.idx").write_bytes(
        sealed_footer(packed, 116, "<I", 1 << 16 | 2 | 1 << bit)
    )
    with pytest.raises(FormatError, match="later version"):
        blobpack.open_collection(folder)


@pytest.mark.parametrize(
    ("at", "value"),
    [(320, 1 << 62), (328, 1 << 62), (328, 3), (328, 8), (328, 100), (320, 64), (32, 99)],
)
def test_a_footer_that_lies_is_refused(folder: Path, packed: bytes, at: int, value: int) -> None:
    (folder / "collection.idx").write_bytes(sealed_footer(packed, at, "<Q", value))
    with pytest.raises(FormatError):
        blobpack.open_collection(folder)


def test_any_damage_of_the_blobs_is_seen(folder: Path, packed: bytes) -> None:
    read = PlainIndex(packed)
    for at in range(read.blobs, read.blobs + read.blobs_bytes):
        damaged = bytearray(packed)
        damaged[at] ^= 1 << at % 8
        (folder / "collection.idx").write_bytes(damaged)
        with pytest.raises(FormatError, match="section of blobs"):
            blobpack.open_collection(folder)


def test_blobs_made_to_do_harm(folder: Path, packed: bytes) -> None:
    """Checksums that match: any number in the section, and it is any answer or an error, and no harm."""
    read = PlainIndex(packed)
    numbers = range(read.blobs + 4, read.blobs + 8 + 5 * 52, 4)
    for at in numbers:
        for value in (0, 1, 4, 0x7FFFFFFF, 0xFFFFFFFF):
            section = bytearray(packed[read.blobs : read.blobs + read.blobs_bytes])
            struct.pack_into("<I", section, at - read.blobs, value)
            struct.pack_into("<I", section, 0, crc32c(bytes(section[4:])))
            (folder / "collection.idx").write_bytes(
                packed[: read.blobs] + section + packed[read.blobs + read.blobs_bytes :]
            )
            try:
                with blobpack.open_collection(folder) as collection:
                    for name in ("003/0000.bin", "019/0004.bin"):
                        assert len(collection.read(name)) < 100
            except BlobpackError:
                pass


def test_rows_that_end_behind_their_blob_are_damage_of_the_collection(folder: Path) -> None:
    make_blob(folder / "0005.tar", [f"large/{i}" for i in range(100)])
    blobpack.collect(folder)
    packed = bytearray((folder / "collection.idx").read_bytes())
    read = PlainIndex(bytes(packed))
    # all rows of the last blob are now those of the blob before it, which is smaller
    section = packed[read.blobs : read.blobs + read.blobs_bytes]
    struct.pack_into("<Q", section, 8 + 8 * 4, read.row_count)
    struct.pack_into("<I", section, 0, crc32c(bytes(section[4:])))
    packed[read.blobs : read.blobs + read.blobs_bytes] = section
    (folder / "collection.idx").write_bytes(packed)
    with blobpack.open_collection(folder) as collection:
        assert collection.url_of("large/99").endswith("0004.tar")
        wrong = r"collection.idx: the collection is damaged: large/99 ends at byte \d+ of .*0004.tar, which has"
        for read_it in (collection.read, lambda name: list(collection.read_many([name]))):
            with pytest.raises(FormatError, match=wrong):
                read_it("large/99")


@pytest.mark.parametrize("name", ["../0000.tar", "x/../../0000.tar"])
def test_names_do_not_lead_out_of_the_folder(name: str, folder: Path) -> None:
    from blobpack.opening.locations import location_from

    bucket = Location("s3://bucket/", "s3")
    with pytest.raises(FormatError, match="which a collection there must not name"):
        location_from(Location(f"{folder}/", "local"), name, "x.idx")
    with pytest.raises(FormatError, match="gopher"):
        location_from(bucket, "gopher://x/y", "x.idx")
    assert (
        location_from(bucket, name, "x.idx").text == f"s3://bucket/{name}"
    )  # a key like any other


# On the command line


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [Path(sys.executable).with_name("blobpack"), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_collect_cat_ls_and_extract(folder: Path, tmp_path: Path) -> None:
    done = run("collect", str(folder), "--json")
    assert json.loads(done.stdout)["members"] == 100
    assert b"100 members" in run("collect", f"{folder}/*.tar").stdout
    assert run("cat", f"{folder}/", ALL[70], ALL[3]).stdout == payload_of(ALL[70]) + payload_of(
        ALL[3]
    )
    assert run("ls", f"{folder}/collection.idx").stdout.decode().split() == ALL
    assert run("ls", str(folder), "--filter", "003/*").stdout.decode().split() == [
        f"003/000{number}.bin" for number in range(5)
    ]
    run("extract", f"{folder}/*.tar", str(tmp_path / "files"), "--filter", "01*")
    extracted = {
        path.relative_to(tmp_path / "files").as_posix()
        for path in (tmp_path / "files").rglob("*.bin")
    }
    assert extracted == {name for name in ALL if name.startswith("01")}
    assert all((tmp_path / "files" / name).read_bytes() == payload_of(name) for name in extracted)


def test_wrong_usage_and_errors(folder: Path) -> None:
    blobs = [f"{folder}/0000.tar", f"{folder}/0001.tar"]
    assert b"need -o" in run("collect", *blobs, code=2).stderr
    assert len(run("ls", str(folder)).stdout.split()) == len(ALL)
    run("collect", *blobs, "-o", f"{folder}/two.idx")
    assert b"--rescan" in run("ls", f"{folder}/two.idx", "--rescan", code=2).stderr
    make_blob(folder / "again.tar", names_in(1))
    assert b"is in 0001.tar and in again.tar" in run("collect", str(folder), code=1).stderr
    run("collect", str(folder), "--duplicates", "last")


# In S3


@pytest.fixture
def prefix(s3_env: S3Server, folder: Path) -> str:
    bucket = s3_env.new_bucket()
    for path in sorted(folder.iterdir()):
        s3_env.put(bucket, f"train/{path.name}", path.read_bytes())
    s3_env.put(bucket, "train/note.txt", b"no blob")
    s3_env.put(bucket, "trainer/x.tar", b"of another prefix")
    return f"s3://{bucket}/train/"


@pytest.fixture
def collected(s3_env: S3Server, prefix: str, faults: FaultServer, tmp_path: Path) -> str:
    """The prefix with its collection, read through the fault proxy, which passes on nothing that writes."""
    blobpack.collect(prefix, tmp_path / "made.idx")
    made = (tmp_path / "made.idx").read_bytes()
    s3_env.put(prefix.split("/")[2], "train/collection.idx", made)
    faults.requests.clear()
    return prefix


async def aread_all(collection: blobpack.Collection, names: list[str]) -> list[bytes]:
    return [payload async for payload in collection.aread_many(names)]


class TestAsync:
    def test_many_come_in_the_order_asked(self, folder: Path, opened: Opened) -> None:
        blobpack.collect(folder)
        wanted = random.Random(3).choices(ALL, k=1000)
        with blobpack.open_collection(folder) as collection:
            assert asyncio.run(aread_all(collection, wanted)) == list(map(payload_of, wanted))
            assert sorted(opened) == urls_of(collection)
            chosen = collection.index.select("01?/*")
            read = asyncio.run(aread_all(collection, chosen))
            assert read == [payload_of(name) for name in chosen.names]
            assert asyncio.run(aread_all(collection, [])) == []
            with pytest.raises(TypeError):
                collection.aread_many("007/0003.bin")

    def test_one_is_read_beside_others(self, folder: Path) -> None:
        blobpack.collect(folder)

        async def read() -> list[bytes]:
            return await asyncio.gather(*map(collection.aread, ALL))

        with blobpack.open_collection(folder) as collection:
            assert asyncio.run(read()) == list(map(payload_of, ALL))
            with pytest.raises(MemberNotFoundError, match="none"):
                asyncio.run(collection.aread("none"))

    def test_errors_arrive_where_they_are_reached(self, folder: Path) -> None:
        blobpack.collect(folder)
        (folder / "0002.tar").unlink()

        async def read(names: list[str], error: type[Exception]) -> list[bytes]:
            read = []
            with pytest.raises(error):
                async for payload in collection.aread_many(names):
                    read.append(payload)
            return read

        with blobpack.open_collection(folder) as collection:
            before = [names_in(1)[0], names_in(3)[0]]
            expected = list(map(payload_of, before))
            for name, error in ((names_in(2)[0], BlobNotFoundError), ("none", MemberNotFoundError)):
                assert asyncio.run(read([*before, name, ALL[0]], error)) == expected
        with pytest.raises(StorageError, match="closed"):
            asyncio.run(aread_all(collection, ALL))

    def test_blobs_are_opened_side_by_side_and_the_loop_runs_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobpack.collect(folder)
        honest, met = module.open_shard, threading.Barrier(5)

        def waiting(*arguments: object, **named: object) -> object:
            met.wait(120)
            return honest(*arguments, **named)

        monkeypatch.setattr(module, "open_shard", waiting)

        async def read() -> list[bytes]:
            reading = asyncio.create_task(aread_all(collection, ALL))
            while not met.n_waiting and not reading.done():
                await asyncio.sleep(0)
            return await reading

        with blobpack.open_collection(folder) as collection:
            assert asyncio.run(read()) == list(map(payload_of, ALL))

    def test_who_stops_leaves_nothing_under_way(self, folder: Path) -> None:
        blobpack.collect(folder)

        async def read() -> set[str]:
            async with aclosing(collection.aread_many(ALL)) as payloads:
                async for _ in payloads:
                    break
            return {task.get_name() for task in asyncio.all_tasks()} - {
                asyncio.current_task().get_name()
            }

        with blobpack.open_collection(folder) as collection:
            assert asyncio.run(read()) == set()


class TestS3:
    def test_for_asyncio_too(self, prefix: str) -> None:
        blobpack.collect(prefix)
        with blobpack.open_collection(prefix) as collection:
            wanted = random.Random(6).choices(ALL, k=600)
            assert asyncio.run(aread_all(collection, wanted)) == list(map(payload_of, wanted))
            assert asyncio.run(collection.aread(ALL[42])) == payload_of(ALL[42])

    def test_a_blob_that_was_replaced_is_an_error_for_asyncio_too(
        self, s3_env: S3Server, prefix: str
    ) -> None:
        blobpack.collect(prefix)
        bucket, key = prefix.split("/")[2], "train/0002.tar"
        s3_env.put(bucket, key, s3_env.stored(bucket, key).replace(b"<007", b"<XXX"))

        async def read(names: list[str]) -> list[bytes]:
            read = []
            with pytest.raises(BlobChangedError, match=r"0002\.tar"):
                async for payload in collection.aread_many(names):
                    read.append(payload)
            return read

        with blobpack.open_collection(prefix) as collection:
            with pytest.raises(BlobChangedError, match=r"0002\.tar"):
                asyncio.run(collection.aread("007/0002.bin"))
            names = ["001/0001.bin", "007/0003.bin", "002/0002.bin", "003/0001.bin"]
            assert asyncio.run(read(names)) == list(map(payload_of, names[:2]))

    def test_a_prefix_is_collected_and_read(self, prefix: str) -> None:
        report = blobpack.collect(prefix)
        assert (report.url, report.blobs) == (f"{prefix}collection.idx", 5)
        with blobpack.open_collection(prefix) as collection:
            wanted = random.Random(5).choices(ALL, k=300)
            assert list(collection.read_many(wanted)) == list(map(payload_of, wanted))
            with pickle.loads(pickle.dumps(collection)) as again:
                assert again.read(ALL[42]) == payload_of(ALL[42])

    def test_a_glob_into_a_local_file(self, prefix: str, tmp_path: Path) -> None:
        blobpack.collect(f"{prefix}000[12].tar", tmp_path / "two.idx")
        with blobpack.open_collection(tmp_path / "two.idx") as collection:
            assert urls_of(collection) == [f"{prefix}0001.tar", f"{prefix}0002.tar"]
            with pytest.raises(UnsafeNameError, match="allow="):
                collection.read("007/0002.bin")
        with blobpack.open_collection(tmp_path / "two.idx", allow=prefix) as collection:
            assert collection.read("007/0002.bin") == payload_of("007/0002.bin")

    def test_it_is_read_by_http_urls(self, s3_env: S3Server, prefix: str, tmp_path: Path) -> None:
        blobpack.collect(prefix)
        bucket = prefix.split("/")[2]
        for found in s3_env.client.list_objects_v2(Bucket=bucket)["Contents"]:
            s3_env.client.put_object_acl(Bucket=bucket, Key=found["Key"], ACL="public-read")
        url = f"{s3_env.endpoint}/{bucket}/train/collection.idx"
        with blobpack.open_collection(url) as collection:
            assert list(collection.read_many(ALL[::20])) == list(map(payload_of, ALL[::20]))
            blobs = urls_of(collection)
        blobpack.collect(blobs, tmp_path / "c.idx")
        with blobpack.open_collection(tmp_path / "c.idx", allow=s3_env.endpoint) as collection:
            assert collection.read(ALL[42]) == payload_of(ALL[42])

    def test_made_in_a_folder_and_uploaded_with_it(
        self, s3_env: S3Server, folder: Path, prefix: str
    ) -> None:
        blobpack.collect(folder)
        bucket = prefix.split("/")[2]
        s3_env.put(bucket, "train/collection.idx", (folder / "collection.idx").read_bytes())
        with blobpack.open_collection(f"{prefix}*.tar") as collection:
            assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))

    def test_a_name_takes_one_request_of_one_blob(
        self, collected: str, faults: FaultServer
    ) -> None:
        with blobpack.open_collection(collected) as collection:
            assert len(faults.requests) == 1  # all of this small collection
            assert collection.read("007/0002.bin") == payload_of("007/0002.bin")
            assert len(faults.requests) == 2
            assert faults.requests[-1].if_match
            assert list(collection.read_many(names_in(1)[:3])) == list(
                map(payload_of, names_in(1)[:3])
            )
            assert len(faults.requests) <= 5

    def test_a_blob_that_was_replaced_is_never_read(self, s3_env: S3Server, prefix: str) -> None:
        blobpack.collect(prefix)
        bucket = prefix.split("/")[2]
        body = s3_env.client.get_object(Bucket=bucket, Key="train/0002.tar")["Body"].read()
        s3_env.put(bucket, "train/0002.tar", body.replace(b"<007", b"<XXX"))
        s3_env.delete(bucket, "train/0003.tar")
        with blobpack.open_collection(prefix) as collection:
            with pytest.raises(BlobChangedError, match=r"0002\.tar"):
                collection.read("007/0002.bin")
            with pytest.raises(BlobNotFoundError):
                collection.read("007/0003.bin")
            reads = collection.read_many(["001/0001.bin", "001/0002.bin", "002/0001.bin"])
            assert next(reads) == payload_of("001/0001.bin")
            with pytest.raises(BlobChangedError, match=r"0002\.tar"):
                next(reads)

    def test_compressed_blobs(self, s3_env: S3Server, prefix: str, tmp_path: Path) -> None:
        path = make_blob(tmp_path / "z.tar.zst", ["z"])
        s3_env.put(prefix.split("/")[2], "train/z.tar.zst", path.read_bytes())
        blobpack.collect(prefix)
        with blobpack.open_collection(prefix) as collection:
            assert collection.read("z") == payload_of("z")

    def test_nothing_there(self, prefix: str) -> None:
        with pytest.raises(BlobNotFoundError, match="no blobs"):
            blobpack.collect(f"{prefix}*.none")
        with pytest.raises(BlobNotFoundError, match="blobpack collect"):
            blobpack.open_collection(prefix)
        with pytest.raises(BlobNotFoundError):
            blobpack.collect("s3://no-such-bucket-at-all/*.tar")

    def test_a_batch_is_planned_across_blobs(self, collected: str, faults: FaultServer) -> None:
        """Neighbours come together, and what is in another blob is asked for at the same time."""
        met = threading.Barrier(5)
        faults.before_fault = lambda: met.wait(120)  # all five blobs' requests, or the test fails
        with blobpack.open_collection(collected, hedge="never") as collection:
            faults.requests.clear()
            faults.fail_next("cut", times=5)
            assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))
            assert len(faults.requests) == collection.stats.requests - 1 == 10
            assert collection.stats.merged == 95
            assert collection.stats.retried == 5

    @pytest.mark.parametrize("is_joined", [True, False])
    def test_all_requests_are_counted(
        self, s3_env: S3Server, prefix: str, tmp_path: Path, is_joined: bool
    ) -> None:
        """Also those that list the blobs, open them, and read their indexes: inside, beside, or in compressed blobs."""
        bucket = prefix.split("/")[2]
        beside = make_blob(tmp_path / "beside.tar", ["beside"], index="sidecar")
        compressed = make_blob(tmp_path / "z.tar.zst", ["z"])
        for path in (beside, beside.with_name("beside.tar.idx"), compressed):
            s3_env.put(bucket, f"train/{path.name}", path.read_bytes())
        if not is_joined:
            blobpack.collect(prefix)
        before = blobpack.stats()
        with blobpack.open(prefix) as collection:
            assert not is_joined or collection.stats.puts > 0
            for _ in range(2):
                after = blobpack.stats()
                counts = ("requests", "puts", "bytes_fetched", "bytes_wanted", "merged")
                wanted = {name: getattr(after, name) - getattr(before, name) for name in counts}
                # opening found no collection.idx
                wanted["requests"] -= is_joined
                found = asdict(collection.stats)
                for name in counts:
                    assert found[name] == wanted[name], name
                assert list(collection.read_many(["beside", "z", ALL[0]])) == [
                    payload_of(name) for name in ("beside", "z", ALL[0])
                ]

    def test_what_comes_is_compared_with_the_index(
        self, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobpack.collect(prefix)
        with blobpack.open_collection(prefix) as collection:
            read = RangedStore.read_range
            monkeypatch.setattr(
                RangedStore, "read_range", lambda *args: read(*args).replace(b"<007", b"<XXX")
            )
            for wrong in (collection.read, lambda name: list(collection.read_many([name]))):
                with pytest.raises(ChecksumError, match=r"0003\.tar: 007/0003\.bin"):
                    wrong("007/0003.bin")

    def test_a_second_epoch_through_a_cache_takes_no_request(
        self, collected: str, faults: FaultServer, tmp_path: Path
    ) -> None:
        for requests in (6, 1):  # that of the collection itself tells whether it has changed
            faults.requests.clear()
            with blobpack.open_collection(
                collected, cache=tmp_path / "cache", hedge="never"
            ) as collection:
                assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))
                assert len(faults.requests) == collection.stats.requests == requests
        ran = CliRunner().invoke(
            main, ["cat", collected, ALL[7], "--cache", str(tmp_path / "cache"), "--stats"]
        )
        assert ran.stdout_bytes == payload_of(ALL[7])

    def test_late_answers_are_asked_for_again(self, collected: str, faults: FaultServer) -> None:
        with blobpack.open_collection(collected) as collection:
            faults.fail_next("stall")
            assert list(collection.read_many(ALL)) == list(map(payload_of, ALL))
            assert collection.stats.hedged >= 1
            assert pickle.loads(pickle.dumps(collection)).hedge == "batches"
        with pytest.raises(ValueError, match="hedge must be one of"):
            blobpack.open_collection(collected, hedge="ever")  # type: ignore[arg-type]
