"""Two arguments in each other's place are recognised, and the error stays what it was."""

import inspect
import os
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import blobpack
from blobpack import argument_order
from blobpack.stores.arguments import is_place

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("imgs").mkdir()
    Path("imgs/a.png").write_bytes(PNG)
    blobpack.pack("imgs", "blob.tar")
    Path("blobs").mkdir()
    blobpack.pack({"b.png": PNG}, "blobs/b.tar")
    Path("list.csv").write_text("path\na.png\n")


def opened():
    return blobpack.open_blob("blob.tar")


def loaded():
    with opened() as blob:
        return blob.index


PAIRS = [("b.png", PNG)]
# function, arguments in a wrong order, the error that it is, the two parameters
SWAPPED = [
    ("pack", ["out.tar", "imgs"], blobpack.StorageError, "source", "target"),
    ("pack", ["blob.tar", Path("imgs")], blobpack.StorageError, "source", "target"),
    ("pack", ["out.tar", "imgs/a.png"], ValueError, "source", "target"),
    ("pack", ["out.tar", PAIRS], TypeError, "source", "target"),
    ("pack", ["out.tar", dict(PAIRS)], TypeError, "source", "target"),
    ("pack_shards", ["shards", "imgs", 2048], blobpack.SourceError, "source", "folder"),
    ("pack_shards", ["imgs", 2048, "shards"], TypeError, "folder", "shard_bytes"),
    ("append", ["imgs", "blob.tar"], blobpack.BlobpackError, "blob", "source"),
    ("append", ["imgs/a.png", "blob.tar"], blobpack.BlobpackError, "blob", "source"),
    ("append", [PAIRS, "blob.tar"], TypeError, "blob", "source"),
    ("append", [["imgs/a.png"], Path("blob.tar")], TypeError, "blob", "source"),
    ("subset", ["blob.tar", ["a.png"], "new.tar"], TypeError, "target", "members"),
    ("subset", ["new.tar", opened, ["a.png"]], TypeError, "source", "target"),
    ("merge", ["new.tar", ["blob.tar"]], TypeError, "sources", "target"),
    ("extract", ["out", opened], TypeError, "source", "folder"),
    ("extract", ["out", "blob.tar"], blobpack.BlobNotFoundError, "source", "folder"),
    ("extract", [opened, loaded, "out"], TypeError, "folder", "members"),
    ("read_image", ["a.png", "blob.tar"], blobpack.BlobNotFoundError, "blob", "which"),
    ("read_image", ["imgs/a.png", "blob.tar"], blobpack.FormatError, "blob", "which"),
    ("read_image", ["a.png", opened], TypeError, "blob", "which"),
    ("read_image", [0, opened], TypeError, "blob", "which"),
    ("read_images", [["a.png"], "blob.tar"], TypeError, "blob", "several"),
    ("read_images", [["a.png"], opened], TypeError, "blob", "several"),
    ("write_offsets", ["new.pkl", loaded], TypeError, "source", "target"),
    ("write_offsets", ["new.pkl", "blob.tar"], blobpack.BlobpackError, "source", "target"),
    ("Index.save", ["new.idx", loaded], TypeError, "self", "path"),
    ("Index.to_parquet", ["new.parquet", loaded], TypeError, "self", "path"),
    ("collect", ["all.idx", "blobs"], blobpack.BlobpackError, "blobs", "target"),
    ("collect", ["all.idx", ["blobs/b.tar"]], TypeError, "blobs", "target"),
    ("read_manifest", ["imgs", "list.csv"], blobpack.SourceError, "path", "base"),
]
# wrong, but in their right order
RIGHT_ORDER = [
    ("pack", ["nowhere", "new.tar"]),
    ("pack", ["nowhere", "blob.tar"]),
    ("pack", ["imgs", "imgs/a.png"]),
    ("pack", ["imgs", 5]),
    ("pack", [5, "new.tar"]),
    ("append", ["nowhere.tar", "imgs"]),
    ("append", ["blob.tar", "imgs"]),
    ("subset", ["nowhere.tar", "new.tar", ["a.png"]]),
    ("subset", ["blob.tar", "new.tar", ["none"]]),
    ("read_image", ["blob.tar", "none"]),
    ("read_image", ["blob.tar", 5.0]),
    ("read_image", ["nowhere.tar", "a.png"]),
    ("extract", [opened, "imgs/a.png"]),
    ("repack", ["imgs/a.png", "new.tar"]),
    ("write_offsets", [loaded, "new.txt"]),
    ("collect", ["imgs", "new.idx"]),
    ("read_manifest", ["nowhere.csv", "imgs"]),
    # a source that is merely missing, and an old output
    ("repack", ["nowhere.tar", "blob.tar"]),
    ("subset", ["nowhere.tar", "blob.tar", ["a.png"]]),
    ("extract", ["nowhere.tar", "blobs"]),
    ("write_offsets", ["nowhere.tar", "list.csv"]),
    ("write_offsets", ["nowhere.tar", "blobs"]),
    ("collect", ["nowhere", "list.csv"]),
]


def arguments_of(given):
    """Open what has to be open."""
    return [value() if inspect.isfunction(value) else value for value in given]


@pytest.mark.parametrize(("name", "given", "error", "first", "second"), SWAPPED)
def test_swapped_arguments_are_recognised(name, given, error, first, second, place):
    function = attrgetter(name)(blobpack)
    with pytest.raises(error) as caught:
        function(*arguments_of(given))
    assert str(caught.value).endswith(
        f" {first} and {second} seem to be swapped: {first} comes before {second}"
    )
    # the right order works, or is another error
    assert sorted(path.name for path in Path().iterdir() if "new" in path.name) == []


@pytest.mark.parametrize(("name", "given"), RIGHT_ORDER)
def test_other_errors_are_not_called_swapped(name, given, place):
    function = getattr(blobpack, name)
    with pytest.raises((blobpack.BlobpackError, TypeError, ValueError)) as caught:
        function(*arguments_of(given))
    assert "swapped" not in str(caught.value)


def test_the_hint_never_waits_and_never_hides_the_error(place):
    os.mkfifo("fifo")
    with pytest.raises(blobpack.BlobpackError):
        blobpack.pack("fifo", "p.tar")
    with pytest.raises(blobpack.BlobpackError):
        blobpack.append("fifo", "imgs")
    with pytest.raises(ValueError, match="can be encoded"):
        blobpack.extract("\ud800", "blob.tar")
    with pytest.raises(ValueError, match="can be encoded"):
        blobpack.subset("a\ud800", "b\ud800", ["a.png"])


def test_named_arguments_are_not_looked_at(place):
    with pytest.raises(TypeError) as caught:
        blobpack.pack(source="new.tar", target=PAIRS)
    assert "swapped" not in str(caught.value)


def test_the_error_keeps_its_attributes_and_its_cause(place):
    with pytest.raises(blobpack.FormatError) as caught:
        blobpack.read_image("imgs/a.png", "blob.tar")
    assert caught.value.offset == 0
    with pytest.raises(blobpack.SourceError) as caught:
        blobpack.read_manifest("imgs", "list.csv")
    assert caught.value.paths == ("imgs",)
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_of_several_arguments_are_left_alone():
    @argument_order.recognise_swap(name=is_place, number=argument_order.is_number)
    def fail(name, number):
        bytes([255]).decode()

    with pytest.raises(UnicodeDecodeError) as caught:
        fail(1, "name")
    assert len(caught.value.args) == 5


def test_signature_and_help_stay():
    for name in ("pack", "append", "read_image"):
        function = getattr(blobpack, name)
        assert list(inspect.signature(function).parameters)[1] in ("target", "source", "which")
        assert function.__name__ == name
        assert function.__doc__


PAYLOADS = [
    (
        [("a.png", "text")],
        "the payload of 'a.png' must be bytes or another buffer, not str: encode",
    ),
    (
        [("a.png", Path("x"))],
        "the payload of 'a.png' must be bytes .* not PosixPath: read the file",
    ),
    ([("a.png", None)], "the payload of 'a.png' must be bytes .* not NoneType$"),
    ({"a.png": PNG, "b.png": "text"}, "the payload of 'b.png' must be bytes .* not str"),
    ({5: PNG}, "the name 5 is not a str"),
    ([(PNG, "a.png")], r"not \(payload, name\) as in"),
    ([("a.png", PNG), "b.png"], r"must be \(name, payload\) pairs, but one is 'b.png'"),
    ([("a.png", PNG, 5)], r"must be \(name, payload\) pairs, but one is"),
    (("a.png", PNG), r"must be several .* pairs, not one: a list of pairs is \[\('a.png', …\)\]$"),
    ([["a.png", PNG]], r"must be several paths or \(name, payload\) pairs, but one is \['a.png'"),
]


@pytest.mark.parametrize("what", ["blob", "index"])
def test_an_open_blob_is_no_source(what, place):
    # files with the names of its members lie here
    Path("a.png").write_bytes(PNG)
    with opened() as blob:
        source = blob if what == "blob" else blob.index
        for function, given in (
            (blobpack.pack, (source, "new.tar")),
            (blobpack.append, ("blobs/b.tar", source)),
            (blobpack.pack_shards, (source, "shards", 4096)),
        ):
            with pytest.raises(
                TypeError, match=r"^source is an .*: copy its members by subset or merge"
            ):
                function(*given)
    assert len(blobpack.scan("blobs/b.tar")) == 1


@pytest.mark.parametrize(("source", "said"), PAYLOADS)
def test_a_wrong_payload_is_named(source, said, place):
    with pytest.raises(TypeError, match=f"^source.*{said}"):
        blobpack.pack(source, "new.tar")
    with pytest.raises(TypeError, match=f"^source.*{said}"):
        blobpack.append("blob.tar", source, duplicates="last")
    assert not Path("new.tar").exists()
    assert list(blobpack.scan("blob.tar").names) == ["a.png"]


def test_a_mapping_of_names_to_payloads_is_packed_in_its_order(place):
    payloads = {"z.png": PNG, "a.png": bytearray(PNG), "n": np.frombuffer(PNG, np.uint8)}
    report = blobpack.pack(payloads, "new.tar")
    assert list(report.index.names) == ["z.png", "a.png", "n"]
    blobpack.append("new.tar", {"more.png": memoryview(PNG)})
    report = blobpack.pack_shards(payloads, "shards", 4096)
    assert report.members == 3
    with blobpack.open_blob("new.tar") as blob:
        assert [blob.read(name) for name in blob.index.names] == [PNG] * 4


def test_an_argument_that_was_left_out_is_not_swapped(tmp_path):
    for name in ("a.tar", "b.tar"):
        blobpack.pack([("same", b"x")], tmp_path / name, all_files=True)
    with pytest.raises(blobpack.DuplicateNameError) as caught:
        blobpack.collect(tmp_path)
    assert "swapped" not in str(caught.value)
