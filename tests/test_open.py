"""blobpack.open opens whatever lies at a path or URL: a blob, a collection, a folder, prefix or glob of blobs."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rangeserver import send_range

import blobpack
from blobpack import (
    Blob,
    BlobNotFoundError,
    Collection,
    DuplicateNameError,
    FormatError,
    LeftOutWarning,
    MissingIndexWarning,
    StaleIndexError,
    StorageError,
)
from blobpack.opening.kind import kind_of
from blobpack.opening.open import opened, source_of
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from s3server import S3Server

    Sent = list[tuple[str, str]]

NAMES = {number: [f"{i}/{number}.bin" for i in range(4)] for number in range(3)}


def payload_of(name: str) -> bytes:
    return f"<{name}>".encode()


def make_blob(path: Path, names: list[str], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blobpack.pack([(name, payload_of(name)) for name in names], path, all_files=True, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, names in NAMES.items():
        make_blob(tmp_path / "set" / f"{number}.tar", names)
    return tmp_path / "set"


def read_all(reader: Blob | Collection) -> dict[str, bytes]:
    return {name: reader.read(name) for name in reader.index.names}


ALL = {name: payload_of(name) for names in NAMES.values() for name in names}


# Local paths


def test_one_blob(folder: Path) -> None:
    with blobpack.open(folder / "0.tar") as blob:
        assert isinstance(blob, Blob)
        assert list(blob.index.names) == NAMES[0]


def test_one_blob_with_its_index(folder: Path) -> None:
    chosen = blobpack.open_blob(folder / "0.tar").index.select("1/*")
    with blobpack.open(folder / "0.tar", chosen) as blob:
        assert list(blob.index.names) == ["1/0.bin"]


@pytest.mark.parametrize("name", ["set", "set/", "set/*.tar", "set/collection.idx", "set/other"])
def test_a_collection(folder: Path, name: str) -> None:
    blobpack.collect(folder)
    blobpack.collect(folder, folder / "other")
    with blobpack.open(folder.parent / name) as collection:
        assert isinstance(collection, Collection)
        assert read_all(collection) == ALL
        # read from the file, not joined again
        assert collection.url in {str(folder / "collection.idx"), str(folder / "other")}


@pytest.mark.parametrize("name", ["set", "set/", "set/*.tar", "set/[0-2].tar"])
def test_blobs_that_were_not_collected_are_joined_in_memory(folder: Path, name: str) -> None:
    before = sorted(folder.iterdir())
    given = os.path.join(folder.parent, name)
    with blobpack.open(given) as collection:
        assert isinstance(collection, Collection)
        assert collection.url == given
        assert read_all(collection) == ALL
        assert list(collection.read_many(list(ALL))) == list(ALL.values())
        again = pickle.loads(pickle.dumps(collection))
    assert sorted(folder.iterdir()) == before
    # also of one that is closed, as of a Blob
    for copy in (again, pickle.loads(pickle.dumps(collection))):
        with copy:
            assert read_all(copy) == ALL
            assert copy.url == given


def test_a_relative_folder_is_found_again_after_a_change_of_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with blobpack.open("set/*.tar") as collection:
        monkeypatch.chdir("/")
        assert read_all(collection) == ALL


def test_a_glob_finds_a_blob_that_the_collection_of_the_folder_lacks(folder: Path) -> None:
    blobpack.collect(folder)
    make_blob(folder / "new.tar", ["later.bin"])
    with blobpack.open(folder / "*.tar") as found:
        assert found.read("later.bin") == payload_of("later.bin")
        assert len(found.blobs) == 4
    assert blobpack.verify(folder / "*.tar").members == 13
    report = blobpack.merge([folder / "*.tar"], folder.parent / "all.tar")
    assert len(report.index) == 13
    # the collection still serves a glob of exactly its blobs, and takes no scan
    with blobpack.open(folder / "[0-9].tar") as found:
        assert found.url.endswith("collection.idx")


def test_a_glob_of_any_suffix_leaves_out_what_lies_beside_blobs(folder: Path) -> None:
    for blob in folder.glob("*.tar"):
        blob.unlink()
    for number, names in NAMES.items():
        make_blob(folder / f"{number}.tar", names, index="sidecar")
    for pattern in ("*", "**", "*.*", "?.tar*"):
        with blobpack.open(folder / pattern) as found:
            assert len(found) == 12
    # blobs may have any name
    (folder / "0.tar").rename(folder / "part-0")
    (folder / "0.tar.idx").rename(folder / "part-0.idx")
    with blobpack.open(folder / "part-?") as found:
        assert len(found) == 4


def test_a_glob_leaves_out_the_members_of_other_blobs(folder: Path) -> None:
    blobpack.collect(folder)
    with blobpack.open(folder / "[01].tar") as collection:
        assert list(collection.index.names) == NAMES[0] + NAMES[1]


def test_blobs_without_an_index_are_scanned_with_one_warning(folder: Path) -> None:
    for number in (3, 4):
        make_blob(folder / f"{number}.tar", [f"{number}.bin"], index="none")
    says = r"set: 2 of 5 blobs have no index.*`blobpack collect --scan .*set`"
    with pytest.warns(MissingIndexWarning, match=says) as warned:
        collection = blobpack.open(folder)
    assert [warning.filename for warning in warned] == [__file__]
    assert collection.read("4.bin") == payload_of("4.bin")
    # facts differ: scanned blobs have none
    assert len(collection.index) == len(ALL) + 2
    collection.close()


def test_the_scan_of_one_blob_warns_at_the_caller(folder: Path) -> None:
    path = make_blob(folder / "3.tar", ["3.bin"], index="none")
    with pytest.warns(MissingIndexWarning) as warned, blobpack.open(path):
        pass
    with pytest.warns(MissingIndexWarning) as within, opened(path):
        pass
    assert [warning.filename for warning in (*warned, *within)] == [__file__] * 2


def test_members_behind_the_end_are_warned_of(folder: Path) -> None:
    path = folder / "0.tar"
    joined = path.read_bytes()
    path.write_bytes(joined[: blobpack.scan(path).report.bytes_scanned + 1024] + joined[:2048])
    with pytest.warns((LeftOutWarning, MissingIndexWarning)) as warned, blobpack.open(folder):
        pass
    assert {warning.category for warning in warned} == {LeftOutWarning, MissingIndexWarning}


def test_names_in_two_blobs(folder: Path) -> None:
    make_blob(folder / "3.tar", ["0/0.bin", "new.bin"])
    with pytest.raises(DuplicateNameError, match=r"'0/0.bin' is in 0.tar and in 3.tar"):
        blobpack.open(folder)
    with blobpack.open(folder, duplicates="last") as collection:
        assert collection.url_of("0/0.bin") == str(folder / "3.tar")
        assert len(collection.index) == len(ALL) + 2


def test_stale_indexes(folder: Path) -> None:
    path = folder / "1.tar"
    blobpack.Index([]).save(folder / "1.tar.idx")
    plain = make_blob(folder / "2.tar", NAMES[2], index="sidecar", force=True)
    with plain.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(StaleIndexError, match=r"2\.tar"):
        blobpack.open(folder)
    make_blob(plain, [*NAMES[2], "more.bin"], index="none", force=True)
    with blobpack.open(folder, stale="rescan") as collection:
        assert "more.bin" in collection
    assert path.exists()


def test_a_name_with_the_characters_of_a_glob(tmp_path: Path) -> None:
    one = make_blob(tmp_path / "a[1].tar", ["one.bin"])
    make_blob(tmp_path / "a1.tar", ["other.bin"])
    make_blob(tmp_path / "photos [2024]" / "x.tar", ["photo.bin"])
    for name, names in {"a[1].tar": ["one.bin"], "photos [2024]": ["photo.bin"]}.items():
        with blobpack.open(tmp_path / name) as reader:
            assert list(reader.index.names) == names
    one.unlink()
    with blobpack.open(one) as reader:
        assert list(reader.index.names) == ["other.bin"]


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none.tar", "none.idx", "none/", "empty", "*.tar"):
        with pytest.raises(BlobNotFoundError):
            blobpack.open(tmp_path / name)
    with pytest.raises(BlobNotFoundError, match="there are no blobs"):
        blobpack.open(tmp_path / "empty")


def test_an_index_of_one_blob_is_no_collection(folder: Path) -> None:
    blobpack.open_blob(folder / "0.tar").index.save(folder / "0.idx")
    with pytest.raises(FormatError, match="the index of one blob, not a collection"):
        blobpack.open(folder / "0.idx")


# Blob by blob


def each(reader: Blob | Collection) -> list[tuple[str, list[str], int]]:
    found = []
    for part in reader._each_blob():
        index = part.read_index()
        with part.opened() as store:
            for member in index:
                payload = store.read_range(member.offset_start, member.offset_end)
                assert payload == payload_of(member.name)
        assert store.closed == isinstance(reader, Collection)
        assert part.url == store.url == str(part.location)
        found.append((Path(part.url).name, list(index.names), part.first_row))
    return found


def test_a_reader_is_gone_through_blob_by_blob(folder: Path) -> None:
    blobpack.pack([], folder / "1a.tar", allow_empty=True)
    with blobpack.open(folder / "0.tar") as blob:
        assert each(blob) == [("0.tar", NAMES[0], 0)]
    expected = [
        ("0.tar", NAMES[0], 0),
        ("1.tar", NAMES[1], 4),
        ("1a.tar", [], 8),
        ("2.tar", NAMES[2], 8),
    ]
    with blobpack.open(folder) as collection:
        assert each(collection) == expected
        parts = list(collection._each_blob())
        # the index of each blob knows its archive
        with blobpack.open_blob(folder / "2.tar") as blob:
            assert parts[-1].read_index().identity == blob.index.identity
        (folder / "1.tar").unlink()
        with pytest.raises(BlobNotFoundError, match=r"1\.tar"):
            each(collection)


# Sources of functions


def test_opened_closes_only_what_it_opened(folder: Path) -> None:
    with blobpack.open(folder) as collection:
        with opened(collection) as reader:
            assert reader is collection
        assert reader.read("0/0.bin") == payload_of("0/0.bin")
    with opened(folder / "0.tar") as reader:
        pass
    with pytest.raises(StorageError, match="closed"):
        reader.read("0/0.bin")
    make_blob(folder / "3.tar", ["0/0.bin"])
    with pytest.raises(DuplicateNameError), opened(folder):
        pass
    with opened(folder, duplicates="last") as reader:
        assert len(reader.index) == len(ALL) + 1


def test_source_of_takes_what_open_takes(folder: Path) -> None:
    with blobpack.open(folder) as collection:
        source_of("source", collection)
    for place in (folder, "s3://bucket", "s3://bucket/", "s3://bucket/key", "https://host/x.tar"):
        source_of("source", place)
    for bad in (None, 5, [folder]):
        with pytest.raises(TypeError, match="source must be a path or URL"):
            source_of("source", bad)
    with pytest.raises(ValueError, match="source"):
        source_of("source", "gopher://host/x.tar")


# In S3 and behind HTTP


@pytest.fixture
def prefix(folder: Path, bucket: str, s3_env: S3Server) -> str:
    for path in folder.iterdir():
        s3_env.put(bucket, f"set/{path.name}", path.read_bytes())
    return f"s3://{bucket}/set/"


def test_a_prefix_in_s3(prefix: str, bucket: str, s3_env: S3Server) -> None:
    for given in (prefix, f"s3://{bucket}", f"{prefix}*.tar", f"{prefix}**"):
        with blobpack.open(given) as collection:
            assert collection.url == given
            assert read_all(collection) == ALL
    blobpack.collect(prefix)
    with blobpack.open(f"{prefix}[0-2].tar") as collection:
        assert collection.url == f"{prefix}collection.idx"
        assert read_all(collection) == ALL
    with blobpack.open(f"{prefix}[12].tar") as collection:
        assert list(collection.index.names) == NAMES[1] + NAMES[2]
    s3_env.put(bucket, "other", b"")
    with pytest.raises(BlobNotFoundError, match="there are no blobs"):
        blobpack.open(f"s3://{bucket}/other/")


def test_the_object_of_a_name_in_s3_comes_before_a_pattern(
    prefix: str, bucket: str, s3_env: S3Server, folder: Path, sent: Sent
) -> None:
    s3_env.put(bucket, "a[1].tar", (folder / "0.tar").read_bytes())
    s3_env.put(bucket, "a1.tar", (folder / "1.tar").read_bytes())
    sent.clear()
    with blobpack.open(f"s3://{bucket}/a[1].tar") as blob:
        assert isinstance(blob, Blob)
        assert list(blob.index.names) == NAMES[0]
    assert [operation for operation, _ in sent] == ["HeadObject", "GetObject"]
    s3_env.delete(bucket, "a[1].tar")
    with blobpack.open(f"s3://{bucket}/a[1].tar") as collection:
        assert list(collection.index.names) == NAMES[1]
    # no look for a name without characters of a glob
    sent.clear()
    with blobpack.open(f"{prefix}0.tar"):
        assert [operation for operation, _ in sent] == ["GetObject"]


def test_a_collection_is_made_of_the_object_of_a_name(
    bucket: str, s3_env: S3Server, folder: Path
) -> None:
    s3_env.put(bucket, "a[1].tar", (folder / "0.tar").read_bytes())
    s3_env.put(bucket, "a1.tar", (folder / "1.tar").read_bytes())
    assert blobpack.collect(f"s3://{bucket}/a[1].tar").members == len(NAMES[0])
    assert blobpack.collect(f"s3://{bucket}/a[12].tar").members == len(NAMES[1])


def test_a_presigned_url_is_no_pattern(prefix: str, bucket: str, s3_env: S3Server) -> None:
    url = s3_env.client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "set/0.tar"}, ExpiresIn=900
    )
    with blobpack.open(f"{url}&x=[1]*") as blob:
        assert read_all(blob) == {name: ALL[name] for name in NAMES[0]}


class IPv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class RangeHandler(SimpleHTTPRequestHandler):
    """Sends ranges of the files in a folder."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        send_range(self, path.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_no_pattern(folder: Path) -> None:
    try:
        server = IPv6Server(("::1", 0), partial(RangeHandler, directory=folder))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://[::1]:{server.server_port}"
        with blobpack.open(f"{url}/0.tar") as blob:
            assert read_all(blob) == {name: ALL[name] for name in NAMES[0]}
        with pytest.raises(BlobNotFoundError, match="there is no collection"):
            blobpack.open(f"{url}/")
        with pytest.raises(StorageError, match="a web server can't list its blobs"):
            blobpack.collect(f"{url}/", folder / "x.idx")
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://[::1]:8000/x.tar", "blob"),
        ("https://host/x.tar?X-Amz-Signature=a", "blob"),
        ("https://host/*.tar", "blob"),
        ("https://host/x/", "folder"),
        ("https://host/x/?token=1", "folder"),
        ("s3://bucket", "folder"),
        ("s3://bucket/x/", "folder"),
        ("s3://bucket/x", "blob"),
        ("/no/such/x.tar", "blob"),
        ("/no/such/*.tar", "glob"),
        ("/", "folder"),
    ],
)
def test_what_a_name_means(url: str, kind: str) -> None:
    assert kind_of(Location.parse(url, prefix=True)) == kind
