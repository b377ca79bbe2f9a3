"""Pack a folder of small files into one tar, with the index, beside plain C, GNU tar and tarfile."""

from __future__ import annotations

import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from bench_scan import gnu_tar

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Figure, Floors
    from data import Folder

TO_REACH = 6.0
ROUNDS = 9


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
