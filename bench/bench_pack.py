"""Pack a folder of small files into one tar, with the index, beside plain C, GNU tar and tarfile."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bench_scan import gnu_tar

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Figure, Floors
    from data import DataSets, Folder

TO_REACH = 6.0
ROUNDS = 9
ON_DISK = "pack (a) 4.6 KB onto a disk"


def task_of(threads: int) -> str:
    """Name the task. Peers are set beside two threads, which are the default on two processors."""
    return f"pack (a) 4.6 KB, {threads} thread{'s' * (threads > 1)}"


@pytest.mark.parametrize("threads", [1, 2])
def bench_ours(figure: Figure, folder: Folder, output: Path, threads: int) -> None:
    """Pack the files in the order of their names, with the index."""
    out = output / "out.tar"
    figure.of(task_of(threads), items=len(folder.paths), unit="file", to_reach=TO_REACH)
    report = figure.take(
        lambda: blobpack.pack(folder.path, out, threads=threads),
        rounds=ROUNDS,
        # not in the figure: freeing the pages of the blob of the round before takes time, too
        setup=lambda: out.unlink(missing_ok=True),
    )
    assert report.members == len(folder.paths)


def bench_plain_c(figure: Figure, folder: Folder, output: Path, floors: Floors) -> None:
    """Open, read and close each file of a list in plain C, into a buffer that is written at 4 MB.

    It gets the list of files; blobpack has to find them.
    """
    paths = output / "paths"
    paths.write_text("".join(f"{path}\n" for path in folder.paths))
    figure.of(task_of(1), "plain C, files listed", items=len(folder.paths), unit="file")
    figure.take_timed(lambda: floors("pack", folder.path, paths, output / "out.tar", rounds=ROUNDS))


def bench_gnu_tar(figure: Figure, folder: Folder, output: Path) -> None:
    """Pack with GNU tar, in the order in which it finds the files, and without an index."""
    out = output / "out.tar"
    command = [gnu_tar(), "-cf", out, "-C", folder.path, "."]
    figure.of(task_of(2), "GNU tar -c", items=len(folder.paths), unit="file")
    figure.take(
        lambda: subprocess.run(command, check=True),
        rounds=5,
        setup=lambda: out.unlink(missing_ok=True),
    )


@pytest.fixture
def disk(data: DataSets) -> Iterator[Path]:
    """Make a folder on the disk that holds the data."""
    with tempfile.TemporaryDirectory(dir=data.root) as folder:
        yield Path(folder)


def bench_on_disk(figure: Figure, folder: Folder, disk: Path) -> None:
    """Pack onto a disk; pack waits until everything is there."""
    out = disk / "out.tar"
    figure.of(ON_DISK, items=len(folder.paths), unit="file")
    figure.take(
        lambda: blobpack.pack(folder.path, out), rounds=ROUNDS, setup=lambda: _clear_disk(out)
    )


def bench_gnu_tar_on_disk(figure: Figure, folder: Folder, disk: Path) -> None:
    """Pack onto a disk with GNU tar, and wait until everything is there."""
    out = disk / "out.tar"
    command = [gnu_tar(), "-cf", out, "-C", folder.path, "."]

    def pack_and_sync() -> None:
        subprocess.run(command, check=True)
        with out.open("r+b") as file:
            os.fsync(file.fileno())

    figure.of(ON_DISK, "GNU tar -c, fsync", items=len(folder.paths), unit="file")
    figure.take(pack_and_sync, rounds=ROUNDS, setup=lambda: _clear_disk(out))


def _clear_disk(out: Path) -> None:
    """Remove the blob of the round before, and let the disk come to rest."""
    out.unlink(missing_ok=True)
    os.sync()


def bench_tarfile(figure: Figure, folder: Folder, output: Path) -> None:
    """Pack with Python's tarfile and its defaults, without an index."""
    out = output / "out.tar"
    figure.of(task_of(2), "tarfile", items=len(folder.paths), unit="file")
    figure.take(
        lambda: pack_with_tarfile(folder, out), rounds=3, setup=lambda: out.unlink(missing_ok=True)
    )


def pack_with_tarfile(folder: Folder, out: Path) -> None:
    """Write a tar of the folder."""
    with tarfile.open(out, "w") as archive:
        archive.add(folder.path, arcname=".")
