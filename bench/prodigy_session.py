"""Requests and seconds of one session of Prodigy: .venv/bin/python bench/prodigy_session.py

It prints the table of docs/guides/prodigy.md: a recipe that lists the prefix in each session, as the document that
blobpack's recipes stand in for does, beside the streams of blobpack, on an S3 server on loopback. A proxy counts requests.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faultserver import FaultServer
from s3server import NO_AWS, S3Server, forget_clients
from test_prodigy import documents_stream, png

import blobpack
from blobpack.integrations.prodigy import object_tasks, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = 3000
SHOWN = 10
PREFIX = "imgs/"


def measure(name: str, done: int, make: Callable[[], Any], proxy: FaultServer) -> None:
    """Show ten images, and print one row of the table."""
    proxy.requests.clear()
    began = time.perf_counter()
    stream = make()
    assert len(list(islice(stream, SHOWN))) == SHOWN
    took = time.perf_counter() - began
    time.sleep(1)  # what is read ahead, and listed in a thread, counts
    listings = [r for r in proxy.requests if "list-type" in r.path or "encoding-type" in r.path]
    others = len(proxy.requests) - len(listings)
    print(f"| {name} | {done:,} | {len(listings)} | {others} | {took:.2f} s |", flush=True)
    stream.close()


def measure_three(
    bucket: str, blob: str, listed: list[str], kept: Path, proxy: FaultServer
) -> None:
    """Measure the three ways, with some keys annotated."""
    skip = set(listed)
    for name, make in (
        ("listing in each session", lambda: documents_stream(bucket, PREFIX, listed)),
        ("s3.image.manual", lambda: object_tasks(bucket, PREFIX, skip=skip, listing=kept)),
        ("blob.image.manual", lambda: tasks(blobpack.open(blob), skip=skip)),
    ):
        measure(name, len(listed), make, proxy)


def run(server: S3Server, folder: Path) -> None:
    """Fill a bucket, and measure."""
    bucket = server.new_bucket()
    names = [f"{PREFIX}{number:06}.png" for number in range(IMAGES)]
    images = {name: png(i) + random.Random(i).randbytes(4000) for i, name in enumerate(names)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda image: server.put(bucket, *image), images.items()))
    blobpack.pack(images, folder / "out.tar")
    blob = server.put(bucket, "out.tar", (folder / "out.tar").read_bytes())
    with FaultServer(server.endpoint) as proxy:
        os.environ.update(server.settings(endpoint=proxy.endpoint))
        forget_clients()
        list(object_tasks(bucket, PREFIX, skip=set(names), listing=folder / "kept"))
        print("| | annotated before | listings | other requests | time to ten images |")
        print("|---|---|---|---|---|")
        for done in (0, IMAGES - SHOWN):
            measure_three(bucket, blob, names[:done], folder / ("kept" if done else "new"), proxy)
    for count in (20_000, 40_000):
        keys = [f"{PREFIX}{number:08}.png" for number in range(count)]
        for kind in (list, set):
            held = kind(keys)
            began = time.perf_counter()
            assert sum(key in held for key in keys) == count
            print(
                f"{count:,} keys, {kind.__name__}: {time.perf_counter() - began:.3f} s", flush=True
            )


if __name__ == "__main__":
    os.environ.update(NO_AWS)
    with tempfile.TemporaryDirectory() as temporary:
        running = S3Server(Path(temporary))
        try:
            run(running, Path(temporary))
        finally:
            running.stop()
