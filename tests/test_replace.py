"""An output replaces a file of its own kind, and no other one unless it is forced; no suffix promises another format."""

import os
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

import blobpack
from blobpack import Index, Member, StorageError
from blobpack.cli.main import main

MEMBERS = Index([Member("1.jpg", 512, 700), Member("ü\n2.jpg", 1536, 1600)])


def made(tmp, small_images):
    """Files of each kind that blobpack writes, by kind, and foreign ones."""
    (tmp / "imgs").mkdir()
    (tmp / "imgs/1.jpg").write_bytes(small_images["cats/0001.jpg"])
    blobpack.pack(tmp / "imgs", tmp / "a.tar", index="sidecar")
    blobpack.pack(tmp / "imgs", tmp / "a.tar.zst")
    blobpack.collect([tmp / "a.tar.zst"], tmp / "all.idx")
    index = blobpack.scan(tmp / "a.tar")
    for form in ("pkl", "csv", "jsonl", "parquet"):
        blobpack.write_offsets(index, tmp / f"a.{form}", format=form)
    return {
        "tar": tmp / "a.tar",
        "zst": tmp / "a.tar.zst",
        "index": tmp / "a.tar.idx",
        "collection": tmp / "all.idx",
        **{form: tmp / f"a.{form}" for form in ("pkl", "csv", "jsonl", "parquet")},
    }


@pytest.fixture
def kinds(tmp_path, small_images):
    return {name: path.read_bytes() for name, path in made(tmp_path, small_images).items()}


def parquet_of(table):
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(table), sink)
    return sink.getvalue().to_pybytes()


def foreign(small_images):
    rows = {"name": ["a"], "offset_start": [1], "offset_end": [2]}
    return {
        "a photo": small_images["cats/0001.jpg"],
        "a png": small_images["birds/grey.png"],
        "a text": b"name of a thing\n",
        "a byte": b"x",
        "zeros": bytes(100),
        "random bytes": random.Random(1).randbytes(9000),
        "a gzip": b"\x1f\x8b\x08\0" + bytes(20),
        "a zip": b"PK\x03\x04" + bytes(600),
        "another pickle": pickle.dumps({"weights": [1.0] * 9}),
        "a pickled list": pickle.dumps([1, 2, 3]),
        "another csv": b"name,label\na,1\n",
        "labelled csv": b"name,offset_start,offset_end,label\na,1,2,3\n",
        "another json": b'{"name": "a", "label": 1}\n',
        "labelled json": b'{"name": "a", "offset_start": 1, "offset_end": 2, "label": 3}\n',
        "a json list": b"[1]\n",
        "another parquet": parquet_of({"name": ["a"]}),
        "labelled parquet": parquet_of(rows | {"label": [1]}),
        "a torn parquet": parquet_of(rows)[:-9],
    }


# how each kind is written to a path; a.tar, imgs and a.tar.zst are in the current folder
PYTHON = {
    "tar": [
        lambda to, **more: blobpack.pack("imgs", to, **more),
        lambda to, **more: blobpack.repack("a.tar", to, **more),
        lambda to, **more: blobpack.merge(["a.tar"], to, **more),
        lambda to, **more: blobpack.subset("a.tar", to, ["1.jpg"], **more),
    ],
    "zst": [
        lambda to, **more: blobpack.pack("imgs", to, **more),
        lambda to, **more: blobpack.repack("a.tar", to, **more),
    ],
    "index": [lambda to, **more: MEMBERS.save(to, **more)],
    "collection": [lambda to, **more: blobpack.collect(["a.tar.zst"], to, **more)],
    "pkl": [lambda to, **more: blobpack.write_offsets(MEMBERS, to, format="pkl", **more)],
    "csv": [lambda to, **more: blobpack.write_offsets(MEMBERS, to, format="csv", **more)],
    "jsonl": [lambda to, **more: blobpack.write_offsets(MEMBERS, to, format="jsonl", **more)],
    "parquet": [
        lambda to, **more: blobpack.write_offsets(MEMBERS, to, format="parquet", **more),
        lambda to, **more: MEMBERS.to_parquet(to, **more),
    ],
}
COMMANDS = {
    "tar": [
        ["pack", "imgs", "TO"],
        ["repack", "a.tar", "TO"],
        ["merge", "a.tar.zst", "other.tar", "TO"],
        ["subset", "a.tar", "TO"],
    ],
    "zst": [["pack", "imgs", "TO"], ["repack", "a.tar", "TO"]],
    "index": [["index", "a.tar", "-o", "TO"]],
    "collection": [["collect", "a.tar.zst", "-o", "TO"]],
    "pkl": [["offsets", "a.tar", "--format", "pkl", "-o", "TO"]],
    "csv": [["offsets", "a.tar", "--format", "csv", "-o", "TO"]],
    "jsonl": [["offsets", "a.tar", "--format", "jsonl", "-o", "TO"]],
    "parquet": [["offsets", "a.tar", "--format", "parquet", "-o", "TO"]],
}
# a compressed blob may replace a plain one
ALSO = {"zst": {"tar"}}


def target_of(kind):
    return Path("target.tar.zst" if kind == "zst" else "target")


@pytest.mark.parametrize("kind", PYTHON)
def test_only_the_own_kind_is_replaced(tmp_path, kinds, small_images, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to = target_of(kind)
    for write in PYTHON[kind]:
        for name, there in {**kinds, **foreign(small_images), "nothing": b""}.items():
            to.write_bytes(there)
            if name in (kind, "nothing") or name in ALSO.get(kind, ()):
                write(to)
                assert to.read_bytes()
                continue
            with pytest.raises(StorageError, match=r"exists and is no .*so it is not replaced"):
                write(to)
            assert to.read_bytes() == there, name
            write(to, force=True)
            assert to.read_bytes() != there, name
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_follows_the_rule(tmp_path, kinds, small_images, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("imgs/2.png").write_bytes(small_images["birds/grey.png"])
    blobpack.pack(["imgs/2.png"], "other.tar")
    to = target_of(kind)
    for arguments in COMMANDS[kind]:
        line = [str(to) if each == "TO" else each for each in arguments]
        to.write_bytes(small_images["cats/0001.jpg"])
        ran = CliRunner().invoke(main, line)
        assert (ran.exit_code, to.read_bytes()) == (1, small_images["cats/0001.jpg"]), ran.output
        assert f"Error: {to}: exists and is no " in ran.output
        ran = CliRunner().invoke(main, [*line, "--force"])
        assert ran.exit_code == 0, ran.output
        # the second time it is a file of this kind
        ran = CliRunner().invoke(main, line)
        assert ran.exit_code == 0, ran.output


SUFFIXES = {
    "tar": ("o.tar.gz", "o.zip", "o.zst", "o.csv", "o.idx", "o.JPG", "o.txt"),
    "zst": (),
    "index": ("o.tar", "o.txt", "o.pkl", "o.json"),
    "collection": ("o.tar", "o.txt", "o.csv"),
    "pkl": ("o.txt", "o.tar", "o.idx", "o.csv", "o.parquet", "o.jpg"),
    "csv": ("o.txt", "o.pkl", "o.parquet", "o.tsv", "o.xlsx"),
    "jsonl": ("o.json", "o.csv"),
    "parquet": ("o.csv", "o.pkl", "o.arrow"),
}


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_suffix_of_another_format_is_refused(tmp_path, kinds, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobpack.pack(["imgs/1.jpg"], "other.tar")
    before = sorted(os.listdir())
    for name in SUFFIXES[kind]:
        for write in PYTHON[kind]:
            with pytest.raises(ValueError, match="is written: choose another name"):
                write(name)
        for arguments in COMMANDS[kind]:
            line = [name if each == "TO" else each for each in arguments]
            ran = CliRunner().invoke(main, line)
            assert (ran.exit_code, Path(name).exists()) == (2, False), ran.output
            assert "is written: choose another name" in ran.output
    assert sorted(os.listdir()) == before
    for name in SUFFIXES[kind][:1]:
        PYTHON[kind][0](name, force=True)
        assert Path(name).stat().st_size


@pytest.mark.parametrize("name", ["o", "o.blob", "o.0001", "o.tar.bak", "gz", ".zip"])
def test_any_other_suffix_is_free(tmp_path, kinds, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == ".zip":
        with pytest.raises(ValueError, match=r"ends in \.zip"):
            blobpack.pack("imgs", name)
    else:
        blobpack.pack("imgs", name)


def test_a_foreign_file_beside_the_blob_stays(tmp_path, kinds, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("o.tar.idx").write_bytes(b"not an index")
    for write in PYTHON["tar"]:
        with pytest.raises(StorageError, match=r"o\.tar\.idx: exists and is no index"):
            write("o.tar", index="sidecar")
    assert not Path("o.tar").exists()
    assert Path("o.tar.idx").read_bytes() == b"not an index"


def test_a_folder_or_device_is_never_replaced(tmp_path, kinds, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("fifo")
    for kind, writes in PYTHON.items():
        for write in writes if kind != "zst" else ():
            for name in ("folder", "fifo", "/dev/null"):
                with pytest.raises(StorageError, match="not a plain file"):
                    write(name, force=True)


def test_a_long_first_name_is_recognised(tmp_path):
    index = Index([Member("n" * 70_000, 512, 513)])
    for form in ("pkl", "csv", "jsonl", "parquet"):
        for _ in range(2):
            blobpack.write_offsets(index, tmp_path / "o", format=form, force=False)
        os.unlink(tmp_path / "o")


def test_an_object_of_another_kind_stays(bucket, s3_env, tmp_path, kinds, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"s3://{bucket}/target"
    writes = [*PYTHON["tar"][:2], *PYTHON["index"], *PYTHON["collection"]]
    for write in writes:
        s3_env.put(bucket, "target", b"a note")
        with pytest.raises(StorageError, match=r"exists and is no .*so it is not replaced"):
            write(url)
        assert s3_env.stored(bucket, "target") == b"a note"
        write(url, force=True)
        write(url)


def test_without_a_format_the_suffix_chooses_one_or_is_refused(tmp_path, kinds, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, code in {"o.csv": 0, "o.parquet": 0, "o": 0, "o.txt": 2, "o.json": 2}.items():
        ran = CliRunner().invoke(main, ["offsets", "a.tar", "-o", name])
        assert (ran.exit_code, Path(name).exists()) == (code, code == 0), ran.output
