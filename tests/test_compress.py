"""A tar → seekable zstd: where frames are cut, the same bytes every time, and what other tools make of it."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import tarfile
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from tars import need_tool

import blobpack
from blobpack.errors import (
    FormatError,
    MissingIndexWarning,
    SourceError,
    StaleIndexError,
    StorageError,
)
from blobpack.stores.open import open_tar
from blobpack.stores.zstd.format import INDEX_FRAME_MAGIC, skippable_header
from blobpack.stores.zstd.store import SeekableStore
from blobpack.tar.scan import scan
from blobpack.writing import compress
from blobpack.writing.compress import (
    FRAME_BYTES,
    FrameWriter,
    compress_blob,
    frame_ends,
    is_compressed_target,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server


def payloads(count: int = 500) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(11)
    for i in range(count):
        yield f"json/{i:04}.json", bytes(chance.choices(b'{"box": 0123}', k=chance.randrange(9000)))
    yield "large.bin", chance.randbytes(3 * FRAME_BYTES)
    yield "größer/ende", b"the last"


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with out.tar and out.tar.zst of the same members."""
    folder = tmp_path_factory.mktemp("blobs")
    for name in ("out.tar", "out.tar.zst"):
        blobpack.pack(payloads(), folder / name, all_files=True)
    return folder


# Where frames are cut


@given(
    sizes=st.lists(st.integers(1, 400), max_size=60),
    rest=st.integers(0, 500),
    frame_bytes=st.integers(1, 200),
)
def test_cuts_are_where_members_end_unless_one_is_larger(
    sizes: list[int], rest: int, frame_bytes: int
):
    ends = list(accumulate(sizes))
    size = (ends[-1] if ends else 0) + rest
    found = list(frame_ends(ends, size, frame_bytes))
    assert found == sorted(set(found))
    assert found[-1:] == ([size] if size else [])
    inside = set(found) - {*ends, size}
    for start, end in pairwise([0, *ends]):
        own = sorted(at for at in inside if start < at < end)
        if own:  # a large member: its own frames, and none that begins or ends in another one
            assert end - start > frame_bytes
            assert {start, end} <= {0, *found}
            assert own == list(range(start + frame_bytes, end, frame_bytes))
    for start, end in pairwise([0, *found]):
        assert end - start <= 2 * frame_bytes


def test_frames_are_near_to_their_aim(blobs: Path):
    with open_tar(blobs / "out.tar.zst") as store:
        sizes = [end - start for start, end in pairwise(store.table.content_bounds)]
    small = sizes[: sizes.index(FRAME_BYTES) - 1]
    assert len(small) > 10
    assert all(FRAME_BYTES - 5000 < size < FRAME_BYTES + 5000 for size in small)


def test_a_member_is_in_one_frame_unless_it_is_larger(blobs: Path):
    with open_tar(blobs / "out.tar.zst") as store:
        for member in scan(blobs / "out.tar"):
            frames = store.table.frames_of(member.offset_start, max(1, member.offset_end))
            assert len(frames) == 1 or member.name == "large.bin" or not member.size


# The bytes


def test_it_reads_as_the_plain_blob_with_its_index(blobs: Path):
    with open_tar(blobs / "out.tar.zst") as store:
        plain = (blobs / "out.tar").read_bytes()
        assert store.size == len(plain)
        assert store.read_range(0, store.size) == plain
        assert store.content_bytes < len(plain)
        for start, end in [(-9, 9), (-9, 0), (0, 9), (-5000, 5000), (3, 4)]:
            start, end = start + store.content_bytes, end + store.content_bytes
            assert store.peek(start, end) == store.read_range(start, end) == plain[start:end]


def test_without_an_index_the_tar_alone_is_there(blobs: Path, tmp_path: Path):
    blobpack.pack(payloads(), tmp_path / "a.tar.zst", all_files=True, index="none")
    with open_tar(tmp_path / "a.tar.zst") as store, open_tar(blobs / "out.tar.zst") as whole:
        assert store.size == whole.content_bytes
        assert store.table.index_range() is None
    with pytest.warns(MissingIndexWarning), blobpack.open_blob(tmp_path / "a.tar.zst") as blob:
        assert len(blob.index) == 502


def test_its_index_opens_without_a_scan(blobs: Path, monkeypatch: pytest.MonkeyPatch):
    reads: list[tuple[int, int]] = []
    fetch = SeekableStore.fetch
    monkeypatch.setattr(
        SeekableStore,
        "fetch",
        lambda store, start, end: reads.append((start, end)) or fetch(store, start, end),
    )
    with blobpack.open_blob(blobs / "out.tar.zst") as blob:
        assert len(blob.index) == 502
        assert blob.index["größer/ende"].size == 8
        assert reads == []
        assert blob.read("größer/ende") == b"the last"
        assert blob.index == scan(blobs / "out.tar")
        again = pickle.loads(pickle.dumps(blob))
        assert again.read("json/0001.json") == blob.read("json/0001.json")
        again.close()


def test_an_index_beside_it_is_found(tmp_path: Path):
    blobpack.pack(payloads(9), tmp_path / "a.tar.zst", all_files=True, index="sidecar")
    assert sorted(os.listdir(tmp_path)) == ["a.tar.zst", "a.tar.zst.idx"]
    with blobpack.open_blob(tmp_path / "a.tar.zst") as blob:
        assert blob.read("größer/ende") == b"the last"
    beside = (tmp_path / "a.tar.zst.idx").read_bytes()
    blobpack.pack(payloads(8), tmp_path / "a.tar.zst", all_files=True, index="none")
    assert os.listdir(tmp_path) == ["a.tar.zst"]  # with the blob it was of, its index went
    (tmp_path / "a.tar.zst.idx").write_bytes(beside)
    with pytest.raises(StaleIndexError):
        blobpack.open_blob(tmp_path / "a.tar.zst")


def test_an_index_beside_it_of_another_blob_of_the_same_size_is_stale(tmp_path: Path):
    target = tmp_path / "a.tar.zst"
    random_bytes = random.Random(3).randbytes
    # same names, same sizes, same last bytes: what differs is a member in the middle
    for i in range(2):
        members = [("a", bytes(50_000)), ("b", random_bytes(50_000)), ("c", bytes(50_000))]
        blobpack.pack(members, target, all_files=True, index=("sidecar", "none")[i])
        if i == 0:
            beside = (tmp_path / "a.tar.zst.idx").read_bytes()
    (tmp_path / "a.tar.zst.idx").write_bytes(beside)
    with pytest.raises(StaleIndexError, match="samples of the archive's bytes have changed"):
        blobpack.open_blob(target)


@pytest.mark.parametrize("full", [False, True])
def test_verify_names_the_members_of_a_damaged_frame(blobs: Path, tmp_path: Path, full: bool):
    assert not blobpack.verify(blobs / "out.tar.zst", full=full).failures
    damaged = bytearray((blobs / "out.tar.zst").read_bytes())
    with open_tar(blobs / "out.tar.zst") as store:
        at = sum(store.table.frame_bounds[5:7]) // 2
        start, end = store.table.content_bounds[5:7]
    damaged[at] ^= 1
    (tmp_path / "a.tar.zst").write_bytes(damaged)
    report = blobpack.verify(tmp_path / "a.tar.zst", full=full)
    members = {m.name for m in scan(blobs / "out.tar") if start <= m.offset_start < end}
    assert len(members) > 5
    assert sorted(str(failure.name) for failure in report.failures) == sorted(members)
    assert all("zstd frame 5" in failure.reason for failure in report.failures)


def test_offsets_of_a_plain_blob_fit_the_compressed_one(blobs: Path, tmp_path: Path):
    with blobpack.open_blob(blobs / "out.tar") as blob:
        blobpack.write_offsets(blob.index, tmp_path / "offsets.pkl")
    index = tmp_path / "offsets.pkl"
    with blobpack.open_blob(blobs / "out.tar.zst", index=index) as blob:
        assert blob.read("größer/ende") == b"the last"
    with blobpack.open_blob(blobs / "out.tar.zst", index=scan(blobs / "out.tar")) as blob:
        assert blob.read("größer/ende") == b"the last"


def test_from_afar_a_first_read_is_four_requests(
    faults: FaultServer, s3_env: S3Server, tmp_path: Path
):
    """The tail with the seek table, the index's directory, its rows, and the frame."""
    members = ((f"d/{i:06}.txt", b"%d" % i) for i in range(30_000))
    blobpack.pack(members, tmp_path / "a.tar.zst", all_files=True)
    url = s3_env.put(s3_env.new_bucket(), "a.tar.zst", (tmp_path / "a.tar.zst").read_bytes())
    with blobpack.open_blob(url) as blob:
        assert blob.read("d/012345.txt") == b"12345"
        assert len(faults.requests) <= 4
        assert {request.method for request in faults.requests} == {"GET"}
        faults.requests.clear()
        assert blob.read("d/012345.txt") == b"12345"
        assert blob.read("d/012346.txt") == b"12346"
        assert faults.requests == []  # its frame is kept


@pytest.mark.parametrize("level", [1, 3, 12])
def test_the_same_bytes_however_many_threads(
    blobs: Path, level: int, monkeypatch: pytest.MonkeyPatch
):
    made = []
    index = scan(blobs / "out.tar")
    archive_bytes = index.report.bytes_scanned + 1024
    for threads in (1, 2, 7):
        file = io.BytesIO()
        with (blobs / "out.tar").open("rb") as tar:
            monkeypatch.setattr(compress, "processor_count", lambda most, threads=threads: threads)
            size = compress_blob(tar, index._columns, archive_bytes, file, level)
        assert size == len(file.getvalue())
        made.append(file.getvalue())
    assert made[0] == made[1] == made[2]


def test_a_higher_level_is_smaller(blobs: Path, tmp_path: Path):
    report = blobpack.pack(payloads(), tmp_path / "a.tar.zst", all_files=True, level=15)
    assert report.blob_bytes < (blobs / "out.tar.zst").stat().st_size


def test_the_report_tells_the_files_size_and_the_tars_offsets(blobs: Path, tmp_path: Path):
    report = blobpack.pack(payloads(), tmp_path / "a.tar.zst", all_files=True)
    assert report.blob_bytes == (tmp_path / "a.tar.zst").stat().st_size
    assert report.index == scan(blobs / "out.tar") == scan(tmp_path / "a.tar.zst")


def test_no_room_is_left_taken_and_no_file_left_behind(tmp_path: Path):
    blobpack.pack(payloads(50), tmp_path / "a.tzst", all_files=True)
    assert os.listdir(tmp_path) == ["a.tzst"]

    def failing() -> Iterator[tuple[str, bytes]]:
        yield from payloads(50)
        raise RuntimeError("the source failed")

    before = (tmp_path / "a.tzst").read_bytes()
    with pytest.raises(RuntimeError):
        blobpack.pack(failing(), tmp_path / "a.tzst", all_files=True)
    assert os.listdir(tmp_path) == ["a.tzst"]
    assert (tmp_path / "a.tzst").read_bytes() == before


def test_a_folder_is_packed_and_every_reading_works(tmp_path: Path, small_images: dict[str, bytes]):
    for name, payload in small_images.items():
        (tmp_path / "imgs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "imgs" / name).write_bytes(payload)
    target = tmp_path / "out.tar.zst"
    report = blobpack.pack(tmp_path / "imgs", target)
    with blobpack.open_blob(target) as blob:
        assert blob.index == report.index
        names = sorted(small_images)
        assert list(blob.read_many(names)) == [small_images[name] for name in names]
        pixels = blobpack.read_image(blob, "cats/0001.jpg")
        assert pixels.shape == (16, 24, 3)
        assert len(list(blobpack.read_images(blob, names[:3]))) == 3
        blobpack.extract(blob, tmp_path / "there")
    for name, payload in small_images.items():
        assert (tmp_path / "there" / name).read_bytes() == payload


# Other tools


def test_zstd_and_tar_list_it(blobs: Path):
    zstd, tar = need_tool("zstd"), need_tool("tar")
    done = subprocess.run(
        f"{zstd} -d < out.tar.zst | {tar} t",
        shell=True,
        cwd=blobs,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
    )
    assert done.stderr == b""
    with tarfile.open(blobs / "out.tar") as judge:
        assert len(done.stdout.splitlines()) == len(judge.getnames())
    assert done.stdout.startswith(b"json/0000.json\njson/0001.json\n")


def test_zstd_tests_it(blobs: Path):
    subprocess.run([need_tool("zstd"), "-q", "-t", blobs / "out.tar.zst"], check=True)


def test_zstd_passes_over_an_index_region(tmp_path: Path):
    path = tmp_path / "a.zst"
    with path.open("wb") as file, FrameWriter(file) as writer:
        writer.write_frame(b"content")
        writer.finish(os.urandom(100_000))
    done = subprocess.run([need_tool("zstd"), "-q", "-dc", path], capture_output=True, check=True)
    assert done.stdout == b"content"


# What is refused


@pytest.mark.parametrize("level", [0, 23, -1])
def test_a_level_zstd_has_not_is_value_error_and_writes_nothing(tmp_path: Path, level: int):
    with pytest.raises(ValueError, match="level must be from 1 to 22"):
        blobpack.pack(payloads(3), tmp_path / "a.tar.zst", all_files=True, level=level)
    assert os.listdir(tmp_path) == []


def test_a_level_for_a_plain_tar_is_value_error(tmp_path: Path):
    with pytest.raises(ValueError, match="is a plain tar"):
        blobpack.pack(payloads(3), tmp_path / "a.tar", level=3)


def test_a_compressed_blob_is_replaced_by_its_like_only(tmp_path: Path):
    target = tmp_path / "a.tar.zst"
    blobpack.pack(payloads(3), target, all_files=True)
    target.rename(tmp_path / "b.tar.zst")
    blobpack.pack(payloads(5), tmp_path / "b.tar.zst", all_files=True)
    assert len(scan(tmp_path / "b.tar.zst")) == 7
    (tmp_path / "b.tar.zst").rename(tmp_path / "b.tar")
    with pytest.raises(StorageError, match="is no tar"):
        blobpack.pack(payloads(5), tmp_path / "b.tar", all_files=True)


def test_nothing_to_pack_keeps_what_is_there(tmp_path: Path):
    blobpack.pack(payloads(3), tmp_path / "a.tar.zst", all_files=True)
    with pytest.raises(SourceError, match="nothing to pack"):
        blobpack.pack(iter([("a.txt", b"text")]), tmp_path / "a.tar.zst")
    assert len(scan(tmp_path / "a.tar.zst")) == 5


def test_an_index_region_of_4_gib_does_not_fit():
    assert skippable_header(INDEX_FRAME_MAGIC, (1 << 32) - 9)
    with pytest.raises(FormatError, match="4 GiB"):
        skippable_header(INDEX_FRAME_MAGIC, (1 << 32) - 8)


@pytest.mark.parametrize(
    ("name", "compressed"),
    [
        ("a.tar.zst", True),
        ("A.TAR.ZST", True),
        ("a.tzst", True),
        ("a.tar", False),
        ("a.zst", False),
        ("tar.zst/a", False),
    ],
)
def test_the_name_says_whether_it_is_compressed(name: str, compressed: bool):
    assert is_compressed_target(name) is compressed
