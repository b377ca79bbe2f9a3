"""Nothing to pack or to copy is an error, and nothing is written; an empty blob is made only for those who mean it."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import blobpack
from blobpack import SourceError
from blobpack.cli.main import main

SOURCES = {
    "a filter without a match": (["pack", "imgs", "OUT", "--filter", "*.gif"], "filtered out"),
    "everything excluded": (["pack", "imgs", "OUT", "--exclude", "*"], "filtered out"),
    "no image": (["pack", "notes", "OUT"], "not an image"),
    "an empty folder": (["pack", "none", "OUT"], ""),
    "only hidden files": (["pack", "hidden", "OUT"], "hidden"),
    "a file that is no image": (["pack", "notes/a.txt", "OUT"], "not an image"),
    "an empty list": (["pack", "--manifest", "empty.csv", "OUT"], ""),
    "a list of what is no image": (["pack", "--manifest", "notes.txt", "OUT"], "not an image"),
    "a tar without images": (["repack", "notes.tar", "OUT"], ""),
    "a filter of repack": (["repack", "a.tar", "OUT", "--filter", "*.gif"], ""),
    "a filter of subset": (["subset", "a.tar", "OUT", "--filter", "*.gif"], ""),
    "an empty list of names": (["subset", "a.tar", "OUT", "--names-from", "empty.csv"], ""),
    "blobs without members": (["merge", "empty.tar", "empty.tar", "OUT"], ""),
    "shards": (["pack", "notes", "OUT", "--shard-size", "1M"], "not an image"),
    "shards of a list": (["pack", "--manifest", "empty.csv", "OUT", "--shard-size", "1M"], ""),
    "compressed shards": (["pack", "none", "OUT", "--shard-size", "1M", "--level", "1"], ""),
    "a compressed blob": (["pack", "none", "OUT.tar.zst"], ""),
}


@pytest.fixture
def here(tmp_path, monkeypatch, small_images):
    monkeypatch.chdir(tmp_path)
    for folder in ("imgs", "notes", "none", "hidden"):
        Path(folder).mkdir()
    Path("imgs/1.jpg").write_bytes(small_images["cats/0001.jpg"])
    Path("hidden/.1.jpg").write_bytes(small_images["cats/0001.jpg"])
    Path("notes/a.txt").write_text("a note")
    Path("empty.csv").write_text("path\n")
    Path("notes.txt").write_text("notes/a.txt\n")
    blobpack.pack("imgs", "a.tar")
    blobpack.pack("notes", "notes.tar", all_files=True)
    blobpack.pack([], "empty.tar", allow_empty=True)
    return tmp_path


@pytest.mark.parametrize(("arguments", "why"), SOURCES.values(), ids=SOURCES)
def test_nothing_is_an_error(here, arguments, why):
    before = sorted(os.listdir())
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 1, ran.output
    assert "nothing to pack" in ran.output or "no member to copy" in ran.output
    assert "--allow-empty" in ran.output
    assert why in ran.output
    assert "\\n" not in ran.output
    assert sorted(os.listdir()) == before
    ran = CliRunner().invoke(main, [*arguments, "--allow-empty"])
    assert ran.exit_code == 0, ran.output
    made = next(each for each in arguments if each.startswith("OUT"))
    opened = blobpack.open_collection if Path(made).is_dir() else blobpack.open_blob
    with opened(made) as blob:
        assert len(blob.index) == 0


@pytest.mark.parametrize("arguments", [["pack", "none"], ["repack", "notes.tar"]], ids=" ".join)
def test_a_dry_run_says_so_too(here, arguments):
    ran = CliRunner().invoke(main, [*arguments, "OUT", "--dry-run"])
    assert (ran.exit_code, "nothing to pack" in ran.output) == (1, True)


def test_a_blob_that_is_there_stays(here):
    before = Path("a.tar").read_bytes()
    for call in (
        lambda **more: blobpack.pack([], "a.tar", **more),
        lambda **more: blobpack.pack(iter([("a.txt", b"text")]), "a.tar", **more),
        lambda **more: blobpack.repack("notes.tar", "a.tar", **more),
        lambda **more: blobpack.merge([], "a.tar", **more),
        lambda **more: blobpack.subset("notes.tar", "a.tar", [], **more),
    ):
        with pytest.raises(SourceError, match=r"so a\.tar is not written"):
            call()
        assert Path("a.tar").read_bytes() == before
        call(allow_empty=True)
        with blobpack.open_blob("a.tar") as blob:
            assert len(blob.index) == 0
        Path("a.tar").write_bytes(before)


def test_nothing_in_s3(here, s3_env, bucket):
    s3_env.put(bucket, "notes/a.txt", b"a note")
    s3_env.put(bucket, "folder/", b"")
    for source, options in (
        ("notes", []),
        ("folder", []),
        ("nowhere", []),
        ("notes", ["--all", "--filter", "x"]),
    ):
        line = ["pack", f"s3://{bucket}/{source}/", f"s3://{bucket}/out.tar", *options]
        ran = CliRunner().invoke(main, line)
        assert ran.exit_code == 1, ran.output
        said = "there is no object below" if source == "nowhere" else "nothing"
        assert said in ran.output
        shards = CliRunner().invoke(
            main, [*line[:2], f"s3://{bucket}/out/", *options, "--shard-size", "1M"]
        )
        assert (shards.exit_code, said in shards.output) == (1, True)
    assert not s3_env.uploads(bucket)
    assert sorted(s3_env.keys(bucket)) == ["folder/", "notes/a.txt"]
