"""Facts: the time that they add to a pack, and the time to take or verify them beside a plain read of the file.

verify compares every header with the index, and every payload with its checksum. It stands beside plain reads twice: of a
file that is in the page cache, and of one that has to come from the disk.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from bench_scan import TO_REACH as KEYS

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Figure, Floors
    from data import DataSets, Folder, Tar

    from blobpack import Index

PACK_ROUNDS = 15
DISK_ROUNDS = 3
ROUNDS = {"a": 25, "b_gnu": 5, "b_pax": 5, "c": 9}
# the fastest of 64 KiB to 4 MiB for a plain read
READ_WINDOW_BYTES = 1 << 19


def pack_task(threads: int) -> str:
    """Name the task."""
    return f"pack with facts (a), {threads} thread{'s' * (threads > 1)}"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("facts", [True, False], ids=["facts", "no_facts"])
def bench_pack(figure: Figure, folder: Folder, output: Path, threads: int, facts: bool) -> None:
    """Pack with facts and without; the aim is at most 1.6 times as long."""
    out = output / "out.tar"
    system = {} if facts else {"system": "blobpack --no-facts"}
    figure.of(pack_task(threads), items=len(folder.paths), unit="file", **system)
    report = figure.take(
        lambda: blobpack.pack(folder.path, out, threads=threads, facts=facts),
        rounds=PACK_ROUNDS,
        setup=lambda: out.unlink(missing_ok=True),
    )
    assert (report.index._columns.crc32c is not None) == facts


@pytest.fixture(scope="module", params=list(KEYS))
def tar(request: pytest.FixtureRequest, data: DataSets) -> Tar:
    """Return each tar in turn. All systems read one tar before the next tar comes, so that it stays in the page cache."""
    return data.tar(request.param)


@pytest.fixture(scope="module")
def index(tar: Tar) -> Index:
    """Scan the tar with facts once, so that verify can compare with them."""
    return blobpack.scan(tar.path, facts=True)


def megabytes(tar: Tar) -> int:
    """Return the size of a tar in units of 1,000,000 bytes."""
    return tar.path.stat().st_size // 1_000_000


@pytest.mark.parametrize("task", ["scan with facts", "verify"])
def bench_ours(figure: Figure, tar: Tar, index: Index, task: str) -> None:
    """Scan a tar with facts, or verify its headers and payloads."""
    work = {
        "scan with facts": lambda: blobpack.scan(tar.path, facts=True),
        "verify": lambda: blobpack.verify(tar.path, index=index),
    }[task]
    figure.of(f"{task} {tar.label}", items=megabytes(tar), unit="MB")
    result = figure.take(work, rounds=ROUNDS[tar.key])
    # a VerifyReport has failures, an Index has none
    assert not getattr(result, "failures", [])


@pytest.mark.parametrize("where", ["page cache", "disk"])
def bench_cat(figure: Figure, tar: Tar, where: str) -> None:
    """Read the file with cat."""
    task = "verify" if where == "page cache" else "verify from disk"
    figure.of(f"{task} {tar.label}", "cat", items=megabytes(tar), unit="MB")
    figure.take(
        lambda: subprocess.run(["cat", tar.path], stdout=subprocess.DEVNULL, check=True),
        rounds=ROUNDS[tar.key] if where == "page cache" else DISK_ROUNDS,
        setup=None if where == "page cache" else lambda: forget(tar.path),
    )


def bench_verify_from_disk(figure: Figure, tar: Tar, index: Index) -> None:
    """Verify a blob of which nothing is in the page cache."""
    figure.of(f"verify from disk {tar.label}", items=megabytes(tar), unit="MB")
    report = figure.take(
        lambda: blobpack.verify(tar.path, index=index),
        rounds=DISK_ROUNDS,
        setup=lambda: forget(tar.path),
    )
    assert report.ok


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("task", ["scan with facts", "verify"])
def bench_plain_c(figure: Figure, tar: Tar, floors: Floors, task: str) -> None:
    """Read the file with one thread, and do nothing with its bytes: a floor for whatever reads every payload."""
    figure.of(f"{task} {tar.label}", "plain read", items=megabytes(tar), unit="MB")
    figure.take_timed(lambda: floors("read", tar.path, READ_WINDOW_BYTES, rounds=ROUNDS[tar.key]))
