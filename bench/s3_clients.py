"""One S3 client, blobpack or a peer, in a process and a Python of its own, so that no client disturbs another.

    s3_clients.py blobpack|boto3|obstore|s3fs|socket BUCKET KEY

AWS_ENDPOINT_URL_S3 names the server. The first line of output has the version of the client. From then on each line of
input is a request as JSON, and one line of output has its times:

    {"how": "one by one" or one of `ways`, "ranges": [[start, end]…], "names": […], "in_flight": 128}
    {"wall_s": 1.5, "cpu_s": 0.2, "crc": 12345, "counted": [requests, bytes] or null}

Processor time is that of all threads. The CRC is of all bodies, in order; it is computed after the times were taken.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    Ranges = list[tuple[int, int]]

CONNECTIONS = 128
# a file system in memory, on Linux
MEMORY = Path("/dev/shm")


class Client:
    """The reads that every client offers.

    Attributes:
        version: Name and version of the client.
        ways: Name → function that reads many ranges: way(names, ranges, in_flight) returns their bytes in order. For
            "objects", the names are keys, and whole objects are read.
    """

    version = ""
    ways: dict[str, Callable[[list[str], Ranges, int], Iterable[Any]]]

    def __init__(self, bucket: str, key: str) -> None:
        """Prepare to read an object."""
        self.bucket, self.key = bucket, key
        self.ways = {"threads": self.by_threads, "objects": self.get_all}

    def read(self, start: int, end: int) -> Any:
        """Read one range."""
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """Read all of another object."""
        raise NotImplementedError

    def counted(self) -> tuple[int, int] | None:
        """Return the requests and bytes so far; None if the client does not count them."""

    def run(self, read: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        """Run a coroutine in an event loop that is kept, as the loop of a server is.

        asyncio.run() restores the handler of Ctrl-C at its end, for which Python 3.11 makes the repr() of the task, with
        its result. For 64 images it takes 8 ms of processor time, two thirds of all that aread_many takes with it.
        """
        return self.loop.run_until_complete(read)

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the client."""
        return asyncio.new_event_loop()

    def by_threads(self, names: list[str], ranges: Ranges, in_flight: int) -> list[Any]:
        """Read ranges, with as many threads as ranges in flight."""
        return list(self.threads(in_flight).map(lambda bounds: self.read(*bounds), ranges))

    def get_all(self, names: list[str], ranges: Ranges, in_flight: int) -> Iterable[Any]:
        """Read objects, with as many threads as objects in flight."""
        return list(self.threads(in_flight).map(self.get, names))

    @cache  # noqa: B019 (there is one client in a process)
    def threads(self, count: int) -> ThreadPoolExecutor:
        """Return a pool of threads, which is kept for later requests."""
        return ThreadPoolExecutor(count)


class Blobpack(Client):
    """blobpack."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        import blobpack

        self.blob = blobpack.open_blob(f"s3://{bucket}/{key}")
        self.read = self.blob.store.read_range
        self.ways |= {"read_many": self.read_many, "aread_many": self.aread_many}
        self.folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.version = "blobpack"

    def counted(self) -> tuple[int, int]:
        """Return the requests and bytes that the blob has counted."""
        stats = self.blob.stats
        return stats.requests, stats.bytes_fetched

    def get_all(self, names: list[str], ranges: Ranges, in_flight: int) -> Iterable[bytes]:
        """Pack the prefix of the objects into a local blob, and return its payloads."""
        import blobpack

        path = Path(self.folder.name, "out.tar")
        prefix = names[0].rpartition("/")[0]
        blobpack.pack(f"s3://{self.bucket}/{prefix}", path, all_files=True)
        blob = blobpack.open_blob(path)
        return blob.read_many(name.removeprefix(f"{prefix}/") for name in names)

    def read_many(self, names: list[str], ranges: Ranges, in_flight: int) -> list[bytes]:
        """Read members by name; the index finds their ranges."""
        return list(self.blob.read_many(names))

    def aread_many(self, names: list[str], ranges: Ranges, in_flight: int) -> list[bytes]:
        """Read members by name, with asyncio."""

        async def read() -> list[bytes]:
            return [payload async for payload in self.blob.aread_many(names)]

        return self.run(read())


class Boto3(Client):
    """boto3 with its defaults, but a connection for each read in flight."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        import boto3
        from botocore.config import Config

        self.client = boto3.client("s3", config=Config(max_pool_connections=CONNECTIONS))
        self.version = f"boto3 {boto3.__version__}"

    def read(self, start: int, end: int) -> bytes:
        """Read one range."""
        bounds = f"bytes={start}-{end - 1}"
        return self.client.get_object(Bucket=self.bucket, Key=self.key, Range=bounds)["Body"].read()

    def get(self, key: str) -> bytes:
        """Read all of another object."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


class Obstore(Client):
    """obstore, which uses Rust's object_store."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        import obstore
        from obstore.store import S3Store

        self.store = S3Store(
            bucket,
            endpoint=os.environ["AWS_ENDPOINT_URL_S3"],
            region=os.environ["AWS_DEFAULT_REGION"],
            client_options={"allow_http": True},
        )
        self.ways |= {"get_ranges": self.get_ranges, "get_range_async": self.get_range_async}
        self.version = f"obstore {obstore.__version__}"

    def read(self, start: int, end: int) -> Any:
        """Read one range."""
        return self.store.get_range(self.key, start=start, end=end)

    def get(self, key: str) -> Any:
        """Read all of another object."""
        return self.store.get(key).bytes()

    def get_ranges(self, names: list[str], ranges: Ranges, in_flight: int) -> list[Any]:
        """Read all ranges with one call; obstore merges near ranges, and fetches ten at a time."""
        starts, ends = zip(*ranges, strict=True)
        return self.store.get_ranges(self.key, starts=starts, ends=ends)

    def get_range_async(self, names: list[str], ranges: Ranges, in_flight: int) -> list[Any]:
        """Read with a task for each range."""

        async def read() -> list[Any]:
            get = self.store.get_range_async
            return await asyncio.gather(*(get(self.key, start=a, end=b) for a, b in ranges))

        return self.run(read())


class S3fs(Client):
    """s3fs, which uses fsspec, aiobotocore and aiohttp."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        import s3fs

        self.path = f"{bucket}/{key}"
        self.fs = s3fs.S3FileSystem(
            endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"],
            config_kwargs={"max_pool_connections": CONNECTIONS},
        )
        self.ways = {"cat_ranges": self.cat_ranges, "objects": self.get_all}
        self.version = f"s3fs {s3fs.__version__}"

    def read(self, start: int, end: int) -> bytes:
        """Read one range."""
        return self.fs.cat_file(self.path, start=start, end=end)

    def get_all(self, names: list[str], ranges: Ranges, in_flight: int) -> Iterable[bytes]:
        """Read all objects with one call."""
        paths = [f"{self.bucket}/{name}" for name in names]
        return self.fs.cat(paths, batch_size=in_flight).values()

    def cat_ranges(self, names: list[str], ranges: Ranges, in_flight: int) -> list[bytes]:
        """Read all ranges with one call."""
        starts, ends = map(list, zip(*ranges, strict=True))
        return self.fs.cat_ranges(
            [self.path] * len(ranges), starts, ends, batch_size=in_flight, on_error="raise"
        )


class Socket(Client):
    """The floor: send the request that blobpack sends, and receive all of the answer, without a look at its headers."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        import blobpack

        with blobpack.open_blob(f"s3://{bucket}/{key}") as blob:
            self.begin = blob.store.ranged_get().head
        url = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
        self.socket = socket.create_connection((url.hostname, url.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(1 << 16)
        self.view = memoryview(self.buffer)
        self.version = "a bare socket"

    def read(self, start: int, end: int) -> bytes:
        """Request one range, and receive it; the bytes stay in the buffer, and are not checked."""
        self.socket.sendall(self.begin + b"%d-%d\r\n\r\n" % (start, end - 1))
        have = self.socket.recv_into(self.buffer)
        end_of_answer = self.buffer.find(b"\r\n\r\n") + 4 + end - start
        while have < end_of_answer:
            have += self.socket.recv_into(self.view[have:])
        return b""


CLIENTS = {
    "blobpack": Blobpack,
    "boto3": Boto3,
    "obstore": Obstore,
    "s3fs": S3fs,
    "socket": Socket,
}


def measure(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    """Read the ranges of a request, and time it."""
    ranges = [(start, end) for start, end in request["ranges"]]
    before = client.counted()
    began, began_cpu = time.perf_counter(), time.process_time()
    if request["how"] == "one by one":
        bodies = list(starmap(client.read, ranges))
    else:
        bodies = client.ways[request["how"]](request["names"], ranges, request["in_flight"])
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    after = client.counted()
    counted = [b - a for a, b in zip(before, after, strict=True)] if before and after else None
    crc = 0
    for body in bodies:
        crc = zlib.crc32(body, crc)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "crc": crc, "counted": counted}


def main() -> None:
    """Answer requests until there are no more."""
    name, bucket, key = sys.argv[1:]
    client = CLIENTS[name](bucket, key)
    print(json.dumps({"version": client.version, "ways": list(client.ways)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(client, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
