"""An index put into a tar that is there: any tool's tar, at once or not at all."""

from __future__ import annotations

import gc
import io
import os
import resource
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from tars import need_tool

import blobpack
from blobpack.index.tables.offsets import void_path
from blobpack.indexfile.footer import INDEX_MAGIC, sidecar_of
from blobpack.indexfile.identity import Identity
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.output import hidden_path
from blobpack.stores.sink import FileSink, Sink
from blobpack.tar.scan import scan_store
from blobpack.writing import embed
from blobpack.writing.blob_file import locked
from blobpack.writing.embed import embed_index, write_behind, write_beside


@pytest.fixture
def folder(tmp_path, small_images):
    (tmp_path / "imgs").mkdir()
    for i, payload in enumerate(small_images.values()):
        (tmp_path / "imgs" / f"{i}.img").write_bytes(payload)
    return tmp_path


def packed_by(tool: str, folder, *options: str):
    path = folder / f"{tool}.tar"
    subprocess.run([need_tool(tool), *options, "-cf", path, "imgs"], check=True, cwd=folder)
    return path


def payloads_of(path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: archive.extractfile(member).read() for member in archive if member.isfile()
        }


def check(path, expected: dict[str, bytes], recwarn) -> None:
    with blobpack.open_blob(path) as blob:
        assert {member.name: blob.read(member.name) for member in blob.index} == expected
    assert not recwarn.list
    assert payloads_of(path) == expected


@pytest.mark.parametrize(
    "options", [("--format=gnu",), ("--format=pax",), ("--format=v7",), ("-b1",)], ids=" ".join
)
def test_gnu_tars(folder, options, recwarn):
    path = packed_by("tar", folder, *options)
    expected = payloads_of(path)
    size = path.stat().st_size
    index = embed_index(path)
    assert len(index) == 6
    assert index.identity.archive_bytes == size  # the padding of its records stays
    check(path, expected, recwarn)


def test_bsdtar(folder, recwarn):
    path = packed_by("bsdtar", folder)
    expected = payloads_of(path)
    embed_index(path)
    check(path, expected, recwarn)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_an_end_marker_that_is_short_is_made_whole(folder, blocks, recwarn):
    path = packed_by("tar", folder, "-b1")
    expected = payloads_of(path)
    os.truncate(path, blobpack.scan(path).report.bytes_scanned + 512 * blocks)
    embed_index(path)
    check(path, expected, recwarn)
    assert blobpack.scan(path).report.end_marker == 2


@pytest.mark.parametrize("zeros", [1, 511, 513, 9000])
def test_zeros_behind_the_end_that_fill_no_whole_block_are_filled_up(folder, zeros, recwarn):
    path = packed_by("tar", folder, "-b1")
    expected = payloads_of(path)
    end = blobpack.scan(path).report.bytes_scanned + 1024
    path.write_bytes(path.read_bytes()[:end] + bytes(zeros))
    index = embed_index(path)
    assert index.identity.archive_bytes == end + zeros + -zeros % 512
    assert path.read_bytes()[end : index.identity.archive_bytes].strip(b"\0") == b""
    check(path, expected, recwarn)
    # tools that read on behind the end find headers at multiples of 512 alone
    listed = subprocess.run(["tar", "-itf", path], check=True, capture_output=True, text=True)
    assert ".blobpack/index" in listed.stdout
    assert listed.stderr == ""


def test_again_gives_the_same_bytes(folder, recwarn):
    path = packed_by("tar", folder)
    embed_index(path)
    first = path.read_bytes()
    embed_index(path)
    assert path.read_bytes() == first


def test_after_tar_appended_the_index_is_made_anew(folder, recwarn):
    blob = folder / "out.tar"
    blobpack.pack(folder / "imgs", blob)
    (folder / "new").write_bytes(b"no image")
    subprocess.run([need_tool("tar"), "-rf", blob, "new"], check=True, cwd=folder)
    size = blob.stat().st_size
    embed_index(blob)
    assert blob.stat().st_size >= size  # a file that is mapped elsewhere must not shrink
    check(blob, payloads_of(blob), recwarn)
    assert "new" in payloads_of(blob)


def test_what_stands_behind_the_end_is_not_overwritten(folder):
    path = packed_by("tar", folder)
    path.write_bytes(path.read_bytes() + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(blobpack.StorageError, match="something other than zeros"):
        embed_index(path)
    assert path.read_bytes() == before


def test_a_damaged_tar_stays_as_it_is(folder):
    path = packed_by("tar", folder)
    data = bytearray(path.read_bytes())
    data[512] ^= 1
    path.write_bytes(data)
    with pytest.raises(blobpack.FormatError):
        embed_index(path)
    assert path.read_bytes() == bytes(data)


@pytest.fixture
def full_disk(monkeypatch):
    """The first footer that is written to a blob finds the disk full; the calls that change files, in their order."""
    calls = []
    real = {name: getattr(os, name) for name in ("pwrite", "ftruncate", "fsync")}

    def noting(name):
        def call(*arguments):
            if (
                name == "pwrite"
                and bytes(arguments[1]).endswith(INDEX_MAGIC)
                and "full" not in calls
            ):
                calls.append("full")
                real["pwrite"](arguments[0], arguments[1][:100], arguments[2])
                raise OSError(28, "No space left on device")
            calls.append(name)
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, noting(name))
    return calls


def test_an_embedding_that_fails_leaves_the_blob_as_it_was(folder, full_disk):
    path = packed_by("tar", folder)
    before = path.read_bytes()
    with pytest.raises(blobpack.StorageError, match="No space left"):
        embed_index(path)
    assert path.read_bytes() == before
    assert full_disk[-2:] == ["ftruncate", "fsync"]


def test_an_embedding_that_fails_puts_the_old_index_back(folder, full_disk, recwarn):
    path = packed_by("tar", folder)
    expected = payloads_of(path)
    full_disk.append("full")
    embed_index(path)
    full_disk.clear()
    size = path.stat().st_size
    with pytest.raises(blobpack.StorageError, match="No space left"):
        embed_index(path)
    assert path.stat().st_size == size
    check(path, expected, recwarn)
    assert full_disk[-1] == "fsync"


def test_an_embedding_that_fails_behind_its_footer_keeps_the_new_index(
    folder, monkeypatch, recwarn
):
    """Readers may have mapped it already."""
    path = packed_by("tar", folder)
    expected = payloads_of(path)
    embed_index(path)
    calls = []
    pwrite, fsync = os.pwrite, os.fsync

    def writes(fd, block, position):
        calls.append("footer" if bytes(block).endswith(INDEX_MAGIC) else "bytes")
        return pwrite(fd, block, position)

    def fails(fd):
        calls.append("sync")
        if calls[-2:] == ["footer", "sync"] and calls.count("footer") == 1:
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "pwrite", writes)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(blobpack.StorageError, match="Input/output error"):
        embed_index(path, facts=True)
    assert calls[-3:] == ["footer", "sync", "sync"]
    check(path, expected, recwarn)
    with blobpack.open_blob(path) as blob:
        assert blob.index._member_at(0).crc32c is not None
    # no copy of the old index
    assert sorted(os.listdir(folder)) == ["imgs", path.name]


@contextmanager
def small_files(size: int):
    """Let writes behind a size fail, in all files."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def open_others(folder):
    """Open files for writing, which get the descriptors that are free; at the end they must be as they were."""
    paths = [folder / f"other-{i}" for i in range(8)]
    files = []
    for path in paths:
        path.write_bytes(b"\xa5" * 100_000)
        files.append(path.open("r+b"))
    try:
        yield
    finally:
        for file in files:
            file.close()
    assert {path.read_bytes() for path in paths} == {b"\xa5" * 100_000}


def test_what_an_embedding_had_buffered_when_it_failed_is_never_written(folder):
    """Python writes the buffer of a stream when the exception that refers to it goes, and hides an error of that."""
    path = packed_by("tar", folder)
    before = path.read_bytes()
    # there is room for the marks, and none for the index
    with small_files(len(before) + 512), pytest.raises(blobpack.StorageError) as caught:
        embed_index(path)
    assert "File too large" in str(caught.value)
    with open_others(folder):
        del caught
        gc.collect()
    assert path.read_bytes() == before


def test_a_stream_that_fails_writes_nothing_more_to_the_blob(folder):
    path = packed_by("tar", folder)
    before = path.read_bytes()
    with locked(path, "o.tar") as file:
        with pytest.raises(RuntimeError), file.writer(512) as stream:
            stream.write(b"lost")
            raise RuntimeError
        del stream
        gc.collect()
        assert path.read_bytes() == before
        with file.writer(512) as stream:
            stream.write(b"written")
    assert path.read_bytes() == before[:512] + b"written" + before[519:]


def test_a_blob_that_is_closed_is_not_written_through_its_old_descriptor(folder):
    path = packed_by("tar", folder)
    with locked(path, "o.tar") as file:
        pass
    with open_others(folder):
        for change in (
            lambda: file.write(b"lost", 0),
            lambda: file.cut(0),
            lambda: file.reserve(0, 1 << 20),
            file.store,
        ):
            with pytest.raises(blobpack.StorageError, match="Bad file descriptor"):
                change()


@pytest.mark.parametrize("options", [{}, {"facts": False}, {"facts": True}])
def test_facts_are_taken_if_they_are_asked_for(folder, options):
    path = packed_by("tar", folder)
    taken = options.get("facts", False)
    assert (embed_index(path, **options)._member_at(0).crc32c is not None) == taken
    with blobpack.open_blob(path) as blob:
        assert (blob.index._member_at(0).crc32c is not None) == taken


def test_what_a_killed_run_left_beside_the_blob_is_removed(folder):
    path = packed_by("tar", folder)
    left = hidden_path(folder / sidecar_of(path).text, "0123456789abcdef")
    left.write_bytes(b"half an index")
    void_path(path).touch()
    embed_index(path)
    assert sorted(os.listdir(folder)) == ["imgs", path.name]
    # nor is anything left of the index that this one replaces
    embed_index(path)
    assert sorted(os.listdir(folder)) == ["imgs", path.name]


def test_an_index_file_that_another_program_removes_meanwhile_is_gone(folder, monkeypatch, recwarn):
    path = packed_by("tar", folder)
    with LocalStore(Location.parse(path)) as store:
        write_beside(store, scan_store(store), sidecar_of(path).text)
    unlink = Path.unlink

    def second(self, **options):
        if self.exists():
            os.unlink(self)
        unlink(self, **options)

    monkeypatch.setattr(Path, "unlink", second)
    embed_index(path)
    monkeypatch.undo()
    check(path, payloads_of(path), recwarn)


@pytest.mark.parametrize("begins", [b"", INDEX_MAGIC[:-1], b"another program's file"])
def test_a_file_of_another_program_beside_the_blob_stays(folder, begins):
    path = packed_by("tar", folder)
    beside = folder / sidecar_of(path).text
    beside.write_bytes(begins)
    embed_index(path)
    assert beside.read_bytes() == begins


def test_a_stream_gets_the_bytes_that_a_file_gets(folder):
    """A file's header is written when the size of the index is known; a stream can't go back."""

    class Stream(Sink):
        def __init__(self):
            self.data = bytearray()

        def write(self, data):
            self.data += data
            return len(data)

        def tell(self):
            return len(self.data)

    path = packed_by("tar", folder)
    index = blobpack.scan(path)
    stream, file = Stream(), io.BytesIO()
    for sink in (stream, FileSink(file)):
        sink.write(path.read_bytes())
        inside = write_behind(sink, index, Identity(path.stat().st_size, 1, 2))
        assert sink.tell() == path.stat().st_size + inside
    assert bytes(stream.data) == file.getvalue()


def test_an_index_file_of_a_local_blob_records_no_version(folder, recwarn):
    """The time and the inode of a file say nothing after a copy, or after a change that restores the time."""
    path = packed_by("tar", folder)
    with LocalStore(Location.parse(path)) as store:
        index = write_beside(store, scan_store(store), sidecar_of(path).text)
        # whoever calls it has looked what is there
        Path(sidecar_of(path)).write_bytes(b"no index")
        write_beside(store, index, sidecar_of(path).text)
    assert index.identity.version == ""
    (folder / "copy").mkdir()
    for name in (path, sidecar_of(path).text):
        shutil.copy(name, folder / "copy")
    check(folder / "copy" / path.name, payloads_of(path), recwarn)


def test_a_file_like_output_can_be_counted():
    index = blobpack.Index([blobpack.Member("a", 512, 600)])
    file = io.BytesIO()
    footer = index._write_sections(file, None)
    assert embed.measure_index(index) == footer
    assert footer.region_bytes == len(file.getvalue()) + 512
