"""Every command that reads a blob also reads a collection, a folder, a glob and a prefix of blobs."""

import json
import os

import pytest
from click.testing import CliRunner

import blobpack
from blobpack.cli.main import main

FILES = {name: name.encode() * 300 for name in ("cats/1", "cats/2", "dogs/1")}


def pack_into(folder):
    """Two blobs, the first with two members."""
    blobpack.pack(list(FILES.items())[:2], f"{folder}/a.tar", all_files=True)
    blobpack.pack(list(FILES.items())[2:], f"{folder}/b.tar", all_files=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("shards", "collected"):
        os.mkdir(name)
        pack_into(name)
    blobpack.collect("collected")
    return tmp_path


SOURCES = {
    "collection": "collected/collection.idx",
    "folder": "shards",
    "folder with a collection": "collected/",
    "glob": "shards/*.tar",
}


@pytest.fixture(params=[*SOURCES, "prefix"])
def source(request, here):
    if request.param != "prefix":
        return SOURCES[request.param]
    bucket = request.getfixturevalue("bucket")
    pack_into(f"s3://{bucket}/shards")
    return f"s3://{bucket}/shards/"


def run(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_info(source):
    figures = json.loads(run("info", source, "--json"))
    assert (figures["members"], figures["blobs"]) == (3, 2)
    assert figures["payload_bytes"] == sum(map(len, FILES.values()))
    rows = [
        (row["blob"].rpartition("/")[2], row["first_row"], row["members"])
        for row in figures["table"]
    ]
    assert rows == [("a.tar", 0, 2), ("b.tar", 2, 1)]
    assert sum(row["blob_bytes"] for row in figures["table"]) == figures["blob_bytes"]
    assert "blobs:" in run("info", source)


def test_ls_and_cat(source):
    assert run("ls", source).split() == list(FILES)
    shown = run("cat", source, "dogs/1", "cats/1")
    assert shown.encode() == FILES["dogs/1"] + FILES["cats/1"]


def test_extract(source, here):
    run("extract", source, "into", "--filter", "*/1")
    found = {
        f"{path.parent.name}/{path.name}": path.read_bytes() for path in (here / "into").glob("*/*")
    }
    assert found == {name: FILES[name] for name in ("cats/1", "dogs/1")}


def test_verify(source):
    figures = json.loads(run("verify", source, "--json"))
    assert (figures["members"], figures["failures"]) == (3, [])


def test_offsets(source, here):
    (here / "into").mkdir()
    run("offsets", source, "-o", "into/")
    assert sorted(os.listdir("into")) == ["a_offsets.pkl", "b_offsets.pkl"]
    run("offsets", source, "-o", "all.csv")
    lines = (here / "all.csv").read_text().splitlines()
    assert "blob" in lines[0].split(",")
    assert len(lines) == 4


def test_subset_and_merge(source):
    run("subset", source, "some.tar", "--filter", "*/1")
    run("merge", source, "some.tar", "all.tar", "--duplicates", "last")
    for name, names in (("some.tar", {"cats/1", "dogs/1"}), ("all.tar", set(FILES))):
        with blobpack.open_blob(name) as blob:
            assert dict(blob.items()) == {name: FILES[name] for name in names}


def test_collect(source, here):
    if source.endswith(".idx"):
        return
    run("collect", source, "-o", "new.idx")
    with blobpack.open_collection("new.idx") as collection:
        assert list(collection.index.names) == list(FILES)


def test_append(source, here):
    """Only to a collection."""
    if "collected" not in source:
        run("append", source, "collected/a.tar", "--all", code=2 if "*" in source else 1)
        return
    (here / "new").write_bytes(b"new")
    run("append", source, "new", "--all")
    assert run("ls", source).split() == [*FILES, "new"]
    assert run("cat", source, "new") == "new"


def test_index(source, here):
    """One index for each blob, in a folder here."""
    figures = json.loads(run("index", source, "-o", "into/", "--facts", "--json"))
    assert (figures["blobs"], figures["members"]) == (2, 3)
    assert [row["blob"].rpartition("/")[2] for row in figures["indexes"]] == ["a.tar", "b.tar"]
    assert [(row["members"], row["index"]) for row in figures["indexes"]] == [
        (2, "into/a.tar.idx"),
        (1, "into/b.tar.idx"),
    ]
    for row in figures["indexes"]:
        with blobpack.open_blob(row["blob"], index=row["index"]) as blob:
            assert dict(blob.items()) == {name: FILES[name] for name in blob}
            assert "crc32c" in blob.index.facts


def test_indexes_beside_the_blobs(source, here, request):
    is_far = source.startswith("s3:")
    if is_far:
        assert "with -o" in CliRunner().invoke(main, ["index", source]).output
        run("index", source, code=2)
    shown = run("index", source, *(["-o", source] if is_far else []))
    assert shown.splitlines()[-1] == "indexed 3 members of 2 blobs"
    folder = source if is_far else f"{source.split('/')[0]}/"
    for name, rows in (("a.tar", 2), ("b.tar", 1)):
        assert len(blobpack.Index.load(f"{folder}{name}.idx")) == rows
    assert run("index", source, "-o", "one.idx", code=2) == ""


def test_indexes_inside_the_blobs(source, here):
    if source.startswith("s3:"):
        run("index", source, "--index", "embed", code=2)
        return
    folder = source.split("/")[0]
    for name in ("a.tar", "b.tar"):
        blobpack.pack([(n, FILES[n]) for n in FILES if (n == "dogs/1") == (name == "b.tar")],
                      f"{folder}/{name}", all_files=True, index="none")  # fmt: skip
    if source.endswith(".idx"):
        blobpack.collect(folder, scan=True)
    run("index", source, "--index", "embed")
    for name in ("a.tar", "b.tar"):
        with blobpack.open_blob(f"{folder}/{name}") as blob:
            assert "index inside" in repr(blob)
    # the collection knows the archives, which are the same
    with blobpack.open(source) as reader:
        assert dict(reader.items()) == FILES


class TestIndexesOfSeveral:
    def test_folders_below_the_source_are_kept(self, here):
        os.makedirs("deep/x")
        os.makedirs("deep/y")
        for name in ("x", "y"):
            blobpack.pack({name: b"1"}, f"deep/{name}/same.tar", all_files=True)
        run("index", "deep", "-o", "into/")
        assert sorted(path.as_posix() for path in (here / "into").rglob("*.idx")) == [
            f"{here}/into/{name}/same.tar.idx" for name in ("x", "y")
        ]

    def test_a_blob_that_fails_is_named_and_ends_it(self, here):
        (here / "shards" / "b.tar").write_bytes(b"no tar at all" * 100)
        done = CliRunner().invoke(main, ["index", "shards"])
        assert done.exit_code == 1
        assert "shards/b.tar" in done.output

    def test_a_file_of_another_kind_is_not_replaced(self, here):
        (here / "shards" / "b.tar.idx").write_bytes(b"mine")
        run("index", "shards", code=1)
        assert sorted(os.listdir("shards")) == ["a.tar", "b.tar", "b.tar.idx"]

    def test_a_collection_of_blobs_elsewhere_is_refused(self, here):
        blobpack.collect(["shards/a.tar"], "collected/other.idx")
        done = CliRunner().invoke(main, ["index", "collected/other.idx"])
        assert done.exit_code == 1
        assert "not below the collection's own folder" in done.output
        assert sorted(os.listdir("shards")) == ["a.tar", "b.tar"]

    def test_a_key_that_leads_out_of_the_folder_is_refused(self, bucket, s3_env, here):
        blobpack.pack({"x": b"1"}, "x.tar", all_files=True)
        s3_env.put(bucket, "in/../../evil.tar", (here / "x.tar").read_bytes())
        run("index", f"s3://{bucket}/in/", "-o", "into/", code=1)
        assert not list(here.rglob("evil*"))

    def test_one_blob_and_a_folder(self, here):
        assert run("index", "shards/a.tar", "-o", "collected") == (
            "indexed 2 members: collected/a.tar.idx\n"
        )


def test_merge_refuses_to_scan_a_collection(here):
    done = CliRunner().invoke(
        main, ["merge", "--concatenated", "collected/collection.idx", "m.tar"]
    )
    assert done.exit_code == 2
    assert "a collection has its index" in done.output
    assert not (here / "m.tar").exists()


def test_reading_commands_take_blobs_that_share_a_name(here):
    os.mkdir("dup")
    for blob, label in (("a", b"first"), ("b", b"last")):
        members = {"label.txt": label, f"{blob}.txt": b"x"}
        blobpack.pack(members, f"dup/{blob}.tar", all_files=True)
    assert run("cat", "dup", "label.txt") == "last"
    assert run("ls", "dup").split() == ["label.txt", "a.txt", "label.txt", "b.txt"]
    assert json.loads(run("info", "dup/*.tar", "--json"))["members"] == 4
    run("extract", "dup", "files")
    with open("files/label.txt", "rb") as file:
        assert file.read() == b"last"
    run("subset", "dup", "a.tar", "--filter", "a.txt")
    # merge asks
    run("merge", "dup", "all.tar", code=1)


def test_offsets_by_an_index_that_lies_elsewhere(here, monkeypatch):
    blobpack.pack(FILES, "bare.tar", all_files=True, index="none")
    run("index", "bare.tar", "-o", "elsewhere.idx")
    run("offsets", "bare.tar", "-o", "scanned.pkl")
    # the headers are not needed any more
    monkeypatch.setattr("blobpack.opening.find_index.scan_store", None)
    run("offsets", "bare.tar", "--index-file", "elsewhere.idx", "-o", "indexed.pkl")
    assert (here / "scanned.pkl").read_bytes() == (here / "indexed.pkl").read_bytes()
    run("offsets", "shards", "--index-file", "elsewhere.idx", "-o", "into/", code=2)


def test_one_pickle_of_many_blobs_is_refused_in_the_words_of_each_side(here):
    with pytest.raises(ValueError, match=r"^target='all.pkl': an offsets file holds"):
        blobpack.write_offsets("shards", "all.pkl")
    for output in ("all.pkl", "-"):
        done = CliRunner().invoke(main, ["offsets", "shards", "-o", output])
        assert done.exit_code == 2
        assert "target" not in done.output
    done = CliRunner().invoke(main, ["offsets", "shards", "-o", "all.pkl"])
    assert "Error: -o all.pkl: an offsets file holds" in done.output
    done = CliRunner().invoke(main, ["offsets", "shards", "-o", "all.tar", "--format", "csv"])
    assert "-o 'all.tar' ends in .tar" in done.output
