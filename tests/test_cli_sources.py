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
