"""Names of members, as tar makes them; and the list of files that were left out."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tars import need_tool

import blobpack
from blobpack.cli.main import main
from blobpack.packing.members import write_members

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two folders of images, one file beside them, and some that are left out."""
    for name in ("train/cats/1.png", "train/dogs/2.png", "val/cats/3.png", "one.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + name.encode())
    (tmp_path / "data" / "train" / "notes.txt").write_text("text")
    (tmp_path / "data" / "val" / ".cache").mkdir()
    (tmp_path / "data" / "val" / ".cache" / "4.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path / "data")
    return tmp_path / "data"


def names_of(source, **options):
    report = blobpack.pack(source, "../out.tar", **options)
    with blobpack.open_blob("../out.tar") as blob:
        # what stands under a name is the file that the name was made of
        for name in blob.index.names:
            assert blob.read(name).startswith(PNG)
            assert blob.read(name)[len(PNG) :].decode().rpartition("/")[2] in name
    assert list(report.index.names) == sorted(report.index.names)
    return list(report.index.names)


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert ended.value.code == code


ALL = ["train/cats/1.png", "train/dogs/2.png", "val/cats/3.png"]


class TestNames:
    def test_one_folder_alone_is_left_out_of_names(self, tree):
        for folder in ("train", tree / "train", f"file://{tree}/train", "../data/train/"):
            assert names_of(folder) == ["cats/1.png", "dogs/2.png"]

    @pytest.mark.parametrize(
        ("given", "names"),
        [
            (["train", "val"], ALL),
            (["val/", "./train"], ALL),
            (["train/cats", "one.png"], ["one.png", "train/cats/1.png"]),
            (["../data/val", "../data/one.png"], ["data/one.png", "data/val/cats/3.png"]),
            (["train"], ALL[:2]),
            (["."], ["one.png", *ALL]),
            (["../data"], [f"data/{name}" for name in ("one.png", *ALL)]),
            ([".."], [f"data/{name}" for name in ("one.png", *ALL)]),
        ],
    )
    def test_several_begin_with_the_paths_as_given(self, tree, given, names):
        assert names_of(given) == names
        assert names_of(map(Path, given)) == names

    def test_of_an_absolute_path_the_last_part_remains(self, tree):
        assert names_of([tree / "train", tree / "val"]) == ALL
        assert names_of([f"{tree}/train/cats/", tree / "val/cats/3.png"]) == ["3.png", "cats/1.png"]
        assert names_of(tree / "val/cats/3.png") == ["3.png"]
        assert names_of([f"file://{tree}/train", "val"]) == ALL

    def test_relative_to_a_directory(self, tree):
        names = ["cats/1.png", "dogs/2.png"]
        assert names_of(["cats", "dogs"], directory="train") == names
        assert names_of("cats", directory=tree / "train") == names[:1]
        assert names_of(".", directory="train") == names
        assert names_of(["cats/1.png"], directory="train") == names[:1]
        # absolute paths below it, such as those of a glob
        assert names_of(tree.rglob("*.png"), directory=tree, hidden=True)[:2] == [
            "one.png",
            "train/cats/1.png",
        ]
        assert names_of([tree / "val", "cats"], directory="train") == [
            "cats/1.png",
            "val/cats/3.png",
        ]

    def test_tar_makes_the_same_names(self, tree):
        """Of relative paths; of absolute ones, tar keeps all folders."""
        for given in (["train", "val/"], ["./train/cats", "one.png"], ["../data/val"]):
            done = subprocess.run(
                [need_tool("tar"), "-cf", "-", "--exclude=.cache", "--exclude=*.txt", *given],
                capture_output=True,
                check=True,
            )
            Path("../made.tar").write_bytes(done.stdout)
            made = [os.path.normpath(name) for name in blobpack.scan("../made.tar").names]
            assert names_of(given) == sorted(made)

    def test_strip_and_prefix(self, tree):
        assert names_of(["train", "val"], strip=1) == ["cats/1.png", "cats/3.png", "dogs/2.png"]
        assert names_of(["train", "val"], strip=2, prefix="all/") == [
            *("all/1.png", "all/2.png", "all/3.png")
        ]
        assert names_of("train", prefix="2024_") == ["2024_cats/1.png", "2024_dogs/2.png"]
        assert names_of("one.png", prefix="x/y/") == ["x/y/one.png"]
        # a file that is no image needs no name
        report = blobpack.pack(["train", "val"], "../out.tar", strip=2)
        assert report.skipped["not an image"] == 1
        with pytest.raises(blobpack.UnsafeNameError, match=r"train/notes\.txt"):
            blobpack.pack(["train", "val"], "../out.tar", strip=2, all_files=True)
        # files that change their order
        assert names_of(["val/cats", "train/dogs"], strip=2) == ["2.png", "3.png"]

    def test_strip_and_prefix_of_payloads_and_manifests(self, tree):
        pairs = [("a/b/1.png", PNG + b"1.png"), ("a/2.png", PNG + b"2.png")]
        for source in (pairs, dict(pairs), iter(pairs)):
            report = blobpack.pack(source, "../out.tar", strip=1, prefix="é/")
            assert list(report.index.names) == ["é/b/1.png", "é/2.png"]
        Path("../list.txt").write_text("train/cats/1.png\nval/cats/3.png\n")
        listed = blobpack.read_manifest("../list.txt", ".")
        assert names_of(listed, strip=1, prefix="x/") == ["x/cats/1.png", "x/cats/3.png"]
        with pytest.raises(blobpack.UnsafeNameError, match=r"^a\.png has no name left: strip=1"):
            blobpack.pack({"a.png": PNG}, "../new.tar", strip=1)
        with pytest.raises(blobpack.DuplicateNameError, match="both be member 'a'"):
            blobpack.pack({"x/a": PNG, "y/a": PNG}, "../new.tar", strip=1)
        assert not Path("../new.tar").exists()

    def test_filters_see_the_names_that_are_made(self, tree):
        assert names_of(["train", "val"], strip=1, prefix="x/", globs=["x/cats/*"]) == [
            *("x/cats/1.png", "x/cats/3.png")
        ]

    def test_a_name_with_nothing_left_names_the_file(self, tree):
        with pytest.raises(
            blobpack.UnsafeNameError, match=r"^\S*/data/one\.png has no name left: strip=1"
        ):
            blobpack.pack(tree, "../out.tar", strip=1)
        assert not Path("../out.tar").exists()

    @pytest.mark.parametrize(
        ("given", "options", "said"),
        [
            (["val", "train", "train/cats"], {}, "'train/cats/1.png' is given twice"),
            (["train/cats/1.png", "./train"], {}, "'train/cats/1.png' and './train/cats/1.png'"),
            (["a/x", "b/x"], {"strip": 1}, "'a/x/1.png' and 'b/x/1.png' .* 'x/1.png'"),
            (
                [Path("a/x").absolute, Path("b/x").absolute],
                {},
                "'/.*/a/x/1.png' and '/.*/b/x/1.png'",
            ),
        ],
    )
    def test_two_files_of_one_name_are_both_named(self, tree, given, options, said):
        for name in ("a", "b"):
            shutil.copytree("train/cats", f"{name}/x")
        given = [path() if callable(path) else path for path in given]
        with pytest.raises(blobpack.DuplicateNameError, match=said):
            blobpack.pack(given, "../out.tar", **options)
        assert not Path("../out.tar").exists()

    def test_append_and_shards_make_them_too(self, tree):
        blobpack.pack("train", "../out.tar")
        blobpack.append("../out.tar", ["cats", "dogs"], directory="train", prefix="again/")
        assert list(blobpack.scan("../out.tar").names)[2:] == [
            "again/cats/1.png",
            "again/dogs/2.png",
        ]
        blobpack.append("../out.tar", {"new.png": PNG})
        report = blobpack.pack_shards(["train", "val"], "../shards", 2048, strip=1)
        assert report.shards == 3
        assert sorted(report.index.names) == ["cats/1.png", "cats/3.png", "dogs/2.png"]

    def test_a_directory_goes_with_paths(self, tree):
        Path("../list.txt").write_text("one.png\n")
        for source in ({"a": PNG}, [("a", PNG)], blobpack.read_manifest("../list.txt")):
            with pytest.raises(ValueError, match="directory is for paths"):
                blobpack.pack(source, "../out.tar", directory="train")
        with pytest.raises(blobpack.SourceError, match="nowhere"):
            blobpack.pack(["a", "b"], "../out.tar", directory="nowhere")
        with pytest.raises(blobpack.SourceError, match="nowhere"):
            blobpack.pack(["train", "nowhere"], "../out.tar")


class TestLinks:
    def test_links_above_a_given_path_are_the_caller_s(self, tree):
        Path("link").symlink_to("train")
        Path("../far").symlink_to(tree)
        assert names_of(["link", "val"]) == ["link/cats/1.png", "link/dogs/2.png", ALL[2]]
        assert names_of(["link/cats", "one.png"]) == ["link/cats/1.png", "one.png"]
        assert names_of(["link/cats/1.png", "val"]) == ["link/cats/1.png", ALL[2]]
        assert names_of(["train", "val"], directory="../far") == ALL
        assert names_of(["link", "val"], follow_symlinks=True)[0] == "link/cats/1.png"

    def test_links_below_are_not_followed(self, tree):
        Path("val/link").symlink_to("../train")
        Path("link.png").symlink_to("one.png")
        report = blobpack.pack(["val", "link.png", "train"], "../out.tar")
        assert list(report.index.names) == ALL
        assert report.skipped["symbolic links"] == 2
        assert report.examples["symbolic links"] == ["link.png", "val/link"]

    @pytest.mark.parametrize("link", [False, True])
    def test_a_folder_swapped_for_a_link_is_not_read(self, tree, link, monkeypatch):
        """Neither a given folder, nor one below it or above it."""
        outside = tree.parent / "outside"
        shutil.copytree("train", outside / "train")
        Path("in/deep").mkdir(parents=True)
        Path("train").rename("in/deep/train")
        Path("link").symlink_to("in/deep")
        given = ["link/train" if link else "in/deep/train", "val"]

        def swapping(found, *rest, **options):
            Path("in/deep").rename("in/before")
            Path("in/deep").symlink_to(outside)
            return write_members(found, *rest, **options)

        monkeypatch.setattr("blobpack.packing.pack.write_members", swapping)
        with pytest.raises(blobpack.SourceError, match="replaced by a symbolic link") as caught:
            blobpack.pack(given, "../out.tar")
        assert len(caught.value.paths) == 3
        assert not Path("../out.tar").exists()


class TestInS3:
    @pytest.fixture
    def bucket(self, s3_env, tree):
        bucket = s3_env.new_bucket()
        for path in tree.rglob("*"):
            if path.is_file():
                s3_env.put(bucket, f"data/{path.relative_to(tree)}", path.read_bytes())
        return bucket

    def test_several_prefixes(self, bucket, s3_env):
        root = f"s3://{bucket}/data"
        assert names_of([f"{root}/train/", f"{root}/val"]) == ALL
        assert names_of([f"{root}/train"]) == ALL[:2]
        assert names_of([f"s3://{bucket}"])[0] == f"{bucket}/data/one.png"
        assert names_of(["train", f"{root}/val/"], directory=root) == ALL
        assert names_of(["train/cats", "val"], directory=f"{root}/", strip=1, prefix="x/") == [
            *("x/cats/1.png", "x/cats/3.png")
        ]
        assert names_of(f"{root}/train", prefix="x/")[0] == "x/cats/1.png"

    def test_two_objects_of_one_name_are_both_named(self, bucket, s3_env):
        s3_env.put(bucket, "more/train/cats/1.png", PNG)
        with pytest.raises(
            blobpack.DuplicateNameError, match=r"/data/train/cats/1\.png' and 's3://.*/more/train"
        ):
            blobpack.pack([f"s3://{bucket}/data/train", f"s3://{bucket}/more/train"], "../out.tar")

    def test_not_mixed_with_local_paths(self, bucket, tree, capsys):
        with pytest.raises(ValueError, match=r"source must be either in S3 or on this disk.*'val'"):
            blobpack.pack([f"s3://{bucket}/data/train", "val"], "../out.tar")
        run("pack", f"s3://{bucket}/data/train", "val", "../out.tar", code=2)
        assert "not both" in capsys.readouterr().err

    def test_the_commands(self, bucket, tree, capsys):
        root = f"s3://{bucket}/data"
        run(
            "pack",
            "-C",
            root,
            "train",
            "val",
            "../out.tar",
            "--skipped-to",
            "../skipped.csv",
            "--exclude",
            "val/cats/*",
        )
        assert list(blobpack.scan("../out.tar").names) == ALL[:2]
        assert rows_of("../skipped.csv") == [
            [f"{root}/train/notes.txt", "not an image"],
            [f"{root}/val/.cache/4.png", "hidden"],
            [f"{root}/val/cats/3.png", "filtered out"],
        ]
        run("append", "../out.tar", f"{root}/train", f"{root}/val", "--prefix", "x/")
        assert list(blobpack.scan("../out.tar").names)[2:] == [f"x/{name}" for name in ALL]


def rows_of(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "reason"]
    return sorted(rows)  # the order is that of the file system


SKIPPED = [
    ["one.png", "filtered out"],
    ["train/notes.txt", "not an image"],
    ["val/.cache", "hidden"],
]


class TestLeftOut:
    def test_every_file_is_told(self, tree):
        Path("train/link.png").symlink_to("cats/1.png")
        os.mkfifo("val/pipe")
        told = []
        report = blobpack.pack(
            ["train", "val", "one.png"],
            "../out.tar",
            exclude="x/one.png",
            prefix="x/",
            on_skipped=lambda path, reason: told.append([path, reason]),
        )
        assert sorted(told) == sorted(
            [*SKIPPED, ["train/link.png", "symbolic links"], ["val/pipe", "not a plain file"]]
        )
        assert sum(report.skipped.values()) == len(told)

    def test_payloads_and_the_blob_itself(self, tree):
        told = []

        def tell(path, reason):
            told.append((path, reason))

        blobpack.pack({"a.txt": b"text", "b.png": PNG}, "out.tar", on_skipped=tell)
        blobpack.pack(".", "out.tar", all_files=True, on_skipped=tell)
        blobpack.append("out.tar", {"c.txt": b"text"}, on_skipped=tell)
        assert told == [
            ("a.txt", "not an image"),
            ("./val/.cache", "hidden"),
            ("./out.tar", "the blob itself"),
            ("c.txt", "not an image"),
        ]

    @pytest.mark.parametrize("more", [[], ["--dry-run"], ["--shard-size", "1M"]])
    def test_the_command_writes_a_table(self, tree, more):
        out = "../shards" if "--shard-size" in more else "../out.tar"
        command = ["pack", ".", out, "--exclude", "one.png", "--skipped-to", "skipped.csv", *more]
        rows = [[f"./{path}", reason] for path, reason in SKIPPED]
        run(*command)
        assert rows_of("skipped.csv") == rows
        if not more:
            # its own older self is replaced
            run(*command)
            assert rows_of("skipped.csv") == sorted([*rows, ["./skipped.csv", "not an image"]])

    def test_append_writes_it_too(self, tree):
        run("pack", "one.png", "../out.tar")
        run("append", "../out.tar", "train", "val", "--skipped-to", "../skipped.csv")
        assert rows_of("../skipped.csv") == SKIPPED[1:]

    def test_it_says_why_there_is_nothing(self, tree, capsys):
        name = os.fsdecode(b'a, "b"\n\xff.txt')
        Path("../none").mkdir()
        Path("../none", name).write_text("text")
        run("pack", "../none", "../out.tar", "--skipped-to", "../skipped.csv", code=1)
        assert "nothing to pack" in capsys.readouterr().err
        assert rows_of("../skipped.csv") == [[f"../none/{name}", "not an image"]]

    def test_it_replaces_no_other_file(self, tree, capsys):
        before = Path("train/notes.txt").read_bytes()
        run("pack", "val", "../out.tar", "--skipped-to", "train/notes.txt", code=1)
        assert "is no list of skipped files" in capsys.readouterr().err
        assert Path("train/notes.txt").read_bytes() == before
        run("pack", "val", "../out.tar", "--skipped-to", "../data/../out.tar", code=2)
        assert not Path("../out.tar").exists()


class TestCommands:
    def test_pack(self, tree, capsys):
        run("pack", "train", "val", "../out.tar")
        assert list(blobpack.scan("../out.tar").names) == ALL
        run("pack", "-C", "train", "cats", "dogs", "../out.tar", "--strip", "1", "--prefix", "x/")
        assert list(blobpack.scan("../out.tar").names) == ["x/1.png", "x/2.png"]
        capsys.readouterr()
        run("pack", tree / "train", tree / "val", "../dry.tar", "--dry-run")
        printed = capsys.readouterr().out.splitlines()
        assert printed[1] == "names: train/cats/1.png, train/dogs/2.png, val/cats/3.png"
        run("pack", "train", "val", "one.png", ".", "../dry.tar", "--dry-run", code=1)
        run("pack", "train", "../dry.tar", "--dry-run", "--json")
        assert json.loads(capsys.readouterr().out)["names"] == ["cats/1.png", "dogs/2.png"]
        assert not Path("../dry.tar").exists()

    def test_a_dry_run_shows_the_first_names_and_the_last(self, tree):
        for count, shown in ((3, "a0, a1, a2"), (4, "a0, a1, a2, a3"), (5, "a0, a1, a2, …, a4")):
            payloads = {f"a{i}": PNG for i in range(count)}
            report = blobpack.pack(payloads, "../dry.tar", dry_run=True)
            assert str(report).splitlines()[1:] == [f"names: {shown}"]
        report = blobpack.pack({}, "../dry.tar", dry_run=True, allow_empty=True)
        assert "names" not in str(report)

    def test_wrong_usage(self, tree, capsys):
        Path("../list.txt").write_text("one.png\n")
        for arguments, said in (
            (("nowhere", "val", "../o.tar"), "Path 'nowhere' does not exist"),
            (("-C", "train", "val", "../o.tar"), "Path 'train/val' does not exist"),
            (("../new.tar", "val"), "val is a folder: OUT, the last argument, must name a blob"),
            (("-C", "nowhere", "val", "../o.tar"), "'nowhere' does not exist"),
            (("-C", "one.png", "val", "../o.tar"), "'one.png' is a file"),
            (("val", "../o.tar", "--prefix", "../x"), "the beginning of a relative name"),
            (("val", "../o.tar", "--strip", "-1"), "-1 is not in the range"),
            (("--manifest", "../list.txt", "../o.tar", "-C", "train"), "can't be combined"),
        ):
            run("pack", *arguments, code=2)
            assert said in capsys.readouterr().err, arguments
        blobpack.pack("one.png", "out.tar")
        run("append", "out.tar", "-C", "..", "data/out.tar", code=2)
        assert "BLOB comes first" in capsys.readouterr().err

    def test_help_says_how_names_are_made(self, capsys):
        run("pack", "--help")
        printed = " ".join(capsys.readouterr().out.split())
        assert "of an absolute path or a URL, only the last part remains" in printed
