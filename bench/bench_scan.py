"""Scan: every member of a tar, against a plain walk of its headers and against what lists tars today."""

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

# µs a member to reach, with one thread and with two
TO_REACH = {"a": (0.35, None), "b_gnu": (0.2, 0.12), "b_pax": (0.3, 0.18), "c": (0.6, None)}
# plain C's windows, the fastest of 64 KiB to 4 MiB; on (c) each header is read by itself
WINDOW_BYTES = {"a": 1 << 20, "b_gnu": 1 << 20, "b_pax": 1 << 20, "c": 512}
ROUNDS = {"a": 25, "b_gnu": 7, "b_pax": 7, "c": 300}


@pytest.fixture(scope="module", params=list(TO_REACH))
def tar(request: pytest.FixtureRequest, data: DataSets) -> Tar:
    """Return each tar in turn, so that all systems meet it before the next one comes."""
    return data.tar(request.param)


def task_of(tar: Tar, threads: int = 1) -> str:
    """Name the task."""
    return f"scan {tar.label}, {threads} thread{'s' * (threads > 1)}"


@pytest.mark.parametrize("threads", [1, 2])
def bench_ours(figure: Figure, tar: Tar, threads: int) -> None:
    """Scan into an index."""
    to_reach = TO_REACH[tar.key][threads - 1]
    figure.of(task_of(tar, threads), items=tar.members, unit="member", to_reach=to_reach)
    index = figure.take(lambda: blobpack.scan(tar.path, threads=threads), rounds=ROUNDS[tar.key])
    assert len(index) == tar.members


@pytest.mark.parametrize("threads", [1, 2])
def bench_plain_c(figure: Figure, tar: Tar, threads: int, floors: Floors) -> None:
    """Walk in plain C into arrays; a second thread starts from a header that is known to it."""
    if tar.key == "c" and threads == 2:
        pytest.skip("a second thread has nothing to gain on (c)")
    figure.of(task_of(tar, threads), "plain C", items=tar.members, unit="member")
    figure.take_timed(
        lambda: floors("scan", tar.path, WINDOW_BYTES[tar.key], threads, rounds=ROUNDS[tar.key])
    )


def bench_tarfile(figure: Figure, tar: Tar) -> None:
    """Let Python's tarfile list the members and forget each."""
    figure.of(task_of(tar), "tarfile", items=tar.members, unit="member")
    assert (
        figure.take(lambda: count_with_tarfile(tar), rounds=1 if tar.members > 50_000 else 3)
        == tar.members
    )


def count_with_tarfile(tar: Tar) -> int:
    """Step through the members, which tarfile would keep."""
    count = 0
    with tarfile.open(tar.path) as archive:
        for _ in archive:
            count += 1
            archive.members = []
    return count


def bench_gnu_tar(figure: Figure, tar: Tar) -> None:
    """Let GNU tar list names and blocks; a process, its start included."""
    command = [gnu_tar(), "-tRf", tar.path]
    figure.of(task_of(tar), "GNU tar -tR", items=tar.members, unit="member")
    figure.take(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds=3)


def gnu_tar() -> str:
    """Find GNU tar, or skip."""
    for name in ("gtar", "tar"):
        path = shutil.which(name)
        if (
            path
            and b"GNU"
            in subprocess.run([path, "--version"], capture_output=True, check=False).stdout
        ):
            return path
    pytest.skip("there is no GNU tar")
