"""Scan tars in S3 that other tools wrote: 1 GB of 4 KB members beside a download, and 200 members of 5 MB by headers.

The server runs on loopback and takes its share of the processors, so compare ratios only. The peer is a plain
download with the client and the number of threads that the scan uses; for large members, it reads the headers alone,
one by one.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import blobpack
from blobpack.stores.open import open_store
from blobpack.tar.readahead import WINDOW_BYTES_MAX, WINDOWS_AT_ONCE, Readahead
from blobpack.tar.scan import scan_store

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from s3server import NO_AWS, CantInstallError, S3Server, forget_clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Figure
    from data import DataSets

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Remote:
    """A tar in S3."""

    url: str
    path: Path
    members: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start the server, and set the environment so that boto3 uses it."""
    try:
        server = S3Server(tmp_path_factory.mktemp("s3"))
    except CantInstallError as exc:
        pytest.skip(str(exc))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (NO_AWS | server.settings()).items():
            patch.setenv(name, value)
        # a client that was made before has the settings of another server
        forget_clients()
        yield server
        forget_clients()
    server.stop()


def stored(server: S3Server, data: DataSets, key: str) -> Remote:
    """Upload the tar of a data set to S3."""
    tar = data.tar(key)
    bucket = server.new_bucket()
    server.client.upload_file(str(tar.path), bucket, "foreign.tar")
    return Remote(f"s3://{bucket}/foreign.tar", tar.path, tar.members)


@pytest.fixture(scope="module")
def small(server: S3Server, data: DataSets) -> Remote:
    """Upload a tar with members of 4 KB."""
    return stored(server, data, "remote_small")


@pytest.fixture(scope="module")
def large(server: S3Server, data: DataSets) -> Remote:
    """Upload a tar with members of 5 MB."""
    return stored(server, data, "c")


def bench_small(figure: Figure, small: Remote) -> None:
    """Scan members of 4 KB."""
    figure.of("remote scan, 4 KB", items=small.members, unit="member")
    with open_store(small.url) as store:
        index = figure.take(lambda: scan_store(store), rounds=ROUNDS)
        # once more, untimed, to count the requests of one scan
        reader = Readahead(store)
        scan_store(store, reader=reader)
    assert index == blobpack.scan(small.path)
    assert reader.bytes_read <= small.path.stat().st_size
    figure.note(requests=reader.requests, bytes=reader.bytes_read)


def bench_small_download(figure: Figure, small: Remote) -> None:
    """Download the blob with the client, the threads and the size of ranges that the scan uses, and drop the bytes."""
    figure.of("remote scan, 4 KB", "plain download", items=small.members, unit="member")
    with open_store(small.url) as store, ThreadPoolExecutor(WINDOWS_AT_ONCE) as pool:
        size = store.size

        def read(start: int) -> int:
            return len(store.read_range(start, min(start + WINDOW_BYTES_MAX, size)))

        def download() -> int:
            waiting: deque = deque()
            done = 0
            for start in range(0, size, WINDOW_BYTES_MAX):
                if len(waiting) == WINDOWS_AT_ONCE:
                    done += waiting.popleft().result()
                waiting.append(pool.submit(read, start))
            return done + sum(future.result() for future in waiting)

        assert figure.take(download, rounds=ROUNDS) == size


def bench_large(figure: Figure, large: Remote) -> None:
    """Scan members of 5 MB; it must read less than 2 % of the bytes."""
    figure.of("remote scan, 5 MB", items=large.members, unit="member")
    with open_store(large.url) as store:
        index = figure.take(lambda: scan_store(store), rounds=ROUNDS)
        reader = Readahead(store)
        scan_store(store, reader=reader)
    assert index == blobpack.scan(large.path)
    assert reader.bytes_read < 0.02 * large.path.stat().st_size
    figure.note(requests=reader.requests, bytes=reader.bytes_read)


def bench_large_headers(figure: Figure, large: Remote) -> None:
    """Read the headers one by one, at offsets that are known before: the fewest bytes, and one request at a time."""
    figure.of("remote scan, 5 MB", "a read a header", items=large.members, unit="member")
    starts = [member.offset_start - 512 for member in blobpack.scan(large.path)]
    with open_store(large.url) as store:

        def read() -> None:
            for start in starts:
                store.read_range(start, start + 512)

        figure.take(read, rounds=ROUNDS)
