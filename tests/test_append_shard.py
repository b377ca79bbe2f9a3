"""An append to a collection adds a blob: the old collection or the new one is there, whole, and no blob is replaced."""

import json
import os
import resource
import threading

import pytest
from click.testing import CliRunner

import blobpack
from blobpack.cli.main import main
from blobpack.collection import local_copy
from blobpack.indexfile.remote import RemoteIndex

OLD = {"cats/1": b"old cat" * 90, "cats/2": b"second" * 90, "dogs/1": b"dog" * 90}
NEW = {"cats/3": b"third" * 90, "birds/1": b"bird" * 90}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def make(folder, first=OLD):
    """Two blobs and their collection."""
    pairs = list(first.items())
    blobpack.pack(pairs[:2], f"{folder}/a.tar", all_files=True)
    blobpack.pack(pairs[2:], f"{folder}/b.tar", all_files=True)
    blobpack.collect(f"{folder}/")
    return f"{folder}/"


def add(place, files=NEW, **options):
    pairs = list(files.items()) if isinstance(files, dict) else files
    return blobpack.append(place, pairs, all_files=True, **options)


def members_of(place):
    with blobpack.open_collection(place) as collection:
        return dict(collection.items())


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def shards(tmp_path):
    (tmp_path / "shards").mkdir()
    make(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        (tmp_path / "in").mkdir()
        return make(tmp_path / "in")
    return make(f"s3://{request.getfixturevalue('bucket')}/in")


class TestBoth:
    def test_the_new_members_are_in_a_blob_of_their_own(self, place):
        report = add(place)
        assert members_of(place) == OLD | NEW
        assert report.shard == f"{place}00000.tar"
        assert (report.appended, report.members, report.blobs) == (2, 5, 3)
        assert report.index.names[:] == list(OLD | NEW)
        assert report.index_place == "embed"
        with blobpack.open_collection(place) as collection:
            assert report.blob_bytes == sum(row.bytes for row in collection.blobs)
            assert [row.url.rpartition("/")[2] for row in collection.blobs] == [
                *("a.tar", "b.tar", "00000.tar")
            ]
            assert collection.index == report.index
        with blobpack.open_blob(report.shard) as blob:
            assert dict(blob.items()) == NEW
        # the file, too, names the collection
        assert add(f"{place}collection.idx", {"more": b"1"}).shard == f"{place}00001.tar"
        assert members_of(place) == OLD | NEW | {"more": b"1"}

    def test_it_is_the_collection_that_collect_makes(self, place, tmp_path):
        add(place)
        with blobpack.open_collection(place) as collection:
            blobs = [row.url for row in collection.blobs]
            again = f"{place}again.idx"
            blobpack.collect(blobs, again)
            with blobpack.open_collection(again) as other:
                assert other.index == collection.index
                assert other.index.facts == collection.index.facts
                assert list(other.blobs) == list(collection.blobs)

    @pytest.mark.parametrize("name", ["cats/1", "./cats/1"])
    def test_a_name_that_is_there_is_refused(self, place, name):
        with pytest.raises(
            blobpack.DuplicateNameError,
            match=r"collection\.idx: there is a member 'cats/1' already",
        ):
            add(place, {"new": b"1", name: b"2"})
        assert members_of(place) == OLD
        assert add(place, {"new": b"1"}).shard.endswith("/00000.tar")

    def test_the_last_member_of_a_name_is_read(self, place):
        add(place, {"cats/1": b"2"}, duplicates="last")
        add(place, {"cats/3": b"3"})
        with blobpack.open_collection(place) as collection:
            assert (len(collection), collection["cats/1"], collection["cats/3"]) == (5, b"2", b"3")

    def test_nothing_to_append(self, place):
        report = blobpack.append(place, [("notes.txt", b"text")])
        assert (report.appended, report.shard, report.blobs, report.members) == (0, None, 2, 3)
        assert str(report).startswith("appended 0 members")
        assert "the collection has 3 members" in str(report)
        assert report.skipped == {"not an image": 1}
        assert members_of(place) == OLD

    def test_the_other_blobs_are_not_opened(self, place, s3_env, tmp_path):
        if place.startswith("s3:"):
            bucket = place.split("/")[2]
            for key in ("in/a.tar", "in/b.tar"):
                s3_env.delete(bucket, key)
        else:
            for name in ("a.tar", "b.tar"):
                os.unlink(place + name)
        assert add(place).members == 5
        with blobpack.open_collection(place) as collection:
            assert list(collection.index.names) == list(OLD | NEW)
            assert collection["birds/1"] == NEW["birds/1"]

    def test_a_blob_that_appears_meanwhile_is_not_replaced(self, place):
        def source():
            yield "first", b"1"
            blobpack.pack([("other", b"2")], f"{place}00000.tar", all_files=True)
            yield "second", b"3"

        with pytest.raises(
            blobpack.BlobChangedError, match=r"nothing was lost.*00000\.tar exists already"
        ):
            add(place, source())
        with blobpack.open_blob(f"{place}00000.tar") as blob:
            assert dict(blob.items()) == {"other": b"2"}
        assert members_of(place) == OLD
        # the next number is free
        assert add(place).shard == f"{place}00001.tar"

    def test_a_collection_that_was_made_again_meanwhile_stays(self, place):
        def source():
            yield "first", b"1"
            blobpack.pack([("other", b"2")], f"{place}c.tar", all_files=True)
            blobpack.collect(place)

        with pytest.raises(blobpack.BlobChangedError, match="nothing was lost"):
            add(place, source())
        assert members_of(place) == OLD | {"other": b"2"}
        with pytest.raises(blobpack.BlobNotFoundError):
            blobpack.open_blob(f"{place}00000.tar")

    def test_facts_stay_where_new_members_have_none(self, place):
        images = make(made(f"{place}images"), {"x.png": PNG, "y.png": PNG, "z.png": PNG})
        add(images, {"text": b"text"})
        add(images, {"w.png": PNG})
        with blobpack.open_collection(images) as collection:
            assert [member.media_type for member in collection.index] == [
                *("image/png",) * 3,
                None,
                "image/png",
            ]
            assert "crc32c" in collection.index.facts

    def test_no_collection(self, place, s3_env):
        with pytest.raises(blobpack.BlobNotFoundError, match=f"`blobpack collect {place}more/`"):
            add(made(f"{place}more/"))

    def test_options_for_one_blob(self, place):
        with pytest.raises(ValueError, match="stale is for a single blob"):
            add(place, stale="rescan")
        local = not place.startswith("s3:")
        with pytest.raises(
            ValueError, match=f"drop is for a {'blob in S3' if local else 'single'}"
        ):
            add(place, drop="tags")
        for option in ["--rescan"] if local else ["--rescan", "--drop=tags"]:
            done = CliRunner().invoke(main, ["append", place, __file__, option])
            assert done.exit_code == 2
            assert "for a single blob" in done.output
        assert members_of(place) == OLD

    def test_the_command(self, place, tmp_path):
        (tmp_path / "x.png").write_bytes(PNG)
        arguments = ["append", place, "-C", str(tmp_path), "x.png"]
        done = CliRunner().invoke(main, [*arguments, "--json"])
        report = json.loads(done.output)
        assert (report["appended"], report["members"]) == (1, 4)
        assert report["shard"] == f"{place}00000.tar"
        done = CliRunner().invoke(main, [*arguments, "--prefix", "again/"])
        assert done.exit_code == 0
        assert f"as {place}00001.tar; the collection has 5 members" in done.output
        assert "of 4 blobs" in done.output
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1
        assert "with --duplicates last" in done.output


def made(folder):
    if not folder.startswith("s3:"):
        os.mkdir(folder)
    return folder


class TestLocal:
    def test_open_readers_go_on(self, shards):
        with blobpack.open_collection(shards) as old:
            add(shards)
            assert dict(old.items()) == OLD
            assert "birds/1" not in old

    def test_every_old_blob_stays_as_it_is(self, shards):
        before = snapshot(shards)
        add(shards)
        after = snapshot(shards)
        assert after.keys() - before.keys() == {"00000.tar"}
        assert {name for name in before if before[name] != after[name]} == {"collection.idx"}

    def test_nothing_is_written_where_a_name_is_refused(self, shards, tmp_path):
        (tmp_path / "cats").mkdir()
        (tmp_path / "cats" / "1").write_bytes(b"1")
        before = snapshot(shards)
        with pytest.raises(blobpack.DuplicateNameError):
            blobpack.append(shards, ["cats"], directory=tmp_path, all_files=True)
        with pytest.raises(blobpack.DuplicateNameError):
            add(shards, iter([("x", b""), ("dogs/1", b"")]))
        assert snapshot(shards) == before

    def test_names_that_are_not_in_normal_form(self, tmp_path):
        blobpack.pack({"./a": b"1"}, tmp_path / "x.tar", all_files=True)
        blobpack.collect(tmp_path)
        with pytest.raises(blobpack.DuplicateNameError, match=r"'\./a' already, and 'a' would"):
            add(tmp_path, {"a": b"2"})
        add(tmp_path, {"b": b"2"})
        assert members_of(tmp_path) == {"./a": b"1", "b": b"2"}

    def test_numbers_go_on(self, tmp_path):
        blobpack.pack_shards(OLD, tmp_path, 1 << 16, all_files=True, level=3)
        assert add(tmp_path).shard == str(tmp_path / "00001.tar")
        # left behind by an append that was killed
        blobpack.pack({"x": b""}, tmp_path / "00002.tar", all_files=True)
        assert add(tmp_path, {"y": b""}).shard == str(tmp_path / "00003.tar")
        assert members_of(tmp_path) == OLD | NEW | {"y": b""}

    def test_an_empty_collection_grows(self, tmp_path):
        blobpack.pack({}, tmp_path / "x.tar", allow_empty=True)
        blobpack.collect(tmp_path)
        add(tmp_path, {"a.png": PNG})
        with blobpack.open_collection(tmp_path) as collection:
            assert collection.index[0].media_type == "image/png"

    def test_the_second_of_two_appends_is_refused_at_once(self, shards):
        def source():
            yield "first", b"1"
            with pytest.raises(blobpack.StorageError, match="another append"):
                add(shards)

        add(shards, source())
        assert members_of(shards) == OLD | {"first": b"1"}

    def test_a_collection_of_names_that_two_blobs_have_grows(self, tmp_path):
        for name in ("a", "b"):
            blobpack.pack({"x": name.encode()}, tmp_path / f"{name}.tar", all_files=True)
        blobpack.collect(tmp_path, duplicates="last")
        add(tmp_path)
        assert members_of(tmp_path) == {"x": b"b"} | NEW

    def test_the_new_blob_goes_if_the_collection_can_not_be_written(self, tmp_path):
        names = {f"{'n' * 90}/{i:04}": b"" for i in range(2000)}
        blobpack.pack(names, tmp_path / "a.tar", all_files=True)
        blobpack.collect(tmp_path)
        before = snapshot(tmp_path)
        limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        # room for the blob, and not for the larger collection
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
        try:
            with pytest.raises(blobpack.StorageError, match="File too large"):
                add(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        assert len(before["collection.idx"]) > 100_000
        assert snapshot(tmp_path) == before

    def test_a_relative_path(self, shards, monkeypatch):
        monkeypatch.chdir(shards)
        assert add("collection.idx").shard == "00000.tar"
        monkeypatch.chdir(shards.parent)
        assert add("shards", {"y": b""}).shard == "shards/00001.tar"
        assert members_of("shards") == OLD | NEW | {"y": b""}

    def test_the_index_of_one_blob_is_no_collection(self, tmp_path):
        blobpack.pack(OLD, tmp_path / "x.tar", all_files=True, index="sidecar")
        with pytest.raises(blobpack.FormatError, match="the index of one blob"):
            add(tmp_path / "x.tar.idx")


class TestInS3:
    def test_the_index_is_copied_to_disk_and_not_held_in_memory(
        self, bucket, s3_env, monkeypatch, tmp_path
    ):
        place = make(f"s3://{bucket}/in")
        plain = RemoteIndex.parts

        def parts(index):
            """What reads an index in S3 in parts reads it into memory; that of the new blob is small."""
            assert not index.footer.blobs_bytes
            return plain(index)

        monkeypatch.setattr(RemoteIndex, "parts", parts)
        monkeypatch.setattr(local_copy, "WINDOW_BYTES", 1000)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        add(place)
        monkeypatch.undo()
        assert members_of(place) == OLD | NEW
        assert list(tmp_path.iterdir()) == []

    def test_of_two_appends_at_once_one_succeeds(self, bucket, s3_env):
        place = make(f"s3://{bucket}/in")

        def source():
            yield "first", b"1"
            # it finds 00000.tar free, and is faster
            add(place)

        with pytest.raises(blobpack.BlobChangedError, match="nothing was lost"):
            add(place, source())
        assert members_of(place) == OLD | NEW
        assert sorted(s3_env.keys(bucket)) == [
            f"in/{name}" for name in ("00000.tar", "a.tar", "b.tar", "collection.idx")
        ]

    def test_an_append_whose_blob_has_another_number_loses_nothing(self, bucket, s3_env):
        """The blob of the other append is there, and its collection not yet."""
        place = make(f"s3://{bucket}/in")
        began, go_on = threading.Event(), threading.Event()
        errors = []

        def source():
            yield "first", b"1"
            began.set()
            assert go_on.wait(120)

        def slow():
            try:
                add(place, source())
            except blobpack.BlobChangedError as exc:
                errors.append(exc)

        thread = threading.Thread(target=slow)
        thread.start()
        assert began.wait(120)
        s3_env.put(bucket, "in/00000.tar", b"the blob of an append that was killed")
        assert add(place).shard.endswith("00001.tar")
        s3_env.delete(bucket, "in/00000.tar")
        go_on.set()
        thread.join()
        assert len(errors) == 1
        assert members_of(place) == OLD | NEW
        assert "in/00000.tar" not in s3_env.keys(bucket)
