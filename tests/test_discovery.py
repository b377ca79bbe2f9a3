"""Which index a blob is opened by, and that a stale one is never believed: with real tools that change tars."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tars import need_tool

import blobpack
from blobpack import Index, LeftOutWarning, MissingIndexWarning, StaleIndexError
from blobpack.indexfile.footer import sidecar_of
from blobpack.writing.embed import embed_index

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def folder(tmp_path, small_images):
    for name, payload in small_images.items():
        path = tmp_path / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.png").write_bytes(small_images["birds/grey.png"])
    return tmp_path


@pytest.fixture
def blob(folder):
    """A blob with its index inside."""
    blobpack.pack(folder / "imgs", folder / "out.tar")
    return folder / "out.tar"


@pytest.fixture
def foreign(folder):
    """A tar of GNU tar's, padded to 10,240 bytes, and its index beside it."""
    tar(folder, "-cf", folder / "foreign.tar", "-C", folder / "imgs", ".")
    blobpack.scan(folder / "foreign.tar")
    return folder / "foreign.tar"


def tar(folder: Path, *arguments: object) -> None:
    subprocess.run([need_tool("tar"), *map(str, arguments)], check=True, cwd=folder)


def index_beside(path: Path) -> None:
    from blobpack.cli.main import main

    main(["index", str(path)], standalone_mode=False)


def members(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in archive if member.isfile()]


def names_of(path: Path, **options: object) -> list[str]:
    with blobpack.open_blob(path, **options) as blob:
        for member in blob.index:
            assert len(blob.read(member.name)) == member.size
        return list(blob.index.names)


class TestOrder:
    def test_the_index_inside_comes_before_the_one_beside(self, blob):
        Index().save(sidecar_of(blob))
        assert names_of(blob) == members(blob)

    def test_the_index_beside_comes_before_the_offsets_file(self, foreign):
        index_beside(foreign)
        blobpack.write_offsets(
            blobpack.scan(foreign).select("*.jpg"), foreign.with_name("foreign_offsets.pkl")
        )
        assert len(names_of(foreign)) == 6

    def test_the_offsets_file_comes_before_a_scan(self, foreign):
        blobpack.write_offsets(
            blobpack.scan(foreign).select("*.jpg"), foreign.with_name("foreign_offsets.pkl")
        )
        assert len(names_of(foreign)) == 3

    def test_without_any_the_blob_is_scanned_with_a_warning(self, foreign):
        with pytest.warns(MissingIndexWarning, match=r"`blobpack index .*foreign\.tar`") as warned:
            blob = blobpack.open_blob(foreign)
        assert warned[0].filename == __file__  # it points at the call, not at the caller's caller
        assert sorted(blob.index.names) == sorted(members(foreign))

    def test_one_that_is_given_comes_before_all(self, blob, foreign):
        jpegs = blobpack.open_blob(blob).index.select("*.jpg")
        jpegs.save(blob.with_name("jpegs.idx"))
        assert names_of(blob, index=blob.with_name("jpegs.idx")) == list(jpegs.names)
        assert names_of(blob, index=jpegs) == list(jpegs.names)
        blobpack.write_offsets(jpegs, blob.with_name("jpegs.pkl"))
        assert names_of(blob, index=blob.with_name("jpegs.pkl")) == list(jpegs.names)

    def test_no_index_of_an_empty_archive_is_scanned_either(self, tmp_path, recwarn):
        blobpack.pack([], tmp_path / "none.tar", allow_empty=True)
        assert names_of(tmp_path / "none.tar") == []
        assert not recwarn.list

    def test_a_copy_of_the_one_file_is_enough(self, blob, tmp_path, recwarn):
        (tmp_path / "elsewhere").mkdir()
        shutil.copy(blob, tmp_path / "elsewhere" / "b.tar")
        assert names_of(tmp_path / "elsewhere" / "b.tar") == members(blob)
        assert not recwarn.list

    @pytest.mark.parametrize("index", ["sidecar", "none"])
    def test_pack_puts_it_where_it_is_told(self, folder, index):
        report = blobpack.pack(folder / "imgs", folder / "o.tar", index=index)
        assert report.blob_bytes == (folder / "o.tar").stat().st_size
        assert Path(sidecar_of(folder / "o.tar")).exists() is (index == "sidecar")
        assert names_of(folder / "o.tar") == members(folder / "o.tar")


def appended(path: Path) -> None:
    tar(path.parent, "-rf", path, "-C", "more", "new.png")


def joined(path: Path) -> None:
    tar(path.parent, "-cf", "second.tar", "-C", "more", "new.png")
    tar(path.parent, "-Af", path, "second.tar")


def shortened(path: Path) -> None:
    name = members(path)[1]
    tar(path.parent, "--delete", "-f", path, name)


def concatenated(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes())


def followed(path: Path) -> None:
    """Put another tar of the same blobpack before it, as `cat a.tar b.tar` does."""
    other = path.with_name("other.tar")
    blobpack.pack(path.parent / "more", other)
    path.write_bytes(other.read_bytes() + path.read_bytes())


def rewritten(path: Path) -> None:
    """Change the last member's payload, and keep the size."""
    index = blobpack.scan(path)
    with path.open("r+b") as file:
        file.seek(index._last_end - 1)
        file.write(b"\xa5")


STALE = [appended, joined, shortened, concatenated, followed, rewritten]


def rescanned(path: Path, change: Callable[[Path], None]) -> list[str]:
    """Scan a changed blob. Members of a second archive are left out, as tarfile does, but not in silence."""
    if change not in (concatenated, followed):
        return names_of(path, stale="rescan")
    with pytest.warns(LeftOutWarning, match="members lie behind the end"):
        return names_of(path, stale="rescan")


def test_a_new_blob_takes_the_old_one_s_sidecar_away(folder, small_images):
    """Tiny members, two names exchanged: size, end and samples are as they were."""
    names = [f"{i:05d}.svg" for i in range(2000)]
    payloads = dict(zip(names, (b"<svg>%05d" % i for i in range(2000)), strict=True))
    blobpack.pack(payloads.items(), folder / "o.tar", index="sidecar")
    payloads["01000.svg"], payloads["01001.svg"] = payloads["01001.svg"], payloads["01000.svg"]
    blobpack.pack(payloads.items(), folder / "o.tar", index="none")
    with blobpack.open_blob(folder / "o.tar") as blob:
        assert blob.read("01000.svg") == b"<svg>01001"
    (folder / "o.tar.idx").write_bytes(b"someone else's")
    blobpack.pack(payloads.items(), folder / "o.tar")
    assert (folder / "o.tar.idx").exists()


class TestStale:
    def test_an_offsets_file_with_other_sizes_is_refused(self, folder):
        pairs = [("a.svg", b"1"), ("b.svg", b"22")]
        blobpack.pack(pairs, folder / "o.tar", index="none")
        blobpack.write_offsets(blobpack.scan(folder / "o.tar"), folder / "o_offsets.pkl")
        # another program copies a blob over this one
        blobpack.pack(pairs[::-1], folder / "other.tar", index="none")
        shutil.copy(folder / "other.tar", folder / "o.tar")
        with pytest.raises(StaleIndexError, match="no header before member"):
            blobpack.open_blob(folder / "o.tar")

    @pytest.mark.parametrize("change", STALE, ids=lambda change: change.__name__)
    def test_an_index_inside_a_changed_blob_is_refused_or_the_blob_rescanned(
        self, folder, small_images, change
    ):
        """The index is large enough that what tar writes does not reach its footer."""
        blob = folder / "many.tar"
        payload = small_images["birds/grey.png"]
        blobpack.pack(((f"{i:04d}.png", payload) for i in range(1500)), blob)
        change(blob)
        if change is shortened:  # GNU tar cuts the file, and the index with it
            assert names_of(blob) == members(blob)
        else:
            with pytest.raises(StaleIndexError, match=r"many\.tar: .*stale='rescan'"):
                blobpack.open_blob(blob)
        assert rescanned(blob, change) == members(blob)

    @pytest.mark.parametrize("change", STALE, ids=lambda change: change.__name__)
    def test_a_small_changed_blob_is_refused_or_read_right(self, blob, change):
        """What tar writes may cover all of the index: then the blob is scanned."""
        change(blob)
        try:
            assert names_of(blob) == members(blob)
        except StaleIndexError:
            assert rescanned(blob, change) == members(blob)

    @pytest.mark.parametrize("change", STALE, ids=lambda change: change.__name__)
    def test_an_index_beside_a_changed_blob_is_refused_or_the_blob_rescanned(self, foreign, change):
        index_beside(foreign)
        assert sorted(names_of(foreign)) == sorted(members(foreign))
        change(foreign)
        with pytest.raises(StaleIndexError, match=r"foreign\.tar\.idx is not the index of"):
            blobpack.open_blob(foreign)
        assert rescanned(foreign, change) == members(foreign)

    @pytest.mark.parametrize("factor", [20, 4000])
    @pytest.mark.parametrize("embed", [True, False])
    def test_an_archive_that_grew_into_its_padding_is_refused(self, folder, embed, factor):
        """Neither its size nor its last 4,096 bytes change."""
        blob, png = folder / "padded.tar", folder / "more" / "new.png"
        (folder / "more" / "tiny").write_bytes(b"tiny")
        tar(folder, "-b", factor, "-cf", blob, "-C", "more", "tiny")
        size = blob.stat().st_size
        if embed:
            embed_index(blob)
        else:
            index_beside(blob)
        assert names_of(blob) == ["tiny"]
        shutil.copy(png, folder / "more" / "b")
        tar(folder, "-b", factor, "-rf", blob, "-C", "more", "b")
        assert blob.stat().st_size >= size
        with pytest.raises(StaleIndexError, match=r"now has more bytes there|have changed"):
            blobpack.open_blob(blob)
        assert names_of(blob, stale="rescan") == ["tiny", "b"]

    @pytest.mark.parametrize("cut", [1, 512, 4096, 9000])
    def test_a_cut_blob_is_read_right_or_refused(self, blob, cut):
        expected = members(blob)
        os.truncate(blob, blob.stat().st_size - cut)
        try:
            assert names_of(blob) == expected
        except blobpack.TruncatedError:
            assert cut == 9000

    @pytest.mark.parametrize("cut", [1, 10240])
    def test_an_index_beside_a_cut_blob_is_refused(self, foreign, cut):
        index_beside(foreign)
        os.truncate(foreign, foreign.stat().st_size - cut)
        with pytest.raises(StaleIndexError, match="bytes, and its archive had"):
            blobpack.open_blob(foreign)

    def test_zeros_behind_a_blob_hide_its_index_but_not_its_members(self, blob):
        expected = members(blob)
        os.truncate(blob, blob.stat().st_size + 10240)
        with pytest.warns(MissingIndexWarning):
            opened = blobpack.open_blob(blob)
        assert list(opened.index.names) == expected

    def test_another_blob_of_the_same_size_is_not_this_one(self, folder, small_images):
        """Only one byte in the middle of each payload differs: all headers are the same."""
        payloads = {f"{i:03d}.jpg": b"\xff\xd8\xff" + bytes([i]) * 3000 for i in range(50)}
        blobpack.pack(payloads.items(), folder / "a.tar", index="sidecar")
        others = {
            name: payload[:1500] + b"\xff" + payload[1501:] for name, payload in payloads.items()
        }
        blobpack.pack(others.items(), folder / "b.tar", index="sidecar")
        assert (folder / "a.tar").stat().st_size == (folder / "b.tar").stat().st_size
        shutil.copy(folder / "b.tar", folder / "a.tar")
        with pytest.raises(StaleIndexError):
            blobpack.open_blob(folder / "a.tar")

    def test_the_index_of_another_blob_is_refused_when_it_is_given(self, blob, foreign):
        index_beside(foreign)
        with pytest.raises(StaleIndexError):
            blobpack.open_blob(blob, index=sidecar_of(foreign))

    def test_an_offsets_file_of_another_blob_is_refused(self, blob, foreign):
        index = blobpack.scan(foreign)
        shifted = Index(
            blobpack.Member(m.name, m.offset_start + 256, m.offset_end + 256) for m in index
        )
        blobpack.write_offsets(shifted, foreign.with_name("foreign_offsets.pkl"))
        with pytest.raises(StaleIndexError, match="no header before member"):
            blobpack.open_blob(foreign)
        assert names_of(foreign, stale="rescan") == list(index.names)

    def test_a_damaged_footer_is_a_format_error_or_rescanned(self, blob):
        data = bytearray(blob.read_bytes())
        data[-200] ^= 1
        blob.write_bytes(data)
        with pytest.raises(blobpack.FormatError, match="footer") as caught:
            blobpack.open_blob(blob)
        assert caught.value.offset == len(data) - 512
        assert names_of(blob, stale="rescan") == members(blob)

    def test_what_is_no_index_file_is_said(self, blob, tmp_path):
        (tmp_path / "x.idx").write_bytes(b"BLOBIDX\n" + bytes(600))
        with pytest.raises(blobpack.FormatError, match="not an index file"):
            blobpack.open_blob(blob, index=tmp_path / "x.idx")


@pytest.mark.parametrize("tool", ["tar", "bsdtar", "busybox", "python"])
def test_every_tar_tool_lists_a_blob_with_an_index_and_says_nothing(blob, tool):
    command = {
        "tar": lambda: [need_tool("tar"), "-t"],
        "bsdtar": lambda: [need_tool("bsdtar"), "-t"],
        "busybox": lambda: [need_tool("busybox"), "tar", "-t"],
        "python": lambda: [shutil.which("python3"), "-m", "tarfile", "-l", "/dev/stdin"],
    }[tool]()
    with blob.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert done.stderr == b""
    listed = [line.strip() for line in done.stdout.decode().splitlines() if line.strip()]
    assert [name.replace("\\303\\266\\303\\237", "öß") for name in listed] == members(blob)
