"""Scan a tar: blobpack beside a plain walk of its headers in C, tarfile and GNU tar."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

import blobpack

if TYPE_CHECKING:
    from conftest import Figure, Floors
    from data import DataSets, Tar

# Aims in µs a member, with one thread and with two. (a) and (c) have none for two threads: a scan of (a) takes 7 ms, and
# (c) has 200 headers.
TO_REACH = {"a": (0.35, None), "b_gnu": (0.2, 0.12), "b_pax": (0.3, 0.18), "c": (0.6, None)}
# Windows of plain C: the fastest of 64 KiB to 4 MiB. On (c), with members of 5 MB, each header is read by itself.
WINDOW_BYTES = {"a": 1 << 20, "b_gnu": 1 << 20, "b_pax": 1 << 20, "c": 512}
# more rounds for the tars whose scan takes little time
ROUNDS = {"a": 25, "b_gnu": 7, "b_pax": 7, "c": 300}


@pytest.fixture(scope="module", params=list(TO_REACH))
def tar(request: pytest.FixtureRequest, data: DataSets) -> Tar:
    """Return each tar in turn. All systems scan one tar before the next tar comes, so that it stays in the page cache."""
    return data.tar(request.param)


def task_of(tar: Tar, threads: int = 1) -> str:
    """Name the task."""
    return f"scan {tar.label}, {threads} thread{'s' * (threads > 1)}"


@pytest.mark.parametrize("threads", [1, 2])
def bench_ours(figure: Figure, tar: Tar, threads: int) -> None:
    """Scan a tar into an index."""
    to_reach = TO_REACH[tar.key][threads - 1]
    figure.of(task_of(tar, threads), items=tar.members, unit="member", to_reach=to_reach)
    index = figure.take(lambda: blobpack.scan(tar.path, threads=threads), rounds=ROUNDS[tar.key])
    assert len(index) == tar.members


@pytest.mark.parametrize("threads", [1, 2])
def bench_plain_c(figure: Figure, tar: Tar, threads: int, floors: Floors) -> None:
    """Walk the headers in plain C, into arrays. A second thread is told a header to start from, which blobpack is not."""
    if tar.key == "c" and threads == 2:
        pytest.skip("a second thread has nothing to gain on (c)")
    figure.of(task_of(tar, threads), "plain C", items=tar.members, unit="member")
    figure.take_timed(
        lambda: floors("scan", tar.path, WINDOW_BYTES[tar.key], threads, rounds=ROUNDS[tar.key])
    )


def bench_tarfile(figure: Figure, tar: Tar) -> None:
    """List the members with Python's tarfile, and drop each one."""
    figure.of(task_of(tar), "tarfile", items=tar.members, unit="member")
    assert (
        figure.take(lambda: count_with_tarfile(tar), rounds=1 if tar.members > 50_000 else 3)
        == tar.members
    )


def count_with_tarfile(tar: Tar) -> int:
    """Step through the members."""
    count = 0
    with tarfile.open(tar.path) as archive:
        for _ in archive:
            count += 1
            # tarfile keeps every member, and would be measured with a growing heap
            archive.members = []
    return count


def bench_gnu_tar(figure: Figure, tar: Tar) -> None:
    """List names and blocks with GNU tar, as a process; its start is part of the time."""
    command = [gnu_tar(), "-tRf", tar.path]
    figure.of(task_of(tar), "GNU tar -tR", items=tar.members, unit="member")
    figure.take(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds=3)


def gnu_tar() -> str:
    """Find GNU tar, or skip the bench."""
    # on macOS, tar is bsdtar, and Homebrew installs GNU tar as gtar
    for name in ("gtar", "tar"):
        path = shutil.which(name)
        if (
            path
            and b"GNU"
            in subprocess.run([path, "--version"], capture_output=True, check=False).stdout
        ):
            return path
    pytest.skip("there is no GNU tar")
