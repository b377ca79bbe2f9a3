"""Read members of (a), 4.6 KB each, by name and by row, by one thread and by eight, beside LMDB and a plain map.

Also read many with one call: as bytes one by one, and into one buffer. The peers keep names and offsets in a dict.
"""

from __future__ import annotations

import mmap
import random
import threading
from typing import TYPE_CHECKING

import pytest
from data import SEED

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Figure
    from data import DataSets

    from blobpack import Blob

READS = 10_000
BATCH = 256
ROUNDS = 15
THREADS = pytest.mark.parametrize("threads", [1, 8])


def task_of(how: str, threads: int) -> str:
    """Name the task."""
    return f"read {how} (a), {threads} thread{'s' * (threads > 1)}"


@pytest.fixture(scope="module")
def blob(data: DataSets) -> Iterator[Blob]:
    """Open (a) with its index file, which is mapped."""
    path = data.tar("a").path
    index = path.with_suffix(".reads.idx")
    blobpack.scan(path).save(index)
    with blobpack.open_blob(path, index) as blob:
        yield blob
    index.unlink()


@pytest.fixture(scope="module")
def names(blob: Blob) -> list[str]:
    """Choose the names to read, as new strings: a dict finds the very object that is its key faster than an equal one."""
    return [str(name) for name in random.Random(SEED).choices(blob.index.names, k=READS)]


@pytest.fixture(scope="module")
def ranges(blob: Blob) -> dict[str, tuple[int, int]]:
    """Return offsets by name."""
    return {member.name: (member.offset_start, member.offset_end) for member in blob.index}


@pytest.fixture(scope="module")
def mapped(blob: Blob) -> Iterator[mmap.mmap]:
    """Map the blob, as a program in plain Python does."""
    with (
        open(blob.url, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as found,
    ):
        yield found


def by_threads(work: Callable[[], None], threads: int) -> Callable[[], None]:
    """Return a function that does the work in several threads at once."""
    if threads == 1:
        return work

    def work_in_threads() -> None:
        started = [threading.Thread(target=work) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    return work_in_threads


@THREADS
@pytest.mark.parametrize("how", ["by name", "by row"])
def bench_ours(figure: Figure, blob: Blob, names: list[str], how: str, threads: int) -> None:
    """Read with blobpack."""
    rows = [blob.index.row_of(name) for name in names]
    asked = names if how == "by name" else rows
    read = blob.read

    def read_all() -> None:
        for which in asked:
            read(which)

    figure.of(task_of(how, threads), items=READS * threads, unit="read")
    figure.take(by_threads(read_all, threads), rounds=ROUNDS)


@THREADS
def bench_dict_and_mmap(
    figure: Figure,
    names: list[str],
    ranges: dict[str, tuple[int, int]],
    mapped: mmap.mmap,
    threads: int,
) -> None:
    """Copy out of a map, at offsets from a dict."""

    def read_all() -> None:
        for name in names:
            start, end = ranges[name]
            mapped[start:end]

    figure.of(task_of("by name", threads), "dict, mmap", items=READS * threads, unit="read")
    figure.take(by_threads(read_all, threads), rounds=ROUNDS)


@THREADS
def bench_list_and_mmap(
    figure: Figure,
    blob: Blob,
    names: list[str],
    ranges: dict[str, tuple[int, int]],
    mapped: mmap.mmap,
    threads: int,
) -> None:
    """Copy out of a map, at offsets from a list."""
    listed = list(ranges.values())
    rows = [blob.index.row_of(name) for name in names]

    def read_all() -> None:
        for row in rows:
            start, end = listed[row]
            mapped[start:end]

    figure.of(task_of("by row", threads), "list, mmap", items=READS * threads, unit="read")
    figure.take(by_threads(read_all, threads), rounds=ROUNDS)


@THREADS
def bench_lmdb(figure: Figure, blob: Blob, names: list[str], output: Path, threads: int) -> None:
    """Read with LMDB: one transaction for all reads of a thread."""
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed: scripts/bench installs it")
    room = 2 * blob.store.size + (1 << 24)
    with lmdb.open(str(output / "lmdb"), map_size=room) as database:
        with database.begin(write=True) as transaction:
            for name, payload in blob.items():
                transaction.put(name.encode(), payload)

        def read_all() -> None:
            with database.begin() as transaction:
                get = transaction.get
                for name in names:
                    get(name.encode())

        figure.of(task_of("by name", threads), "LMDB", items=READS * threads, unit="read")
        figure.take(by_threads(read_all, threads), rounds=ROUNDS)


# Many at once

MANY = f"read {BATCH} names at once (a)"
PACKED = f"read {BATCH} names into one buffer (a)"


def batches_of(names: list[str]) -> list[list[str]]:
    """Divide names into batches, as a training loop asks for them."""
    return [names[first : first + BATCH] for first in range(0, len(names), BATCH)]


def bench_many(figure: Figure, blob: Blob, names: list[str]) -> None:
    """Read batches with read_many."""
    batches = batches_of(names)

    def read_all() -> None:
        for batch in batches:
            list(blob.read_many(batch))

    figure.of(MANY, items=len(names), unit="read")
    figure.take(read_all, rounds=ROUNDS)


def bench_many_with_mmap(
    figure: Figure, names: list[str], ranges: dict[str, tuple[int, int]], mapped: mmap.mmap
) -> None:
    """Copy batches out of a map."""
    batches = batches_of(names)

    def read_all() -> None:
        for batch in batches:
            [mapped[start:end] for start, end in map(ranges.__getitem__, batch)]

    figure.of(MANY, "dict, mmap", items=len(names), unit="read")
    figure.take(read_all, rounds=ROUNDS)


def bench_packed(figure: Figure, blob: Blob, names: list[str]) -> None:
    """Read batches with read_packed."""
    batches = batches_of(names)

    def read_all() -> None:
        for batch in batches:
            blob.read_packed(batch)

    figure.of(PACKED, items=len(names), unit="read")
    figure.take(read_all, rounds=ROUNDS)


def bench_packed_with_mmap(
    figure: Figure, names: list[str], ranges: dict[str, tuple[int, int]], mapped: mmap.mmap
) -> None:
    """Join batches of views of a map."""
    batches = batches_of(names)

    def read_all() -> None:
        with memoryview(mapped) as whole:
            for batch in batches:
                b"".join([whole[start:end] for start, end in map(ranges.__getitem__, batch)])

    figure.of(PACKED, "dict, mmap, join", items=len(names), unit="read")
    figure.take(read_all, rounds=ROUNDS)
