"""A URL is never taken for a local path: each parameter that is a path reads or writes the URL, or refuses it."""

import inspect
import os
from pathlib import Path

import click
import pytest
from blobpack_command import command_line
from click.testing import CliRunner

import blobpack
from blobpack.cli import params
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

# as str, and as pathlib changes them
URLS = ["gopher://bucket/key/", "s3:/bucket/key/", "gs:/bucket/key", "http:/host/key"]
OBJECTS = [Path("s3://bucket/key"), Path("http://host/key"), Path("gopher://bucket/key")]


@pytest.fixture
def here(tmp_path, monkeypatch, small_images):
    """The current folder: a blob, its index and a collection, an image and a list."""
    monkeypatch.chdir(tmp_path)
    Path("imgs").mkdir()
    Path("imgs/1.jpg").write_bytes(small_images["cats/0001.jpg"])
    blobpack.pack("imgs", "out.tar", index="sidecar")
    blobpack.collect(["out.tar"], "all.idx")
    blobpack.write_offsets(blobpack.scan("out.tar"), "out_offsets.pkl")
    Path("list.txt").write_text("imgs/1.jpg\n")
    return tmp_path


def path_parameters():
    for name, command in all_commands(main).items():
        for parameter in command.params:
            kind = parameter.type
            is_path = isinstance(kind, (params.BlobUrl, click.Path, click.File))
            if is_path or parameter.metavar in ("FILE", "DIR", "FOLDER"):
                yield pytest.param(name, parameter, id=f"{name} {parameter.human_readable_name}")


# what else a command needs to be run
OTHERS = {
    "blob": "out.tar",
    "blobs": "out.tar",
    "sources": "imgs",
    "source": "out.tar",
    "out": "new.tar",
    "folder": "to",
    "bucket": "s3://bucket",
    "url": "s3://bucket",
    "base_url": "https://host/b/out",
    "integration": "gateway",
    "files": "imgs",
    "library": "imgs",
    "names": "1.jpg",
    "project": "5",
    "scope": "out",
    "tool": "coco",
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(("command", "parameter"), list(path_parameters()))
def test_a_command_refuses_what_is_neither(here, command, parameter, url):
    before = sorted(os.listdir())
    ran = CliRunner().invoke(main, command_line(command, parameter, url, OTHERS))
    assert ran.exit_code == 2, ran.output
    assert url in ran.output
    assert sorted(os.listdir()) == before


def test_each_path_of_a_command_has_a_type_that_knows_urls():
    ours = [kind for _, kind in inspect.getmembers(params, inspect.isclass)]
    for parameter in (each.values[1] for each in path_parameters()):
        assert type(parameter.type) in ours, parameter.name


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "{out.tar}"],
        ["extract", "{out.tar}", "{to}"],
        ["pack", "{imgs}", "{new.tar}"],
        ["pack", "--manifest", "{list.txt}", "{new.tar}"],
        ["offsets", "out.tar", "-o", "{new.pkl}"],
        ["index", "out.tar", "-o", "{new.idx}"],
        ["collect", "{out.tar}", "-o", "{new.idx}"],
        ["merge", "out.tar", "{new.tar}"],
        ["subset", "out.tar", "{new.tar}"],
        ["repack", "{out.tar}", "{new.tar}"],
        ["append", "{out.tar}", "list.txt", "--all"],
        ["ls", "out.tar", "--names-from", "{list.txt}"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
@pytest.mark.parametrize("begin", ["file://", "file://localhost", "file:"])
def test_a_file_url_is_the_path_that_it_means(here, arguments, begin):
    line = [f"{begin}{here / each[1:-1]}" if each[0] == "{" else each for each in arguments]
    ran = CliRunner().invoke(main, line)
    assert ran.exit_code == 0, ran.output
    assert not [name for name in os.listdir() if ":" in name]
    for each in arguments:
        assert each[0] != "{" or Path(each[1:-1]).exists()


CALLS = {
    "open_blob": blobpack.open_blob,
    "open_blob index": lambda path: blobpack.open_blob("out.tar", path),
    "open_blob cache": lambda path: blobpack.open_blob("out.tar", cache=path),
    "open": blobpack.open,
    "open cache": lambda path: blobpack.open("out.tar", cache=path),
    "open_collection": blobpack.open_collection,
    "open_collection cache": lambda path: blobpack.open_collection("all.idx", cache=path),
    "scan": blobpack.scan,
    "verify": blobpack.verify,
    "verify index": lambda path: blobpack.verify("out.tar", index=path),
    "pack": lambda path: blobpack.pack(path, "new.tar"),
    "pack files": lambda path: blobpack.pack([path], "new.tar"),
    "pack target": lambda path: blobpack.pack("imgs", path),
    "pack_shards": lambda path: blobpack.pack_shards("imgs", path, 1 << 20),
    "repack": lambda path: blobpack.repack(path, "new.tar"),
    "repack target": lambda path: blobpack.repack("out.tar", path),
    "append": lambda path: blobpack.append(path, "imgs"),
    "append source": lambda path: blobpack.append("out.tar", path),
    "merge": lambda path: blobpack.merge(["out.tar"], path),
    "merge sources": lambda path: blobpack.merge([path], "new.tar"),
    "subset": lambda path: blobpack.subset("out.tar", path, ["1.jpg"]),
    "subset source": lambda path: blobpack.subset(path, "new.tar", ["1.jpg"]),
    "collect": lambda path: blobpack.collect(path, "new.idx"),
    "collect blobs": lambda path: blobpack.collect([path], "new.idx"),
    "collect target": lambda path: blobpack.collect("out.tar", path),
    "read_manifest": blobpack.read_manifest,
    "read_manifest base": lambda path: blobpack.read_manifest("list.txt", path),
    "read_offsets": blobpack.read_offsets,
    "iter_offsets": blobpack.iter_offsets,
    "write_offsets": lambda path: blobpack.write_offsets(blobpack.scan("out.tar"), path),
    "Index.load": blobpack.Index.load,
    "Index.save": lambda path: blobpack.scan("out.tar").save(path),
    "Index.to_parquet": lambda path: blobpack.scan("out.tar").to_parquet(path),
    "Index.from_parquet": blobpack.Index.from_parquet,
    "extract": lambda path: blobpack.extract(blobpack.open_blob("out.tar"), path),
    "extract source": lambda path: blobpack.extract(path, "to"),
    "write_offsets source": lambda path: blobpack.write_offsets(path, "new.pkl"),
    "write_foreign_index": lambda path: blobpack.write_foreign_index(path, "new.json", "hfutils"),
    "write_foreign_index target": lambda path: blobpack.write_foreign_index(
        "out.tar", path, "dali"
    ),
    "read_image": lambda path: blobpack.read_image(path, "1.jpg"),
    "read_images": lambda path: list(blobpack.read_images(path, ["1.jpg"])),
}


@pytest.mark.parametrize("path", [*URLS, *OBJECTS], ids=repr)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_function_refuses_what_is_neither(here, call, path):
    before = sorted(os.listdir())
    with pytest.raises(ValueError, match=r"lost a slash|not gopher://"):
        call(path)
    assert sorted(os.listdir()) == before


def test_each_function_with_a_path_is_in_the_table():
    named = {name.split(" ")[0] for name in CALLS}
    for name in blobpack.__all__:
        public = getattr(blobpack, name)
        functions = {name: public}
        if inspect.isclass(public):
            functions = {
                f"{name}.{method}": getattr(public, method)
                for method in vars(public)
                if not method.startswith("_") and callable(getattr(public, method))
            }
        for label, function in functions.items():
            try:
                annotations = str(inspect.signature(function))
            except (TypeError, ValueError):
                continue
            assert "PathLike" not in annotations or label in named, label
