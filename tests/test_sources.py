"""What takes a blob takes a collection, and a folder, prefix or glob of blobs, too."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

import blobpack
from blobpack.cli.main import main
from blobpack.editing import source_blobs

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
        calls: list[blobpack.Progress] = []
        report = blobpack.verify(source, progress=calls.append)
        payload_bytes = sum(map(len, PAYLOADS.values()))
        assert (report.members, report.blobs, report.payload_bytes) == (60, 3, payload_bytes)
        assert report.ok
        assert report.checksums
        assert "60 members of 3 blobs, structure and checksums of" in str(report)
        done = [call[:2] for call in calls]
        assert done == sorted(done)
        assert done[-1] == (60, payload_bytes)

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


class TestWriteOffsets:
    def test_a_folder_gets_one_file_for_each_blob(self, source, folder, tmp_path):
        assert blobpack.write_offsets(source, f"{tmp_path}/offsets/") == 60
        assert sorted(os.listdir(tmp_path / "offsets")) == [f"{i}_offsets.pkl" for i in range(3)]
        for i in range(3):
            blobpack.write_offsets(blobpack.scan(folder / f"{i}.tar"), tmp_path / "alone.pkl")
            written = (tmp_path / "offsets" / f"{i}_offsets.pkl").read_bytes()
            assert written == (tmp_path / "alone.pkl").read_bytes()

    def test_beside_the_blobs(self, source, folder):
        blobpack.write_offsets(source, folder)
        index = blobpack.read_offsets(folder / "1_offsets.pkl")
        assert list(index.names) == [name for name in PAYLOADS if name[0] == "1"]

    @pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
    def test_a_table_has_a_column_for_the_blob(self, source, folder, tmp_path, format):
        for _ in range(2):  # the second one replaces the first
            blobpack.write_offsets(source, tmp_path / f"all.{format}", format=format)
        rows = {
            "csv": lambda path: list(csv.DictReader(path.read_text().splitlines())),
            "jsonl": lambda path: list(map(json.loads, path.read_text().splitlines())),
            "parquet": lambda path: parquet.read_table(path).to_pylist(),
        }[format](tmp_path / f"all.{format}")
        assert list(rows[0])[:4] == ["name", "offset_start", "offset_end", "blob"]
        assert [row["name"] for row in rows] == list(PAYLOADS)
        for row in rows:
            blob = Path(row["blob"])
            assert blob.parent == folder
            found = blob.read_bytes()[int(row["offset_start"]) : int(row["offset_end"])]
            assert found == PAYLOADS[row["name"]]

    def test_basenames_are_compared_blob_by_blob(self, tmp_path):
        for i in range(2):
            blobpack.pack([(f"{i}/a.bin", b"1")], tmp_path / f"{i}.tar", all_files=True)
        blobpack.write_offsets(f"{tmp_path}/*.tar", tmp_path / "all.csv", "basename", format="csv")
        lines = (tmp_path / "all.csv").read_text().splitlines()
        assert [row[0] for row in csv.reader(lines)] == ["name"] + ["a.bin"] * 2

    def test_a_pickle_of_many_blobs_is_refused(self, source, folder, tmp_path):
        before = sorted(os.listdir(folder))
        for target in (tmp_path / "all.pkl", io.BytesIO()):
            with pytest.raises(ValueError, match="holds the offsets in one blob: name a folder"):
                blobpack.write_offsets(source, target)
        assert sorted(os.listdir(folder)) == before
        assert not (tmp_path / "all.pkl").exists()

    def test_of_some_members(self, source, tmp_path):
        chosen = ["2/059.bin", 0, "1/021.bin"]
        assert blobpack.write_offsets(source, f"{tmp_path}/o/", members=chosen) == 3
        written = {
            path.name: list(blobpack.read_offsets(path).names)
            for path in (tmp_path / "o").iterdir()
        }
        assert written == {
            "0_offsets.pkl": ["0/000.bin"],
            "1_offsets.pkl": ["1/021.bin"],
            "2_offsets.pkl": ["2/059.bin"],
        }
        with pytest.raises(blobpack.MemberNotFoundError):
            blobpack.write_offsets(source, f"{tmp_path}/p/", members=["no.bin"])

    def test_of_some_members_of_one_blob(self, folder, tmp_path):
        with blobpack.open_blob(folder / "1.tar") as blob:
            for given in (blob, folder / "1.tar"):
                blobpack.write_offsets(given, tmp_path / "o.pkl", members=["1/025.bin", 1])
                names = list(blobpack.read_offsets(tmp_path / "o.pkl").names)
                assert names == ["1/021.bin", "1/025.bin"]
        with pytest.raises(ValueError, match=r"pass index.select"):
            blobpack.write_offsets(blobpack.Index(), tmp_path / "p.pkl", members=["a"])

    def test_a_folder_that_is_a_path_object(self, folder, tmp_path):
        blobpack.write_offsets(folder, tmp_path / "offsets")
        assert len(os.listdir(tmp_path / "offsets")) == 3

    def test_one_blob(self, folder, tmp_path):
        blobpack.write_offsets(blobpack.scan(folder / "1.tar"), tmp_path / "expected.pkl")
        expected = (tmp_path / "expected.pkl").read_bytes()
        # an offsets file beside the blob may hold only some members, and is not read
        blobpack.write_offsets(blobpack.Index(), folder / "1_offsets.pkl")
        with blobpack.open_blob(folder / "1.tar") as blob:
            for given in (folder / "1.tar", blob):
                blobpack.write_offsets(given, tmp_path / "o.pkl")
                assert (tmp_path / "o.pkl").read_bytes() == expected
                blobpack.write_offsets(given, f"{tmp_path}/o/")
                assert (tmp_path / "o" / "1_offsets.pkl").read_bytes() == expected
        blobpack.write_offsets(folder / "1.tar", tmp_path / "o.csv", format="csv")
        assert "blob" not in (tmp_path / "o.csv").read_text().splitlines()[0]

    def test_one_blob_that_changed_meanwhile(self, folder, tmp_path):
        with blobpack.open_blob(folder / "1.tar") as blob:
            blobpack.append(folder / "1.tar", [("new.bin", b"1")], all_files=True)
            with pytest.raises(blobpack.BlobChangedError, match="replaced or written"):
                blobpack.write_offsets(blob, tmp_path / "o.pkl")
        assert not (tmp_path / "o.pkl").exists()

    def test_blobs_in_folders_keep_them(self, tmp_path):
        for name in ("a/x.tar", "b/x.tar", "b/c/y.tar.zst"):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            blobpack.pack([(name, b"1")], tmp_path / "in" / name, all_files=True)
        blobpack.write_offsets(tmp_path / "in", f"{tmp_path}/out/")
        found = sorted(
            str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.pkl")
        )
        assert found == ["a/x_offsets.pkl", "b/c/y.tar_offsets.pkl", "b/x_offsets.pkl"]

    def test_two_blobs_with_one_file(self, tmp_path):
        for name in ("x.tar", "x.tzst"):
            blobpack.pack([(name, b"1")], tmp_path / name, all_files=True)
        with pytest.raises(
            blobpack.DuplicateNameError, match="both have the offsets file 'x_offsets"
        ):
            blobpack.write_offsets(tmp_path, f"{tmp_path}/out/")
        assert not (tmp_path / "out").exists()

    def test_the_index_of_many_blobs_does_not_say_enough(self, folder, tmp_path):
        blobpack.collect(folder)
        with (
            blobpack.open(folder) as collection,
            pytest.raises(ValueError, match="give the collection, or its path"),
        ):
            blobpack.write_offsets(collection.index, tmp_path / "o.pkl")

    def test_the_command(self, folder, tmp_path):
        # beside each blob, as Supervisely expects
        run("offsets", folder, "--filter", "*1.bin")
        assert list(blobpack.read_offsets(folder / "1_offsets.pkl").names) == [
            "1/021.bin",
            "1/031.bin",
        ]
        run("offsets", f"{folder}/*.tar", "-o", f"{tmp_path}/o/")
        assert len(blobpack.read_offsets(tmp_path / "o" / "2_offsets.pkl")) == 20
        printed = run("offsets", folder, "-o", tmp_path / "all.csv")
        assert "kept 60 of 60 members" in printed
        assert (tmp_path / "all.csv").read_text().startswith("name,offset_start,offset_end,blob,")
        run("offsets", folder / "0.tar", "-o", tmp_path / "o")
        assert len(blobpack.read_offsets(tmp_path / "o" / "0_offsets.pkl")) == 20
        ran = CliRunner().invoke(main, ["offsets", str(folder), "-o", str(tmp_path / "all.pkl")])
        assert ran.exit_code == 2
        assert "name a folder" in ran.output

    def test_from_s3_to_s3(self, s3_env, bucket, folder):
        for path in folder.iterdir():
            s3_env.put(bucket, f"train/{path.name}", path.read_bytes())
        url = f"s3://{bucket}/train/"
        assert blobpack.write_offsets(url, f"s3://{bucket}/offsets/") == 60
        blobpack.write_offsets(url, f"s3://{bucket}/all.csv", format="csv")
        keys = [key for key in s3_env.keys(bucket) if not key.startswith("train/")]
        assert keys == ["all.csv", *(f"offsets/{i}_offsets.pkl" for i in range(3))]
        rows = csv.DictReader(s3_env.stored(bucket, "all.csv").decode().splitlines())
        assert {row["blob"] for row in rows} == {f"{url}{i}.tar" for i in range(3)}


def members_at(blob: Path) -> list[tuple[str, bytes]]:
    with blobpack.open_blob(blob) as opened:
        return [
            (m.name, opened.store.read_range(m.offset_start, m.offset_end)) for m in opened.index
        ]


class TestMerge:
    def test_all_blobs_in_their_order(self, source, tmp_path):
        extra = tmp_path / "extra.tar"
        blobpack.pack([("extra.bin", b"1")], extra, all_files=True)
        report = blobpack.merge([extra, source], tmp_path / "all.tar")
        assert members_at(tmp_path / "all.tar") == [("extra.bin", b"1"), *PAYLOADS.items()]
        assert report.members == 61
        assert blobpack.verify(tmp_path / "all.tar").ok

    def test_what_was_opened_is_closed(self, folder, tmp_path):
        before = os.listdir("/proc/self/fd")
        blobpack.merge([folder], tmp_path / "all.tar")
        blobpack.subset(folder, tmp_path / "some.tar", ["0/001.bin", "2/059.bin"])
        assert len(os.listdir("/proc/self/fd")) == len(before)

    def test_names_that_two_blobs_have(self, folder, tmp_path):
        blobpack.pack([("0/001.bin", b"later")], folder / "3.tar", all_files=True)
        with pytest.raises(blobpack.DuplicateNameError, match=r"is in .*/0\.tar and in .*/3\.tar"):
            blobpack.merge([folder], tmp_path / "all.tar")
        blobpack.merge([folder], tmp_path / "all.tar", duplicates="last")
        assert dict(members_at(tmp_path / "all.tar")) == PAYLOADS | {"0/001.bin": b"later"}

    @pytest.mark.parametrize("chosen", [["0/001.bin"], []])
    def test_no_blob_of_a_source_is_replaced(self, folder, chosen):
        before = (folder / "2.tar").read_bytes()
        blobpack.collect(folder)
        for write in (
            lambda: blobpack.merge([folder], folder / "2.tar"),
            lambda: blobpack.subset(folder, folder / "2.tar", chosen, allow_empty=True),
        ):
            with pytest.raises(blobpack.StorageError, match="a source is read from this file"):
                write()
        assert (folder / "2.tar").read_bytes() == before

    def test_a_blob_that_is_not_the_one_that_was_collected(self, folder, tmp_path):
        blobpack.collect(folder)
        blobpack.pack([("new.bin", b"1")], folder / "1.tar", all_files=True)
        with pytest.raises(blobpack.StaleIndexError, match=r"1\.tar is not the blob"):
            blobpack.merge([folder], tmp_path / "all.tar")
        assert not (tmp_path / "all.tar").exists()

    def test_from_s3_to_s3(self, s3_env, bucket, folder):
        for path in folder.iterdir():
            s3_env.put(bucket, f"train/{path.name}", path.read_bytes())
        blobpack.merge([f"s3://{bucket}/train/"], f"s3://{bucket}/all.tar")
        with blobpack.open_blob(f"s3://{bucket}/all.tar") as blob:
            assert dict(zip(PAYLOADS, blob.read_many(PAYLOADS), strict=True)) == PAYLOADS


class TestSubset:
    def test_of_a_selection(self, source, tmp_path):
        with (
            blobpack.open(source)
            if not isinstance(source, blobpack.Collection)
            else source as reader
        ):
            chosen = reader.index.select("*5.bin")
            blobpack.subset(reader, tmp_path / "some.tar", chosen)
        assert members_at(tmp_path / "some.tar") == [
            (name, payload) for name, payload in PAYLOADS.items() if name.endswith("5.bin")
        ]

    def test_in_any_order_by_names_members_and_rows(self, source, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(source_blobs, "BLOBS_KEPT_OPEN", 2)
        names = random.Random(1).sample(list(PAYLOADS), 40)
        rows = {name: row for row, name in enumerate(PAYLOADS)}
        members = {m.name: m for i in range(3) for m in blobpack.scan(folder / f"{i}.tar")}
        mixed = [(name, rows[name], members[name])[i % 3] for i, name in enumerate(names)]
        blobpack.subset(source, tmp_path / "some.tar", mixed)
        assert members_at(tmp_path / "some.tar") == [(name, PAYLOADS[name]) for name in names]

    def test_what_does_not_exist(self, source, tmp_path):
        for missing, error in (("no.bin", blobpack.MemberNotFoundError), (60, IndexError)):
            with pytest.raises(error):
                blobpack.subset(source, tmp_path / "some.tar", ["0/001.bin", missing])
        assert not (tmp_path / "some.tar").exists()

    def test_the_commands(self, source, folder, tmp_path):
        if isinstance(source, blobpack.Collection):
            return
        for _ in range(2):  # the second one replaces the first
            run("merge", source, tmp_path / "all.tar")
        assert members_at(tmp_path / "all.tar") == list(PAYLOADS.items())
        run("subset", source, tmp_path / "some.tar", "--filter", "1/*")
        assert [name for name, _ in members_at(tmp_path / "some.tar")] == [
            name for name in PAYLOADS if name[0] == "1"
        ]

    def test_empty_blobs_have_no_rows(self, tmp_path):
        for i, files in enumerate([[], [("a", b"1")], [], [("b", b"2")], []]):
            blobpack.pack(files, tmp_path / f"{i}.tar", all_files=True, allow_empty=True)
        blobpack.subset(f"{tmp_path}/?.tar", tmp_path / "some.tar", ["b", "a"])
        assert members_at(tmp_path / "some.tar") == [("b", b"2"), ("a", b"1")]


class TestConcatenated:
    @pytest.fixture
    def joined(self, folder, tmp_path) -> Path:
        """A folder with one tar: the first two blobs joined by cat."""
        (tmp_path / "joined").mkdir()
        parts = [(folder / f"{i}.tar").read_bytes() for i in range(2)]
        (tmp_path / "joined" / "all.tar").write_bytes(b"".join(parts))
        return tmp_path / "joined"

    def test_merge(self, joined, folder, tmp_path):
        for given in (joined, joined / "all.tar"):
            blobpack.merge([given, folder / "2.tar"], tmp_path / "o.tar", concatenated=True)
            assert members_at(tmp_path / "o.tar") == list(PAYLOADS.items())

    def test_merge_of_what_has_an_index(self, joined, tmp_path):
        blobpack.collect(joined, concatenated=True)
        index = blobpack.scan(joined / "all.tar", concatenated=True)
        with blobpack.open_blob(joined / "all.tar", index) as blob:
            for source in (blob, joined / "collection.idx"):
                with pytest.raises(ValueError, match="concatenated=True needs"):
                    blobpack.merge([source], tmp_path / "o.tar", concatenated=True)

    def test_collect(self, joined):
        report = blobpack.collect(joined, concatenated=True)
        assert report.members == 40
        assert report.members_behind == []
        with blobpack.open_collection(joined) as collection:
            assert collection.read("0/001.bin") == PAYLOADS["0/001.bin"]
            assert collection.read("1/021.bin") == PAYLOADS["1/021.bin"]
        assert blobpack.verify(joined).members == 40

    def test_the_commands(self, joined, tmp_path):
        run("merge", joined, tmp_path / "o.tar", "--concatenated")
        assert len(members_at(tmp_path / "o.tar")) == 40
        run("collect", joined, "--concatenated")
        assert "40" in run("verify", joined)


def test_the_format_of_a_table_follows_the_suffix(folder: Path) -> None:
    """As on the command line; a file that is open has no suffix."""
    with blobpack.open(folder) as reader:
        blobpack.write_offsets(reader, folder / "t.csv")
        blobpack.write_offsets(folder / "0.tar", folder / "t.jsonl")
        assert (folder / "t.jsonl").read_text().startswith('{"name": ')
        assert (folder / "t.csv").read_text().startswith("name,offset_start,offset_end,blob")
        with pytest.raises(ValueError, match="holds the offsets in one blob"):
            blobpack.write_offsets(reader, io.BytesIO())
