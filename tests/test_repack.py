"""Any tar, compressed or not → a blob: what is kept, what is skipped and said, and nothing lost silently."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard
from click.testing import CliRunner
from tars import BLOCK, END, Tar, header, need_tool

import blobpack
from blobpack.cli.main import main
from blobpack.errors import (
    BlobNotFoundError,
    DuplicateNameError,
    FormatError,
    SourceError,
    TruncatedError,
    UnsafeNameError,
)
from blobpack.tar.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3server import S3Server

MIB = 1 << 20


def zstd_frames(data: bytes) -> bytes:
    """Several frames, as pzstd and cat make, and a skippable one between."""
    third = len(data) // 3
    parts = [data[:third], data[third : 2 * third], data[2 * third :]]
    skippable = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
    return skippable.join(zstandard.compress(part) for part in parts)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.gz of two members": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    "tar.zst": zstandard.compress,
    "tar.zst of several frames": zstd_frames,
    "tar.xz": lzma.compress,
    "tar.bz2": bz2.compress,
}


def random_tar(members: int = 40, most: int = 5000) -> tuple[bytes, dict[str, bytes]]:
    chance = random.Random(13)
    payloads = {
        f"d/{i:03}.bin": chance.randbytes(chance.choice([0, 1, 512, chance.randrange(most)]))
        for i in range(members)
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, payload in payloads.items():
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            member.mtime = 1_700_000_000
            archive.addfile(member, io.BytesIO(payload))
    return file.getvalue(), payloads


TAR, PAYLOADS = random_tar()


def contents(path: Path) -> dict[str, bytes]:
    with blobpack.open_blob(path) as blob:
        return {name: blob.read(name) for name in blob.index.names}


# What is kept


@pytest.mark.parametrize("target", ["out.tar", "out.tar.zst"])
@pytest.mark.parametrize("kind", COMPRESSORS)
def test_every_compression_gives_the_same_blob(kind: str, target: str, tmp_path: Path):
    (tmp_path / "source").write_bytes(COMPRESSORS[kind](TAR))
    report = blobpack.repack(tmp_path / "source", tmp_path / target, all_files=True)
    assert contents(tmp_path / target) == PAYLOADS
    assert report.members == len(PAYLOADS)
    assert report.skipped == {}
    blobpack.pack(PAYLOADS.items(), tmp_path / "packed.tar", all_files=True)
    with blobpack.open_blob(tmp_path / target) as blob:
        assert blob.store.read_range(0, blob.store.size) == (tmp_path / "packed.tar").read_bytes()


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("tar", "tar cf - d"),
        ("tar", "tar --format=pax -cf - d"),
        ("gzip", "tar cf - d | gzip"),
        ("xz", "tar cf - d | xz"),
        ("bzip2", "tar cf - d | bzip2"),
        ("zstd", "tar cf - d | zstd -q"),
        ("zstd", "tar cf - d | zstd -q --long=27"),
        ("bsdtar", "bsdtar -czf - d"),
    ],
)
def test_what_real_tools_wrote(tool: str, command: str, tmp_path: Path):
    need_tool(tool)
    (tmp_path / "d").mkdir()
    for name, payload in PAYLOADS.items():
        (tmp_path / name).write_bytes(payload)
    (tmp_path / "d" / ("long" * 60)).write_bytes(b"a long name")
    subprocess.run(f"{command} > source", shell=True, cwd=tmp_path, check=True)
    report = blobpack.repack(tmp_path / "source", tmp_path / "out.tar", all_files=True)
    assert contents(tmp_path / "out.tar") == {**PAYLOADS, "d/" + "long" * 60: b"a long name"}
    assert report.skipped == {}


def test_a_blob_may_be_repacked_and_comes_out_the_same(tmp_path: Path):
    blobpack.pack(PAYLOADS.items(), tmp_path / "a.tar", all_files=True)
    blobpack.repack(tmp_path / "a.tar", tmp_path / "b.tar.zst", all_files=True)
    blobpack.repack(tmp_path / "b.tar.zst", tmp_path / "c.tar", all_files=True)
    assert (tmp_path / "c.tar").read_bytes() == (tmp_path / "a.tar").read_bytes()


@pytest.mark.parametrize(
    "name", ["BZh1.jpg", "LZIP.jpg", "\x1f\x8b.jpg", "PK\x03\x04.png", "xar!.png"]
)
def test_a_first_name_that_begins_as_another_format_does_is_a_name(name: str, tmp_path: Path):
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        member = tarfile.TarInfo(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    blobpack.repack(tmp_path / "a.tar", tmp_path / "o.tar", all_files=True)
    (found,) = scan(tmp_path / "o.tar").names
    assert found.encode("utf-8", "surrogateescape") == name.encode("latin-1")


def test_names_of_any_bytes_stay(tmp_path: Path):
    names = [b"\xff\xfe.jpg", "größer/猫.jpg".encode(), b"./a b", b"n" * 300]
    tar = Tar()
    for name in names:
        member = tarfile.TarInfo(os.fsdecode(name))
        member.size = 3
        tar.blob += member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + b"abc".ljust(
            BLOCK, b"\0"
        )
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(tar.end().blob)))
    blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "out.tar", all_files=True)
    assert list(scan(tmp_path / "out.tar").names) == [os.fsdecode(name) for name in names]


def test_images_alone_are_kept_unless_all_are_asked_for(
    tmp_path: Path, small_images: dict[str, bytes]
):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, payload in {**small_images, "notes.txt": b"text"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    (tmp_path / "a.tar.gz").write_bytes(file.getvalue())
    report = blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "out.tar")
    assert contents(tmp_path / "out.tar") == small_images
    assert report.skipped == {"not an image": 1}
    assert report.examples == {"not an image": ["notes.txt"]}
    report = blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "out.tar", globs="cats/*")
    assert set(contents(tmp_path / "out.tar")) == {n for n in small_images if n.startswith("cats/")}
    assert report.skipped == {"filtered out": 4}
    blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "out.tar", exclude=["*.jpg"], all_files=True)
    assert set(contents(tmp_path / "out.tar")) == {
        "notes.txt",
        *(n for n in small_images if not n.endswith(".jpg")),
    }


def test_from_s3(s3_env: S3Server, tmp_path: Path):
    url = s3_env.put(s3_env.new_bucket(), "a.tar.gz", gzip.compress(TAR))
    blobpack.repack(url, tmp_path / "out.tar.zst", all_files=True)
    assert contents(tmp_path / "out.tar.zst") == PAYLOADS


# What is skipped, and said


def test_what_has_no_payload_is_skipped_and_counted(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "d/a/file").write_bytes(b"payload")
    os.link(tmp_path / "d/a/file", tmp_path / "d/b/hard")
    os.symlink("file", tmp_path / "d/a/soft")
    os.mkfifo(tmp_path / "d/fifo")
    with (tmp_path / "d/sparse").open("wb") as file:
        file.write(b"x" * 8192)
        file.truncate(MIB)
        file.seek(MIB - 8192)
        file.write(b"y" * 8192)
    subprocess.run(
        f"{need_tool('tar')} --sort=name --sparse -czf a.tar.gz d",
        shell=True,
        cwd=tmp_path,
        check=True,
    )
    report = blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "out.tar", all_files=True)
    assert contents(tmp_path / "out.tar") == {"d/a/file": b"payload"}
    assert report.skipped == {
        "hard links": 1,
        "symbolic links": 1,
        "not a plain file": 1,
        "sparse files": 1,
    }
    assert report.examples["hard links"] == ["d/b/hard"]


def test_a_payload_larger_than_allowed_is_an_error_and_named(tmp_path: Path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(TAR))
    largest = max(map(len, PAYLOADS.values()))
    target = tmp_path / "out.tar"
    with pytest.raises(SourceError, match=rf"member 'd/.*' has {largest:,} bytes, more than"):
        blobpack.repack(tmp_path / "a.tar.gz", target, all_files=True, member_bytes_max=largest - 1)
    assert not target.exists()
    blobpack.repack(tmp_path / "a.tar.gz", target, all_files=True, member_bytes_max=largest)
    assert contents(target) == PAYLOADS


def test_what_is_no_image_may_be_of_any_size(tmp_path: Path, small_images: dict[str, bytes]):
    image = small_images["cats/0001.jpg"]
    tar = Tar().file("movie.bin", bytes(MIB)).file("cat.jpg", image).end()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(tar.blob)))
    report = blobpack.repack(tmp_path / "a.tar.gz", tmp_path / "o.tar", member_bytes_max=10_000)
    assert contents(tmp_path / "o.tar") == {"cat.jpg": image}
    assert report.skipped == {"not an image": 1}


# What is refused, with nothing written


def refused(data: bytes, tmp_path: Path, kind: type[Exception], match: str | None = None) -> None:
    (tmp_path / "source").write_bytes(data)
    target = tmp_path / "out.tar"
    target.write_bytes(TAR)
    with pytest.raises(kind, match=match):
        blobpack.repack(tmp_path / "source", target, all_files=True)
    assert target.read_bytes() == TAR
    assert sorted(os.listdir(tmp_path)) == ["out.tar", "source"]


@pytest.mark.parametrize("kind", [kind for kind in COMPRESSORS if kind != "tar"])
def test_a_compressed_stream_cut_anywhere_is_an_error(kind: str, tmp_path: Path):
    """Also where the tar is whole and only the checksum behind it is missing."""
    whole = COMPRESSORS[kind](TAR)
    chance = random.Random(17)
    for left in [1, len(whole) - 1, len(whole) - 5, *chance.sample(range(2, len(whole)), 10)]:
        refused(whole[:left], tmp_path, FormatError)


def test_a_plain_tar_cut_within_a_member_is_an_error(tmp_path: Path):
    with tarfile.open(fileobj=io.BytesIO(TAR)) as archive:
        members = archive.getmembers()
    large = next(member for member in members if member.size > 1000)
    for left in (large.offset + 1, large.offset + 511, large.offset_data + 1000):
        refused(TAR[:left], tmp_path, TruncatedError if left > large.offset_data else FormatError)


def test_a_plain_tar_without_its_end_marker_is_accepted(tmp_path: Path):
    with tarfile.open(fileobj=io.BytesIO(TAR)) as archive:
        last = archive.getmembers()[-1]
    (tmp_path / "a.tar").write_bytes(TAR[: last.offset_data + -(-last.size // BLOCK) * BLOCK])
    blobpack.repack(tmp_path / "a.tar", tmp_path / "out.tar", all_files=True)
    assert contents(tmp_path / "out.tar") == PAYLOADS


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_damaged_header_is_an_error_and_not_the_end(kind: str, tmp_path: Path):
    """The standard library's tarfile takes it for the end, and all behind it would be lost."""
    with tarfile.open(fileobj=io.BytesIO(TAR)) as archive:
        middle = archive.getmembers()[20]
    damaged = bytearray(TAR)
    damaged[middle.offset] ^= 1
    refused(COMPRESSORS[kind](bytes(damaged)), tmp_path, FormatError, f"at byte {middle.offset}")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.zst of several frames", "tar.xz", "tar.bz2"])
def test_a_flipped_bit_is_an_error_or_harmless(kind: str, tmp_path: Path):
    whole = COMPRESSORS[kind](TAR)
    chance = random.Random(19)
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        (tmp_path / "a").write_bytes(damaged)
        try:
            blobpack.repack(tmp_path / "a", tmp_path / "out.tar", all_files=True)
        except FormatError:
            continue
        if kind != "tar.zst of several frames":  # zstandard.compress takes no checksum
            assert contents(tmp_path / "out.tar") == PAYLOADS


@pytest.mark.parametrize(
    ("data", "match"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(random.Random(1).randbytes(10_000), None, id="random"),
        pytest.param(gzip.compress(b"no tar at all" * 100), None, id="gzip of no tar"),
        pytest.param(b"PK\x03\x04" + bytes(600), "unzip", id="zip"),
        pytest.param(b"\x04\x22\x4d\x18" + bytes(600), "unlz4", id="lz4"),
    ],
)
def test_what_is_no_tar_is_an_error(data: bytes, match: str | None, tmp_path: Path):
    refused(data, tmp_path, FormatError, match)


def test_names_are_checked_as_by_pack(tmp_path: Path):
    for name in ("/absolute", "../up", "a/../../up"):
        refused(bytes(Tar().file(name, b"x").end().blob), tmp_path, UnsafeNameError)
    twice = Tar().file("same", b"1").file("same", b"2").end()
    refused(bytes(twice.blob), tmp_path, DuplicateNameError, "'same'")


def test_no_source_is_not_found(tmp_path: Path):
    with pytest.raises(BlobNotFoundError):
        blobpack.repack(tmp_path / "none.tar.gz", tmp_path / "out.tar")


@pytest.mark.parametrize("type_", [b"x", b"g", b"L", b"K"])
def test_a_huge_extended_header_takes_no_memory(type_: bytes, tmp_path: Path):
    data = header(b"ext", 1 << 32, type_) + bytes(10 * BLOCK)
    refused(zstandard.compress(data), tmp_path, FormatError, "extended headers of over 67108864")


def test_extended_headers_without_end_are_an_error(tmp_path: Path):
    data = (header(b"long", 4, b"L") + b"name".ljust(BLOCK, b"\0")) * 5000
    refused(data + END, tmp_path, FormatError)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.zst", "tar.xz"])
def test_memory_is_bounded_though_the_stream_is_not(kind: str, tmp_path: Path):
    """600 MB of members of 1 MB, and a first one of 300 MB that is no image and so not taken."""
    script = """
import resource, sys
import blobpack
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = blobpack.repack(sys.argv[1], sys.argv[2], dry_run=True)
assert report.members == 600, report
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    image = b"\xff\xd8\xff\xe0" + bytes(1_000_000)
    path = tmp_path / "source"
    level = {"tar.gz": 1, "tar.zst": 1, "tar.xz": 0}[kind]
    with {
        "tar.gz": lambda: gzip.open(path, "wb", compresslevel=level),
        "tar.zst": lambda: zstandard.open(path, "wb"),
        "tar.xz": lambda: lzma.open(path, "wb", preset=level),
    }[kind]() as file:
        file.write(header(b"movie", 300 * MIB))
        for _ in range(300):
            file.write(bytes(MIB))
        for i in range(600):
            file.write(
                header(b"%d.jpg" % i, len(image))
                + image.ljust(-(-len(image) // BLOCK) * BLOCK, b"\0")
            )
        file.write(END)
    done = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "out.tar"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 150


# The command


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(TAR))
    run = CliRunner().invoke
    done = run(main, ["ls", "a.tar.gz"])
    assert done.exit_code == 1
    assert "`blobpack repack FILE OUT.tar`" in done.output
    done = run(main, ["repack", "a.tar.gz", "b.tar.zst", "--all", "--level", "9", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["members"] == len(PAYLOADS)
    assert contents(tmp_path / "b.tar.zst") == PAYLOADS
    done = run(main, ["repack", "a.tar.gz", "c.tar", "--all", "--dry-run", "--filter", "d/00*"])
    assert done.exit_code == 0
    assert done.output.startswith("would pack 10 members")
    assert not (tmp_path / "c.tar").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["a.tar", "a.tar"], "must be another"),
        (["a.tar.gz", "a.tar.gz"], "a tar is written"),
        (["a.tar.gz", "b.tar", "--level", "3"], "--level is for"),
        (["a.tar.gz", "b.tar.zst", "--level", "23"], "--level"),
        (["gopher://host/a.tar", "b.tar"], "gopher"),
    ],
)
def test_wrong_usage(
    arguments: list[str], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(TAR))
    (tmp_path / "a.tar").write_bytes(TAR)
    done = CliRunner().invoke(main, ["repack", *arguments])
    assert done.exit_code == 2
    assert match in done.output
