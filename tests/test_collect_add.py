"""Blobs are added to a collection that is there: its file is copied, and neither its blobs nor its names are read."""

import os
import struct
from tempfile import TemporaryFile

import google_crc32c
import pytest
from click.testing import CliRunner

import blobpack
from blobpack._native.name_hashes import NameHashes
from blobpack.cli.main import main
from blobpack.indexfile import extend

PAGE = 4096


def pack(folder, stem, names, **options):
    payloads = [(name, name.encode() * 3) for name in names]
    blobpack.pack(payloads, f"{folder}/{stem}.tar", all_files=True, **options)


def many(stem, count):
    return [f"{stem}/{number:05}" for number in range(count)]


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """A folder and a prefix with a collection of 2,500 members in two blobs."""
    if request.param == "local":
        (tmp_path / "in").mkdir()
        folder = str(tmp_path / "in")
    else:
        folder = f"s3://{request.getfixturevalue('bucket')}/in"
    pack(folder, "a", many("a", 1500))
    pack(folder, "b", many("b", 1000))
    blobpack.collect(f"{folder}/")
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    pack(tmp_path / "in", "a", many("a", 2500))
    blobpack.collect(tmp_path / "in")
    return tmp_path / "in"


def footer_of(folder):
    with blobpack.open_collection(folder) as collection:
        return collection.index._stored.footer


def test_it_is_the_collection_of_all_blobs(place):
    pack(place, "c", many("c", 700))
    report = blobpack.collect(f"{place}/", add=True)
    assert (report.blobs, report.members) == (3, 3200)
    blobpack.collect(f"{place}/", f"{place}/all.idx")
    with (
        blobpack.open_collection(f"{place}/") as added,
        blobpack.open_collection(f"{place}/all.idx") as whole,
    ):
        assert added.index == whole.index
        assert added.index.facts == whole.index.facts
        assert added.index.payload_bytes == whole.index.payload_bytes
        assert list(added.blobs) == list(whole.blobs)
        for name in ["a/00000", "a/01499", "b/00999", "c/00000", "c/00699"]:
            assert added.index.row_of(name) == whole.index.row_of(name)
            assert added[name] == name.encode() * 3
        assert "c/00700" not in added
    assert blobpack.verify(f"{place}/").ok


def test_blobs_that_are_there_are_not_added_again(place):
    with blobpack.open_collection(f"{place}/") as collection:
        before = list(collection.blobs)
    report = blobpack.collect(f"{place}/", add=True)
    assert (report.blobs, report.members) == (2, 2500)
    assert report.collection_bytes > 2500
    with blobpack.open_collection(f"{place}/") as collection:
        assert list(collection.blobs) == before


def test_without_a_collection_all_blobs_are_collected(tmp_path):
    pack(tmp_path, "a", many("a", 3))
    assert blobpack.collect(tmp_path, add=True).members == 3
    assert blobpack.collect(tmp_path, add=True).members == 3


def test_blobs_and_names_that_are_there_are_not_read(folder):
    """The blob is gone and a block is damaged, and nobody notices until the member is read."""
    path = folder / "collection.idx"
    packed = bytearray(path.read_bytes())
    packed[1000] ^= 1
    path.write_bytes(packed)
    (folder / "a.tar").unlink()
    pack(folder, "b", many("b", 10))
    report = blobpack.collect([folder / "b.tar"], path, add=True)
    assert report.members == 2510
    added = path.read_bytes()
    # two whole blocks
    end = struct.unpack_from("<Q", added, footer_of(folder).directory + 8 + 16)[0]
    assert added[64:end] == packed[64:end]
    with blobpack.open_collection(folder) as collection:
        assert collection["b/00009"] == b"b/00009" * 3
        with pytest.raises(blobpack.ChecksumError):
            collection.index["a/00001"]
        assert collection.index["a/02499"].name == "a/02499"


def test_a_collection_grows_beyond_its_lookup(folder):
    """Then its names are read, and the lookup gets room for a quarter more."""
    assert footer_of(folder).lookup_pages == 7
    pages = []
    for number in range(8):
        pack(folder, f"more{number}", many(f"more{number}", 500))
        blobpack.collect(folder, add=True)
        pages.append(footer_of(folder).lookup_pages)
    assert pages[0] == 7
    assert pages == sorted(pages)
    assert len(set(pages)) < 6
    names = [*many("a", 2500), *(name for n in range(8) for name in many(f"more{n}", 500))]
    with blobpack.open_collection(folder) as collection:
        assert collection.index.names[:] == names
        assert collection.index.rows(names).tolist() == list(range(6500))
    assert blobpack.verify(folder).ok


@pytest.mark.parametrize("spelt", ["a/00007", "./a/00007", "a//00007"])
def test_a_name_that_is_there_is_refused(folder, spelt):
    before = (folder / "collection.idx").read_bytes()
    pack(folder, "b", ["b/1", spelt])
    with pytest.raises(
        blobpack.DuplicateNameError, match=r"'a/00007'.* a\.tar and .*b\.tar, two blobs"
    ):
        blobpack.collect(folder, add=True)
    assert (folder / "collection.idx").read_bytes() == before
    blobpack.collect(folder, add=True, duplicates="last")
    with blobpack.open_collection(folder) as collection:
        assert collection.index.row_of(spelt) == 2501
        assert collection.url_of(spelt).endswith("/b.tar")


def test_a_name_that_two_new_blobs_have_is_refused(folder):
    pack(folder, "b", ["b/1"])
    pack(folder, "c", ["c/1", "b/1"])
    with pytest.raises(blobpack.DuplicateNameError, match=r"'b/1' is in b\.tar and in c\.tar"):
        blobpack.collect(folder, add=True)


def test_old_names_that_are_not_in_normal_form_are_compared(folder):
    pack(folder, "b", ["./b/1"])
    blobpack.collect(folder, add=True)
    assert not footer_of(folder).normal_names
    pack(folder, "c", ["b/1"])
    with pytest.raises(blobpack.DuplicateNameError, match="would be extracted to one file"):
        blobpack.collect(folder, add=True)


def test_names_in_normal_form_are_known_to_be(folder):
    assert footer_of(folder).normal_names
    pack(folder, "b", ["b/1"])
    blobpack.collect(folder, add=True)
    assert footer_of(folder).normal_names


def test_a_blob_that_lacks_facts(folder):
    """Checksums of all members are dropped, and other facts are unknown."""
    pack(folder, "b", ["b/1"], facts=False)
    blobpack.collect(folder, add=True)
    with blobpack.open_collection(folder) as collection:
        assert "crc32c" not in collection.index.facts
        assert collection.index.rows(["a/00000", "b/1"]).tolist() == [0, 2500]


@pytest.mark.parametrize("members", [1, 1023, 1024, 1025])
def test_the_last_block_is_filled_up(tmp_path, members):
    pack(tmp_path, "a", many("a", members))
    blobpack.collect(tmp_path)
    pack(tmp_path, "b", many("b", 5))
    blobpack.collect(tmp_path, add=True)
    names = many("a", members) + many("b", 5)
    with blobpack.open_collection(tmp_path) as collection:
        assert collection.index.names[:] == names
        assert collection.index.rows(names).tolist() == list(range(len(names)))
        # names ascend, so there is a guide, which remote lookups use
        assert footer_of(tmp_path).guide_bytes
    pack(tmp_path, "c", ["0"])
    blobpack.collect(tmp_path, add=True)
    assert not footer_of(tmp_path).guide_bytes


def test_a_damaged_page_of_the_lookup_is_not_made_whole(folder):
    lookup = footer_of(folder).lookup
    packed = bytearray((folder / "collection.idx").read_bytes())
    for page in range(7):
        packed[lookup + page * PAGE + 100] ^= 1
    (folder / "collection.idx").write_bytes(packed)
    pack(folder, "b", many("b", 100))
    with pytest.raises(
        blobpack.ChecksumError, match=r"collection\.idx: .*a page of its lookup"
    ) as caught:
        blobpack.collect(folder, add=True)
    assert caught.value.offset == lookup


def test_a_directory_with_a_block_nowhere_is_damage(folder):
    """Its checksum is right; the number does not fit in 63 bits."""
    path = folder / "collection.idx"
    directory = footer_of(folder).directory
    changed = bytearray(path.read_bytes())
    struct.pack_into("<Q", changed, directory + 16, 1 << 63)
    crc = google_crc32c.value(bytes(changed[directory + 4 : directory + PAGE]))
    struct.pack_into("<I", changed, directory, crc)
    path.write_bytes(changed)
    pack(folder, "b", ["b/1"])
    with pytest.raises(blobpack.FormatError, match=r"collection\.idx: .*behind its end") as caught:
        blobpack.collect(folder, add=True)
    assert caught.value.offset == directory


def test_the_system_need_not_copy_files(folder, monkeypatch):
    """Some file systems can't. The copy is a fake that fails in the middle."""
    calls = []

    def copy(from_fd, to_fd, count, start, at):
        calls.append(count)
        if len(calls) > 1:
            raise OSError(18, "Invalid cross-device link")
        return os.pwrite(to_fd, os.pread(from_fd, 100, start), at)

    monkeypatch.setattr(extend.os, "copy_file_range", copy)
    pack(folder, "b", ["b/1"])
    blobpack.collect(folder, add=True)
    assert len(calls) == 2
    assert blobpack.verify(folder).ok


def test_another_process_that_adds_is_noticed(folder):
    import fcntl

    pack(folder, "b", ["b/1"])
    with (folder / "collection.idx").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(blobpack.StorageError, match="at work on it"):
            blobpack.collect(folder, add=True)


def test_two_processes_that_make_the_collection_are_noticed(place):
    """Otherwise the blobs that the first one has added would get lost."""
    target = f"{place}/new.idx"
    others = []

    def meanwhile(_):
        others.append(blobpack.collect([f"{place}/a.tar"], target, add=True))

    with pytest.raises(blobpack.BlobChangedError, match=r"new\.idx"):
        blobpack.collect([f"{place}/b.tar"], target, add=True, progress=meanwhile)
    assert len(others) == 1
    report = blobpack.collect([f"{place}/b.tar"], target, add=True)
    assert (report.blobs, report.members) == (2, 2500)


def test_a_blob_that_is_given_twice_is_added_once(place, monkeypatch):
    if "://" not in place:
        monkeypatch.chdir(place)
    twice = [f"{place}/b.tar", f"{place}/b.tar" if "://" in place else "../in/./b.tar"]
    for _ in range(2):
        report = blobpack.collect(twice, f"{place}/new.idx", add=True, duplicates="last")
        assert (report.blobs, report.members) == (1, 1000)


@pytest.mark.parametrize("there", ["", "index of one blob", "link"])
def test_what_is_no_collection_is_replaced_as_without_add(folder, there):
    target = folder / "new.idx"
    if there == "link":
        target.symlink_to("nowhere.idx")
    elif there:
        blobpack.scan(folder / "a.tar").save(target)
        with pytest.raises(blobpack.StorageError, match="is no collection"):
            blobpack.collect(folder, target, add=True)
    else:
        target.touch()
    report = blobpack.collect(folder, target, add=True, force=bool(there))
    assert (report.blobs, report.members) == (1, 2500)


def test_a_copy_that_the_system_does_not_make(folder, monkeypatch):
    """Old Linux reports success without copying on some file systems. This is a fake of one."""
    monkeypatch.setattr(extend.os, "copy_file_range", lambda *_: 0)
    pack(folder, "b", ["b/1"])
    blobpack.collect(folder, add=True)
    assert blobpack.verify(folder).ok


def test_the_command_adds(folder):
    pack(folder, "b", ["b/1"])
    result = CliRunner().invoke(main, ["collect", f"{folder}/", "--add"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("collected 2,501 members")


# The native part, with more pages than parts


def hashes_of(names, first_row=0):
    hashes = NameHashes(TemporaryFile, first_row=first_row)
    packed = [name.encode() for name in names]
    for first in range(0, len(names), 1024):
        part = packed[first : first + 1024]
        bounds, at = [0], 0
        for name in part:
            at += len(name)
            bounds.append(at)
        hashes.add(b"".join(part), memoryview(struct.pack(f"<{len(bounds)}q", *bounds)).cast("q"))
    return hashes


@pytest.mark.parametrize("page_names", [1, 3, 4, 8, 100, 250])
def test_names_are_put_into_pages_of_any_number(page_names):
    old, new = many("old", 1024), [*many("new", 700), "old/00005", "new/00003"]
    seed, count, parts = hashes_of(old).make_lookup(page_names=page_names)
    pages = b"".join(parts)
    assert (seed, count) == (0, -(-1024 // page_names))
    repeated = []
    extended = b"".join(
        hashes_of(new, 1024).extend_lookup(
            count,
            1024,
            lambda first, last: pages[first * PAGE : last * PAGE],
            lambda row: old[row].encode(),
            lambda row, other: repeated.append((row, other)),
        )
    )
    assert sorted(repeated) == [(5, 1724), (1027, 1725)]
    assert len(extended) == len(pages)
    rows = sorted(
        struct.unpack_from("<I", extended, at + 4)[0]
        for page in range(0, len(extended), PAGE)
        for at in range(page + 64, page + PAGE, 8)
        if extended[at + 4 : at + 8] != b"\xff" * 4
    )
    assert rows == sorted({*range(1726)} - {5, 1027})
