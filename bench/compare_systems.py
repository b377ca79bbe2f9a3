"""The systems of compare.py, each in a process of its own, in the Python that has it.

    compare_systems.py SYSTEM FOLDER

The system keeps its archive in FOLDER. The first line of output is JSON: the version of the system and what it can do.
From then on each line of input is a request as JSON, and one line of output answers it as JSON. Each system is used as
its documentation recommends.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BUCKET = "bucket"
S3_THREADS = 16


class Image(NamedTuple):
    """One image of the set.

    Attributes:
        row: Number of the image, counted from 0, for systems without names.
        name: Path of the image below the folder of images.
    """

    row: int
    name: str


class System:
    """The tasks that are measured. A task that a system cannot do is None, and the table shows a dash.

    Attributes:
        packages: Its PyPI packages; none for the standard library.
        modules: Modules that are imported before anything is timed.
        archive: The file or folder that it writes, below its folder.
    """

    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    archive = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / self.archive
        for module in self.modules:
            import_module(module)

    def version(self) -> str:
        """Return names and versions."""
        return ", ".join(f"{name} {version(name)}" for name in self.packages) or (
            f"Python {python_version()}"
        )

    def write(self, source: Path, names: list[str]) -> None:
        """Write the archive, from files."""
        raise NotImplementedError

    append: Callable[[Path, list[str]], None] | None = None

    open: Callable[[], None] | None = None

    def read(self, image: Image) -> bytes:
        """Read one image, after `open`."""
        raise NotImplementedError

    def read_all(self) -> Iterable[bytes]:
        """Read all images, in the order that is fastest, after `open`."""
        raise NotImplementedError

    open_remote: Callable[[str], None] | None = None


class Blobpack(System):
    """blobpack, with a local blob."""

    modules = ("blobpack.packing.pack", "blobpack.opening.blob", "blobpack.tar.scan")
    archive = "blobpack.tar"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import blobpack

        self.blobpack = blobpack

    def version(self) -> str:
        return f"blobpack {version('blobpack')}"

    def write(self, source: Path, names: list[str]) -> None:
        self.blobpack.pack(source, self.path)

    def append(self, source: Path, names: list[str]) -> None:
        self.blobpack.append(self.path, source)

    def open(self) -> None:
        self.blob = self.blobpack.open_blob(self.path)

    def open_remote(self, url: str) -> None:
        self.blob = self.blobpack.open_blob(f"{url}/{self.archive}")

    def read(self, image: Image) -> bytes:
        return self.blob.read(image.name)

    def read_all(self) -> Iterable[bytes]:
        return self.blob.read_many(self.blob.index)


class BlobpackS3(Blobpack):
    """blobpack, with a blob in S3."""

    modules = (*Blobpack.modules, "boto3")

    def write(self, source: Path, names: list[str]) -> None:
        s3_client().create_bucket(Bucket=BUCKET)
        self.blobpack.pack(source, f"s3://{BUCKET}/{self.archive}")

    append = None

    def open(self) -> None:
        self.blob = self.blobpack.open_blob(f"s3://{BUCKET}/{self.archive}")

    open_remote = None


class Webdataset(System):
    """webdataset: shards that are read from front to back."""

    packages = ("webdataset",)
    modules = ("webdataset",)
    archive = "wds"

    def write(self, source: Path, names: list[str]) -> None:
        self._write_shard(self.path / "00000.tar", source, names)

    def append(self, source: Path, names: list[str]) -> None:
        self._write_shard(self.path / "00001.tar", source, names)

    def _write_shard(self, path: Path, source: Path, names: list[str]) -> None:
        from webdataset import TarWriter

        path.parent.mkdir(exist_ok=True)
        with TarWriter(str(path), encoder=False) as writer:
            for name in names:
                key, _, suffix = name.partition(".")
                writer.write({"__key__": key, suffix: (source / name).read_bytes()})

    def _samples(self, url: str) -> Iterator[dict[str, Any]]:
        from webdataset import WebDataset

        return iter(WebDataset(url, shardshuffle=False))

    def open(self) -> None:
        self.url = str(self.path / "00000.tar")

    def open_remote(self, url: str) -> None:
        self.url = f"pipe:curl -s -L {url}/{self.archive}/00000.tar"

    def read(self, image: Image) -> bytes:
        key = image.name.partition(".")[0]
        return next(sample["jpg"] for sample in self._samples(self.url) if sample["__key__"] == key)

    def read_all(self) -> Iterable[bytes]:
        return (sample["jpg"] for sample in self._samples(self.url))


class Wids(Webdataset):
    """wids: a webdataset's shards, read by number."""

    packages = ("wids", "torch")
    modules = ("wids", "wids.wids_index", "webdataset")

    def write(self, source: Path, names: list[str]) -> None:
        super().write(source, names)
        shards = self.path / "shards.json"
        command = f"widsindex create -n images -o {shards} {self.path}/00000.tar"
        # in this process, so that the start of another one is not timed
        with patch.object(sys, "argv", command.split()):
            import_module("wids.wids_index").main()
        spec = json.loads(shards.read_text())
        # relative, so that the index also serves behind a URL
        spec["shardlist"][0]["url"] = "00000.tar"
        shards.write_text(json.dumps(spec))

    append = None

    def open(self) -> None:
        self._open(str(self.path / "shards.json"), cache_dir=str(self.path))

    def open_remote(self, url: str) -> None:
        cache = self.folder / "wids-cache"
        shutil.rmtree(cache, ignore_errors=True)
        self._open(f"{url}/{self.archive}/shards.json", cache_dir=str(cache))

    def _open(self, shards: str, cache_dir: str) -> None:
        from wids import ShardListDataset

        self.dataset = ShardListDataset(shards, cache_dir=cache_dir, transformations=[])

    def read(self, image: Image) -> bytes:
        return self.dataset[image.row][".jpg"].read()

    def read_all(self) -> Iterable[bytes]:
        return (self.dataset[row][".jpg"].read() for row in range(len(self.dataset)))


class Ratarmountcore(System):
    """ratarmount's library: any tar, with an index in SQLite."""

    packages = ("ratarmountcore",)
    modules = ("ratarmountcore.mountsource.factory",)
    archive = "ratar/images.tar"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.index = self.path.with_name("images.tar.index.sqlite")

    def write(self, source: Path, names: list[str]) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_tar(self.path, source, names, "--create")

    def append(self, source: Path, names: list[str]) -> None:
        write_tar(self.path, source, names, "--append")
        # part of an append: it finds that the index is stale, and makes a new one
        self.open()
        if self.source.lookup(f"/{names[-1]}") is None:
            raise RuntimeError("the index lacks what was appended")

    def open(self) -> None:
        self._open(str(self.path), indexFilePath=str(self.index), writeIndex=True)

    def _open(self, path: str, **options: Any) -> None:
        from ratarmountcore.mountsource.factory import open_mount_source

        self.source = open_mount_source(path, **options)

    def open_remote(self, url: str) -> None:
        base = f"{url}/{self.archive}"
        self._open(base, indexFilePath=f"{base}.index.sqlite")

    def read(self, image: Image) -> bytes:
        with self.source.open(self.source.lookup(f"/{image.name}")) as file:
            return file.read()

    def read_all(self) -> Iterable[bytes]:
        for folder in sorted(self.source.list("/set")):
            for name in sorted(self.source.list(f"/set/{folder}")):
                yield self.read(Image(0, f"set/{folder}/{name}"))


class RatarmountcoreBare(Ratarmountcore):
    """ratarmount's library, with a tar behind HTTP that has no index beside it yet."""

    def open_remote(self, url: str) -> None:
        self._open(f"{url}/{self.archive}", indexFilePath=":memory:")


class Files(System):
    """Plain files in folders."""

    archive = "files"

    def write(self, source: Path, names: list[str]) -> None:
        shutil.copytree(source, self.path)

    def append(self, source: Path, names: list[str]) -> None:
        shutil.copytree(source, self.path, dirs_exist_ok=True)

    def open(self) -> None:
        self.base = f"{self.path}/"

    def open_remote(self, url: str) -> None:
        self.base = f"{url}/{self.archive}/"

    def read(self, image: Image) -> bytes:
        if "://" in self.base:
            with urllib.request.urlopen(self.base + image.name) as answer:
                return answer.read()
        with open(self.base + image.name, "rb", buffering=0) as file:
            return file.read()

    def read_all(self) -> Iterable[bytes]:
        for folder, folders, names in os.walk(self.path):
            folders.sort()
            for name in sorted(names):
                with open(f"{folder}/{name}", "rb", buffering=0) as file:
                    yield file.read()


class Ratarmount(Ratarmountcore):
    """ratarmount: the tar mounted as a folder, by FUSE."""

    packages = ("ratarmount",)
    modules = ()
    archive = "ratarmount/images.tar"
    append = None
    open_remote = None

    def open(self) -> None:
        self.mounted = Files(self.folder)
        self.mounted.path = self.path.with_name("mounted")
        self.mounted.path.mkdir(exist_ok=True)
        program = Path(sys.executable).with_name("ratarmount")
        done = subprocess.run(
            [program, "--index-file", self.index, self.path, self.mounted.path],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"can't mount: {(done.stderr or done.stdout).strip()[-200:]}")
        # the command ends before the folder is mounted
        for _ in range(500):
            if (self.mounted.path / "set").exists():
                break
            time.sleep(0.01)
        else:
            raise RuntimeError("nothing appears where it was mounted")
        self.mounted.open()
        self.program = program

    def close(self) -> None:
        """Unmount."""
        subprocess.run([self.program, "-u", self.mounted.path], check=True, capture_output=True)

    def read(self, image: Image) -> bytes:
        return self.mounted.read(image)

    def read_all(self) -> Iterable[bytes]:
        return self.mounted.read_all()


class Lmdb(System):
    """LMDB: a B+ tree in a memory map."""

    packages = ("lmdb",)
    modules = ("lmdb",)
    archive = "images.lmdb"

    def write(self, source: Path, names: list[str]) -> None:
        # in the order of keys, which the documentation of LMDB recommends
        self._put(source, sorted(names), append=True)

    def append(self, source: Path, names: list[str]) -> None:
        self._put(source, names, append=False)

    def _put(self, source: Path, names: list[str], *, append: bool) -> None:
        import lmdb

        with lmdb.open(str(self.path), map_size=1 << 36) as env, env.begin(write=True) as txn:
            items = ((name.encode(), (source / name).read_bytes()) for name in names)
            txn.cursor().putmulti(items, append=append)

    def open(self) -> None:
        self._open(self.path)

    def open_remote(self, url: str) -> None:
        """Download the database, which can only be read from a file."""
        copy = self.folder / "downloaded.lmdb"
        copy.mkdir(exist_ok=True)
        urllib.request.urlretrieve(f"{url}/{self.archive}/data.mdb", copy / "data.mdb")
        self._open(copy)

    def _open(self, path: Path) -> None:
        import lmdb

        self.env = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
        self.txn = self.env.begin()

    def read(self, image: Image) -> bytes:
        return self.txn.get(image.name.encode())

    def read_all(self) -> Iterable[bytes]:
        return self.txn.cursor().iternext(keys=False)


class Mds(System):
    """MDS: mosaicml-streaming's shards, read by number."""

    packages = ("mosaicml-streaming", "torch")
    modules = ("streaming",)
    archive = "mds"

    def write(self, source: Path, names: list[str]) -> None:
        from streaming import MDSWriter

        with MDSWriter(out=str(self.path), columns={"name": "str", "image": "bytes"}) as writer:
            for name in names:
                writer.write({"name": name, "image": (source / name).read_bytes()})

    def open(self) -> None:
        from streaming import LocalDataset

        self.dataset = LocalDataset(local=str(self.path))

    def open_remote(self, url: str) -> None:
        from streaming import StreamingDataset

        endpoint, _, bucket = url.rpartition("/")
        os.environ["S3_ENDPOINT_URL"] = endpoint
        cache = self.folder / "mds-cache"
        shutil.rmtree(cache, ignore_errors=True)
        self.dataset = StreamingDataset(
            remote=f"s3://{bucket}/{self.archive}", local=str(cache), batch_size=1
        )

    def read(self, image: Image) -> bytes:
        return self.dataset[image.row]["image"]

    def read_all(self) -> Iterable[bytes]:
        return (self.dataset[row]["image"] for row in range(self.dataset.size))


class Zip(System):
    """A zip whose members are stored, not deflated."""

    archive = "images.zip"

    def write(self, source: Path, names: list[str]) -> None:
        self._add(source, names, "w")

    def append(self, source: Path, names: list[str]) -> None:
        self._add(source, names, "a")

    def _add(self, source: Path, names: list[str], mode: Any) -> None:
        with zipfile.ZipFile(self.path, mode) as archive:
            for name in names:
                archive.write(source / name, name)

    def open(self) -> None:
        self.zip = zipfile.ZipFile(self.path)

    def read(self, image: Image) -> bytes:
        return self.zip.read(image.name)

    def read_all(self) -> Iterable[bytes]:
        return map(self.zip.read, self.zip.namelist())


class RemoteZip(Zip):
    """A zip behind HTTP, by ranged GETs."""

    packages = ("remotezip",)
    modules = ("remotezip",)

    def open_remote(self, url: str) -> None:
        from remotezip import RemoteZip

        self.zip = RemoteZip(f"{url}/{self.archive}")


def write_tar(path: Path, source: Path, names: list[str], how: str) -> None:
    """Create a tar with GNU tar, or append files to one; tarfile is slower, and writes a larger tar."""
    command = ["tar", how, "--file", path, "--directory", source, "--files-from", "-"]
    subprocess.run(command, input="\n".join(names), text=True, check=True)


class Tarfile(System):
    """A plain tar: GNU tar writes it, tarfile reads it."""

    archive = "images.tar"

    def write(self, source: Path, names: list[str]) -> None:
        write_tar(self.path, source, names, "--create")

    def append(self, source: Path, names: list[str]) -> None:
        write_tar(self.path, source, names, "--append")

    def open(self) -> None:
        """Read all headers once, and keep the members by name, because getmember would search a list."""
        self.tar = tarfile.open(self.path)  # noqa: SIM115 (open as long as this process)
        self.members = {member.name: member for member in self.tar}

    def open_remote(self, url: str) -> None:
        self.remote = f"{url}/{self.archive}"

    def read(self, image: Image) -> bytes:
        if hasattr(self, "remote"):
            return self._read_from_stream(image)
        return self.tar.extractfile(self.members[image.name]).read()

    def _read_from_stream(self, image: Image) -> bytes:
        with (
            urllib.request.urlopen(self.remote) as answer,
            tarfile.open(fileobj=answer, mode="r|") as tar,
        ):
            member = next(member for member in tar if member.name == image.name)
            return tar.extractfile(member).read()

    def read_all(self) -> Iterable[bytes]:
        with tarfile.open(self.path) as tar:
            for member in tar:
                yield tar.extractfile(member).read()


def s3_client() -> Any:
    """Make a client with a connection for each thread."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(max_pool_connections=S3_THREADS))


class S3Objects(System):
    """One object in S3 for each image."""

    packages = ("boto3",)
    modules = ("boto3",)
    bucket, prefix = "objects", ""

    def write(self, source: Path, names: list[str]) -> None:
        self._put(self.bucket, source, names)

    def append(self, source: Path, names: list[str]) -> None:
        """Put images into another bucket, because the next round must not find more than the set in this one."""
        self._put(f"{self.bucket}-appended", source, names)

    def _put(self, bucket: str, source: Path, names: list[str]) -> None:
        client = s3_client()
        client.create_bucket(Bucket=bucket)

        def put(name: str) -> None:
            client.put_object(Bucket=bucket, Key=name, Body=(source / name).read_bytes())

        with ThreadPoolExecutor(S3_THREADS) as pool:
            list(pool.map(put, names))

    def open(self) -> None:
        self.client = s3_client()

    def open_remote(self, url: str) -> None:
        """Use the counting server, which serves each image as a file; to an S3 client, that is an object."""
        import boto3

        endpoint, _, self.bucket = url.rpartition("/")
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.prefix = f"{Files.archive}/"

    def read(self, image: Image) -> bytes:
        return self._get(self.prefix + image.name)

    def _get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def read_all(self) -> Iterable[bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [found["Key"] for page in pages for found in page["Contents"]]
        with ThreadPoolExecutor(S3_THREADS) as pool:
            yield from pool.map(self._get, keys)


SYSTEMS: dict[str, type[System]] = {
    "blobpack": Blobpack,
    "blobpack in S3": BlobpackS3,
    "webdataset": Webdataset,
    "wids": Wids,
    "ratarmount": Ratarmount,
    "ratarmountcore": Ratarmountcore,
    "ratarmountcore, no index yet": RatarmountcoreBare,
    "LMDB": Lmdb,
    "MDS": Mds,
    "zip": Zip,
    "zip, remotezip": RemoteZip,
    "tar": Tarfile,
    "files": Files,
    "S3 objects": S3Objects,
}


def answer(system: System, request: dict[str, Any]) -> dict[str, Any]:
    """Do the task of a request, and time it."""
    images = [Image(*image) for image in request.get("images", ())]
    found = {}
    began, began_cpu = time.perf_counter(), cpu_s()
    match request["do"]:
        case "write":
            system.write(Path(request["source"]), request["names"])
        case "append":
            system.append(Path(request["source"]), request["names"])
        case "open":
            system.open()
            system.read(images[0])
        case "open remote":
            system.open_remote(request["url"])
            return {"crcs": [zlib.crc32(system.read(image)) for image in images]}
        case "read":
            return read_each(system, images)
        case "read all":
            sizes = [len(payload) for payload in system.read_all()]
            found = {"images": len(sizes), "bytes": sum(sizes)}
    return {"seconds": time.perf_counter() - began, "cpu_s": cpu_s() - began_cpu, **found}


def cpu_s() -> float:
    """Return the processor time of this process and of the children that it has waited for, in seconds."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def read_each(system: System, images: list[Image]) -> dict[str, Any]:
    """Read images one after another, and time each."""
    read, clock = system.read, time.perf_counter_ns
    took_ns, crcs = [], []
    for image in images:
        began = clock()
        payload = read(image)
        took_ns.append(clock() - began)
        crcs.append(zlib.crc32(payload))
    return {"took_ns": took_ns, "crcs": crcs}


def main() -> None:
    """Answer requests until there are no more."""
    name, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    # Some systems print to standard output, between the answers.
    os.dup2(2, 1)
    began = time.perf_counter()
    system = SYSTEMS[name](Path(folder))
    import_s = time.perf_counter() - began if system.modules else None
    can = [part for part in ("append", "open", "open_remote") if getattr(system, part)]
    hello = {"version": system.version(), "can": can, "import_s": import_s}
    print(json.dumps(hello), file=answers, flush=True)
    try:
        for line in sys.stdin:
            try:
                answered = answer(system, json.loads(line))
            # any failure of a peer becomes a cell of the table
            except Exception as exc:
                answered = {"error": f"{type(exc).__name__}: {exc}"}
            print(json.dumps(answered), file=answers, flush=True)
    finally:
        if isinstance(system, Ratarmount):
            system.close()


if __name__ == "__main__":
    main()
