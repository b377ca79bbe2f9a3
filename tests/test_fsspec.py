"""Members as files of fsspec: from disk, S3, a web server and collections, as fsspec's own file system has the files."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from test_stores import FORKS, in_fork
from webserver import WebServer

import blobpack
from blobpack import BlobpackError, ChecksumError, FactsMissingError, PackageMissingError
from blobpack.integrations.fsspec import BlobFileSystem, file as file_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

PAYLOADS = {
    **{f"cats/{i:04}.txt": b"%d" % i * (i + 1) for i in range(60)},
    **{f"dogs/a/b/{i}.txt": b"dog %d" % i for i in range(5)},
    "dogs-and-cats.csv": b"name,count\ncats,60\ndogs,5\n",
    "dogs/list.json": json.dumps([{"n": 1}, {"n": 2}]).encode(),
    "empty": b"",
    "größe/1 [2].txt": b"brackets",
}


def foreign(payloads: Iterable[tuple[str, bytes]] = PAYLOADS.items()) -> bytes:
    """Return a tar of another writer, without an index."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, payload in payloads:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return sink.getvalue()


@pytest.fixture(autouse=True)
def _no_old_instances() -> Iterator[None]:
    yield
    BlobFileSystem.clear_instance_cache()


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "out.tar"
    blobpack.pack(PAYLOADS, path, all_files=True)
    return path


def place_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Pack the payloads to a place, and return what to pass as `fo`."""
    if kind in ("s3", "s3-prefix"):
        root = f"s3://{request.getfixturevalue('bucket')}"
    elif kind == "gs":
        root = f"gs://{request.getfixturevalue('gcs').new_bucket()}"
    elif kind == "memory-prefix":
        root = f"memory://{tmp_path.name}"
    elif kind == "http":
        root = request.getfixturevalue("web").url.rstrip("/")
        blobpack.pack(PAYLOADS, tmp_path / "out.tar", all_files=True)
        return f"{root}/out.tar"
    else:
        root = str(tmp_path)
    if kind == "shards" or kind.endswith("-prefix"):
        blobpack.pack_shards(PAYLOADS, f"{root}/shards", shard_bytes=20_000, all_files=True)
        return f"{root}/shards" + "/" * (kind == "s3-prefix")
    blobpack.pack(PAYLOADS, f"{root}/out.tar", all_files=True)
    return f"{root}/out.tar"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as server:
        yield server


@pytest.fixture(params=["local", "shards", "http", "s3", "s3-prefix", "gs", "memory-prefix"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return fsspec.filesystem("blob", fo=place_of(request.param, tmp_path, request))


# As files on a disk


@pytest.fixture
def judge(tmp_path: Path) -> Any:
    """The same files on a disk, as fsspec's own file system has them."""
    for name, payload in PAYLOADS.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    return DirFileSystem(tmp_path / "files", fsspec.filesystem("file"))


PATTERNS = [
    *("*", "**", "*/*", "cats/*", "cats/000?.txt", "cats/000[1-3].txt", "**/b/*", "dogs/**", "d*"),
    *("*.csv", "dogs/a/**/*.txt", "nothing/*", "dogs/a", "cats/0001.txt", "nothing"),
]


def test_files_and_folders_are_those_that_a_disk_has(fs: Any, judge: Any) -> None:
    for path in ("", "/", "cats", "cats/", "dogs", "dogs/a", "größe", "blob://dogs"):
        plain = path.removeprefix("blob://")
        assert sorted(fs.ls(path, detail=False)) == sorted(judge.ls(plain, detail=False))
        assert fs.find(path) == judge.find(plain)
        # the root has no path of its own
        assert fs.find(path, withdirs=True) == list(filter(None, judge.find(plain, withdirs=True)))
        assert fs.find(path, maxdepth=1) == judge.find(plain, maxdepth=1)
        assert fs.du(path) == sum(len(judge.cat_file(each)) for each in judge.find(plain))
    for pattern in PATTERNS:
        assert fs.glob(pattern) == list(filter(None, judge.glob(pattern))), pattern
    for path in ("", "cats", "cats/0001.txt", "cats/1", "empty", "dog", "dogs-and-cats.csv"):
        assert fs.exists(path) == judge.exists(path)
        assert fs.isdir(path) == judge.isdir(path)
        assert fs.isfile(path) == judge.isfile(path)
    for (ours, our_folders, our_files), (theirs, their_folders, their_files) in zip(
        sorted(fs.walk("")), sorted(judge.walk("")), strict=True
    ):
        assert (ours, sorted(our_folders), sorted(our_files)) == (
            theirs,
            sorted(their_folders),
            sorted(their_files),
        )


def test_information_of_files_is_that_of_their_members(fs: Any) -> None:
    for info in [*fs.find("", detail=True).values(), fs.info("cats/0007.txt")]:
        member = fs.reader.index[info["name"]]
        assert info["type"] == "file"
        assert info["size"] == len(PAYLOADS[info["name"]]) == fs.size(info["name"])
        known = {key: info[key] for key in ("offset_start", "offset_end", "crc32c")}
        assert known == {key: getattr(member, key) for key in known}
    assert fs.info("dogs/a") == {"name": "dogs/a", "size": 0, "type": "directory"}
    assert fs.ls("empty") == [fs.info("empty")]


def test_bytes_are_those_that_were_packed(fs: Any) -> None:
    assert fs.cat("", recursive=True) == PAYLOADS
    assert fs.cat(list(PAYLOADS)) == PAYLOADS
    assert fs.cat("dogs/a/b/*") == {name: PAYLOADS[name] for name in fs.find("dogs/a")}
    for name in ("cats/0042.txt", "empty", "größe/1 [2].txt"):
        with fs.open(name) as file:
            assert file.read() == PAYLOADS[name]
        assert fs.cat_file(name) == fs.cat(name) == PAYLOADS[name]
    names = list(PAYLOADS)
    for start, end in ((0, 5), (3, None), (-4, -1), (None, None), (5, 3), (10**6, None)):
        ranges = fs.cat_ranges(names, start, end)
        assert ranges == [PAYLOADS[name][start:end] for name in names]
        assert fs.cat_file(names[50], start, end) == PAYLOADS[names[50]][start:end]
    # fsspec itself accepts any iterable
    asked = ("cats/0042.txt", "empty")
    assert fs.cat_ranges(asked, (1, 0), iter((3, None))) == [PAYLOADS["cats/0042.txt"][1:3], b""]
    with fs.open("dogs-and-cats.csv", "r", encoding="ascii") as lines:
        assert next(lines) == "name,count\n"


def test_a_chained_url_names_the_member_and_its_blob(tar: Path, tmp_path: Path) -> None:
    with fsspec.open(f"blob://cats/0003.txt::file://{tar}") as file:
        assert file.read() == b"3333"
    files = fsspec.open_files(f"blob://cats/000*.txt::file://{tar}", "rt")
    assert len(files) == 10
    with files[9] as text:
        assert text.read() == "9" * 10
    blobpack.pack_shards(PAYLOADS, tmp_path / "shards", shard_bytes=20_000, all_files=True)
    for collection in ("shards", "shards/collection.idx", "shards/*.tar"):
        fs, path = fsspec.core.url_to_fs(f"blob://dogs/list.json::file://{tmp_path}/{collection}")
        assert isinstance(fs, BlobFileSystem)
        assert fs.cat(path) == PAYLOADS["dogs/list.json"]
        assert len(fs.reader.blobs) > 1
    blobpack.pack_shards(PAYLOADS, "memory://chained/shards", shard_bytes=20_000, all_files=True)
    with fsspec.open("blob://cats/0003.txt::memory://chained/shards") as file:
        assert file.read() == b"3333"
    root, path = fsspec.core.url_to_fs(f"blob::file://{tar}")
    assert root.ls(path, detail=False) == fsspec.filesystem("blob", fo=tar).ls("", detail=False)


def test_other_file_systems_stand_on_this_one(tar: Path, tmp_path: Path) -> None:
    cached = fsspec.filesystem(
        "simplecache",
        target_protocol="blob",
        target_options={"fo": str(tar)},
        cache_storage=str(tmp_path / "kept"),
    )
    assert cached.cat("cats/0004.txt") == b"44444"
    folder = DirFileSystem("dogs/a", fsspec.filesystem("blob", fo=str(tar)))
    assert folder.ls("b", detail=False) == [f"b/{i}.txt" for i in range(5)]
    mapper = fsspec.get_mapper(f"blob://cats::file://{tar}")
    assert len(mapper) == 60
    assert mapper["0002.txt"] == b"222"
    assert "nothing" not in mapper


# Requests


def test_a_batch_is_merged_into_few_requests(bucket: str) -> None:
    blobpack.pack(PAYLOADS, f"s3://{bucket}/out.tar", all_files=True)
    fs = fsspec.filesystem("blob", fo=f"s3a://{bucket}/out.tar")
    assert fs.exists("empty")
    before = fs.reader.stats
    assert len(fs.cat([f"cats/{i:04}.txt" for i in range(60)])) == 60
    after = fs.reader.stats
    assert after.requests - before.requests < 5
    assert after.merged - before.merged > 50
    parts = fs.cat_ranges([f"cats/{i:04}.txt" for i in range(60)], 0, 1)
    assert parts == [(b"%d" % i)[:1] for i in range(60)]
    assert fs.reader.stats.requests - after.requests < 5


def test_a_large_member_is_read_part_by_part(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    large = os.urandom(300_000)
    blobpack.pack({"large": large}, f"s3://{bucket}/out.tar", all_files=True)
    monkeypatch.setattr(file_module, "WHOLE_BYTES_MAX", 100_000)
    fs = fsspec.filesystem("blob", fo=f"s3://{bucket}/out.tar")
    before = fs.reader.stats.bytes_wanted
    with fs.open("large", block_size=10_000) as file:
        file.seek(200_000)
        assert file.read(1000) == large[200_000:201_000]
        assert fs.reader.stats.bytes_wanted - before < 50_000
        again = pickle.loads(pickle.dumps(file))
        assert again.read(10) == large[201_000:201_010]
        file.seek(0)
        assert file.read() == large


# Errors


def test_what_is_missing_is_an_error_of_fsspec_and_of_blobpack(fs: Any) -> None:
    for call in (fs.info, fs.cat_file, fs.open, fs.ls):
        with pytest.raises(FileNotFoundError, match="no file or folder 'nothing'") as caught:
            call("nothing")
        assert isinstance(caught.value, BlobpackError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), FileNotFoundError)
    for call in (fs.cat_file, fs.open):
        with pytest.raises(IsADirectoryError, match="cats"):
            call("cats")
    assert fs.find("nothing") == []


def test_one_failure_of_a_batch_is_raised_left_out_or_returned(tar: Path) -> None:
    fs = fsspec.filesystem("blob", fo=str(tar))
    asked = ["cats/0001.txt", "nothing", "cats", "empty"]
    with pytest.raises(FileNotFoundError):
        fs.cat(["cats/0001.txt", "nothing"])
    with pytest.raises(IsADirectoryError):
        fs.cat(["cats/0001.txt", "cats"])
    assert fs.cat(asked, on_error="omit") == {"cats/0001.txt": b"11", "empty": b""}
    found = fs.cat(asked, on_error="return")
    assert isinstance(found["nothing"], FileNotFoundError)
    assert isinstance(found["cats"], IsADirectoryError)
    ranges = fs.cat_ranges(asked, [0, 0, 0, 0], [1, 1, 1, 1])
    assert [type(each) for each in ranges] == [
        bytes,
        type(found["nothing"]),
        IsADirectoryError,
        bytes,
    ]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(asked, 0, 1, on_error="raise")
    with pytest.raises(ValueError, match="on_error must be one of"):
        fs.cat(asked, on_error="ignore")
    with pytest.raises(ValueError, match="one length, not 4, 1 and 4"):
        fs.cat_ranges(asked, [0], [1, 1, 1, 1])


def test_a_damaged_payload_fails_alone(s3_env: S3Server, tmp_path: Path, tar: Path) -> None:
    bucket = s3_env.new_bucket()
    data = bytearray(tar.read_bytes())
    with blobpack.open_blob(tar) as blob:
        data[blob.index["cats/0030.txt"].offset_start] ^= 1
    s3_env.put(bucket, "out.tar", bytes(data))
    fs = fsspec.filesystem("blob", fo=f"s3://{bucket}/out.tar")
    read = fs.cat("", recursive=True, on_error="return")
    assert isinstance(read.pop("cats/0030.txt"), ChecksumError)
    assert read == {name: PAYLOADS[name] for name in PAYLOADS if name != "cats/0030.txt"}
    with pytest.raises(ChecksumError):
        fs.open("cats/0030.txt").read()


def test_a_server_that_fails_is_not_asked_for_each_of_the_others(
    s3_env: S3Server, tar: Path, faults: FaultServer
) -> None:
    bucket = s3_env.new_bucket()
    s3_env.put(bucket, "out.tar", tar.read_bytes())
    fs = fsspec.filesystem("blob", fo=f"s3://{bucket}/out.tar")
    assert fs.exists("cats")
    faults.fail_always("403")
    before = faults.count("GET")
    read = fs.cat(list(PAYLOADS), on_error="return")
    # an empty payload, which needs no request, comes after the first error
    assert {type(each) for each in read.values()} == {blobpack.StorageError}
    assert len(read) == len(PAYLOADS)
    assert faults.count("GET") - before < 10
    with pytest.raises(blobpack.StorageError):
        fs.cat_file("cats/0001.txt")


def test_the_file_system_is_read_only(tar: Path, tmp_path: Path) -> None:
    fs = fsspec.filesystem("blob", fo=str(tar))
    calls = [
        lambda: fs.open("new", "wb"),
        lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new"),
        lambda: fs.rmdir("cats"),
        lambda: fs.rm("empty"),
        lambda: fs.rm("cats", recursive=True),
        lambda: fs.mv("empty", "new"),
        lambda: fs.cp_file("empty", "new"),
        lambda: fs.touch("new"),
        lambda: fs.pipe("new", b"x"),
        lambda: fs.put(str(tar), "new"),
    ]
    before = tar.read_bytes()
    for call in calls:
        with pytest.raises(io.UnsupportedOperation, match="read-only"):
            call()
    assert tar.read_bytes() == before
    fs.get("dogs", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got" / "list.json").read_bytes() == PAYLOADS["dogs/list.json"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fo": 3}, TypeError, "fo must be the path or URL"),
        ({"fo": ""}, ValueError, "fo must be a path or URL, not empty"),
        ({"fo": "x", "target_protocol": "gopher"}, ValueError, "gopher://"),
        ({"fo": "x.tar", "indx": "y"}, TypeError, "no option indx"),
        ({"fo": "x.tar", "index": blobpack.Index()}, TypeError, "index must be a path or URL"),
        ({"fo": "s3://b/x.tar", "target_options": {"anno": 1}}, TypeError, "no option anno"),
        ({"fo": "s3://b/x.tar", "target_options": {"key": "a"}}, ValueError, "key and secret"),
        ({"fo": "http://h/x", "target_options": {"anon": 1}}, TypeError, "no option anon for http"),
        ({"fo": "x.tar", "target_options": {"anon": 1}}, TypeError, "no option anon for a local"),
        ({"fo": "s3://b/x.tar", "target_options": {"anon": "no"}}, TypeError, "anonymous must be"),
    ],
)
def test_wrong_options_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fsspec.filesystem("blob", **options)


def test_a_blob_that_does_not_exist_is_missing_at_the_first_use(
    tmp_path: Path, bucket: str
) -> None:
    for place in (tmp_path / "none.tar", f"s3://{bucket}/none.tar", f"s3://{bucket}/none"):
        fs = fsspec.filesystem("blob", fo=str(place))
        with pytest.raises(blobpack.BlobNotFoundError, match="none"):
            fs.ls("")


def test_without_fsspec_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from blobpack import PackageMissingError\n"
        "try:\n    from blobpack.integrations.fsspec import BlobFileSystem\n"
        "except PackageMissingError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'blobpack[fsspec]'" in done.stdout
    assert issubclass(PackageMissingError, ImportError)


# Servers and accounts


def test_options_of_s3_may_have_the_names_of_s3fs(s3: S3Server, no_aws: None) -> None:
    bucket = s3.new_bucket()
    account = {"key": s3.access_key, "secret": s3.secret_key}
    place = f"{bucket}/out.tar"
    s3.put(bucket, "out.tar", foreign())
    for options in (
        {**account, "client_kwargs": {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}},
        {**account, "endpoint_url": s3.endpoint, "region": "us-east-1", "anon": False},
        {**account, "endpoint_url": s3.endpoint, "use_ssl": False, "default_block_size": 5},
    ):
        fs = fsspec.filesystem("blob", fo=place, target_protocol="s3", target_options=options)
        assert fs.cat("empty") == b""
        assert pickle.loads(pickle.dumps(fs)).cat("cats/0001.txt") == b"11"


def test_options_of_http_are_sent(tmp_path: Path, web: WebServer) -> None:
    (tmp_path / "out.tar").write_bytes(foreign())
    for options in (
        {"bearer_token": "secret"},
        {"headers": {"Authorization": "Bearer secret"}},
        {"client_kwargs": {"headers": {"Authorization": "Bearer secret"}}},
    ):
        web.forget()
        fs = fsspec.filesystem("blob", fo=f"{web.url}out.tar", target_options=options)
        assert fs.cat("cats/0001.txt") == b"11"
        assert {each.headers["authorization"] for each in web.requests} == {"Bearer secret"}


def test_options_of_open_are_passed_on(tar: Path, tmp_path: Path, bucket: str) -> None:
    with blobpack.open_blob(tar) as blob:
        blob.index.select("cats/*").save(tmp_path / "cats.idx")
    fs = fsspec.filesystem("blob", fo=str(tar), index=str(tmp_path / "cats.idx"))
    assert fs.ls("", detail=False) == ["cats"]
    blobpack.pack(PAYLOADS, f"s3://{bucket}/out.tar", all_files=True)
    fs = fsspec.filesystem(
        "blob", fo=f"s3://{bucket}/out.tar", cache=str(tmp_path / "cache"), hedge="always"
    )
    assert fs.reader.hedge == "always"
    assert len(fs.cat(list(PAYLOADS))) == len(PAYLOADS)
    assert any((tmp_path / "cache").rglob("*"))


# Instances, threads and processes


def test_threads_share_one_open_blob(tar: Path) -> None:
    mine = fsspec.filesystem("blob", fo=str(tar))
    assert fsspec.filesystem("blob", fo=str(tar)) is mine
    found: list[Any] = []

    def use() -> None:
        fs = fsspec.filesystem("blob", fo=str(tar))
        assert fs.cat("", recursive=True) == PAYLOADS
        found.append((fs, fs.reader))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # fsspec makes an instance for each thread
    assert {id(reader) for _, reader in found} == {id(mine.reader)}
    assert len(found) == 8
    other = fsspec.filesystem("blob", fo=str(tar), stale="rescan")
    assert other is not mine
    assert other.reader is not mine.reader


def test_a_file_system_goes_to_other_processes(tar: Path) -> None:
    fs = fsspec.filesystem("blob", fo=str(tar))
    assert fs.exists("cats")
    again = fsspec.AbstractFileSystem.from_json(fs.to_json())
    assert again.cat("empty") == b""
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).cat('cats/0003.txt'))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(fs), capture_output=True, check=True
    )
    assert done.stdout == b"b'3333'\n"


def test_a_file_system_of_a_relative_path_goes_to_another_folder(
    tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for make in (
        lambda: fsspec.filesystem("blob", fo="out.tar"),
        lambda: BlobFileSystem("out.tar", None, {}, stale="refuse"),
    ):
        monkeypatch.chdir(tar.parent)
        made = make()
        pickled = pickle.dumps(made)
        monkeypatch.chdir("/")
        assert pickle.loads(pickled).cat("empty") == made.cat("empty") == b""


@FORKS
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_forked_process_reads_on(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    place = place_of(kind, tmp_path, request)
    fs = fsspec.filesystem("blob", fo=place)
    assert fs.cat("", recursive=True) == PAYLOADS
    assert in_fork(lambda: fs.cat("", recursive=True)) == PAYLOADS
    # fsspec makes its instances anew in a fork
    found = in_fork(lambda: fsspec.filesystem("blob", fo=place).cat("", recursive=True))
    assert found == PAYLOADS


def test_a_blob_that_was_replaced_is_seen_after_invalidate_cache(tar: Path) -> None:
    fs = fsspec.filesystem("blob", fo=str(tar))
    file = fs.open("cats/0001.txt")
    key = fs.ukey("cats/0001.txt")
    assert fs.ukey("cats/0001.txt") == key
    blobpack.pack({"cats/0001.txt": b"new", "more": b""}, tar, all_files=True)
    fs.invalidate_cache()
    assert fs.cat("cats/0001.txt") == b"new"
    assert fs.find("") == ["cats/0001.txt", "more"]
    assert fs.ukey("cats/0001.txt") != key
    # it was read when it was opened
    assert file.read() == b"11"


# Names


def test_paths_are_the_names_that_tar_extracts(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    names = ["./a.txt", "b//c.txt", "/root/d.txt", "b/./e.txt", "dup", "./dup", "x", "x/y", "../up"]
    path.write_bytes(foreign((name, name.encode()) for name in names))
    with blobpack.open_blob(path, blobpack.scan(path)) as blob:
        blob.index.save(f"{path}.idx")
    fs = fsspec.filesystem("blob", fo=str(path))
    assert fs.find("") == ["../up", "a.txt", "b/c.txt", "b/e.txt", "dup", "root/d.txt", "x", "x/y"]
    assert fs.ls("b", detail=False) == ["b/c.txt", "b/e.txt"]
    assert fs.cat("", recursive=True)["root/d.txt"] == b"/root/d.txt"
    # the last one of a path counts, but a name that is spelled as it is finds its own member
    assert fs.cat(["b/c.txt", "a.txt"]) == {"b/c.txt": b"b//c.txt", "a.txt": b"./a.txt"}
    assert fs.cat("dup") == b"dup"
    assert fs.info("x")["type"] == "file"
    assert fs.ls("x", detail=False) == ["x/y"]
    assert [path for path, _, _ in fs.walk("")] == ["", "..", "b", "root", "x"]


def test_times_of_members_are_known_if_the_index_has_them(tmp_path: Path, tar: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    os.utime(tmp_path / "a.txt", (10**9, 10**9))
    blobpack.pack([tmp_path / "a.txt"], tmp_path / "t.tar", all_files=True, keep_mtime=True)
    fs = fsspec.filesystem("blob", fo=str(tmp_path / "t.tar"))
    assert fs.modified("a.txt").timestamp() == 10**9
    with pytest.raises(FactsMissingError, match="empty"):
        fsspec.filesystem("blob", fo=str(tar)).modified("empty")


# Other packages


def test_pandas_reads_members(tar: Path, bucket: str) -> None:
    for place in (str(tar), f"s3://{bucket}/out.tar"):
        if place != str(tar):
            blobpack.pack(PAYLOADS, place, all_files=True)
        frame = pd.read_csv("blob://dogs-and-cats.csv", storage_options={"fo": place})
        assert frame.to_dict("list") == {"name": ["cats", "dogs"], "count": [60, 5]}
    assert pd.read_json(f"blob://dogs/list.json::file://{tar}").n.tolist() == [1, 2]


def test_pyarrow_reads_members(tmp_path: Path, bucket: str) -> None:
    tables = {}
    for i in range(3):
        file = io.BytesIO()
        pd.DataFrame({"i": [i, i + 10]}).to_parquet(file)
        tables[f"tables/{i}.parquet"] = file.getvalue()
    blobpack.pack(tables, f"s3://{bucket}/out.tar", all_files=True)
    fs = fsspec.filesystem("blob", fo=f"s3://{bucket}/out.tar")
    dataset = pa.dataset.dataset("tables", filesystem=fs, format="parquet")
    assert sorted(dataset.to_table()["i"].to_pylist()) == [0, 1, 2, 10, 11, 12]
    wrapped = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs))
    infos = wrapped.get_file_info(pa.fs.FileSelector("", recursive=True))
    assert {info.path for info in infos} == {"tables", *tables}
    assert wrapped.open_input_file("tables/1.parquet").read() == tables["tables/1.parquet"]
