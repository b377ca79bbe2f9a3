"""Merge, subset and append, beside plain copies of as many bytes, and beside GNU tar."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from bench_scan import gnu_tar
from data import warm

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Figure
    from data import DataSets, Folder

ROUNDS = 3
APPENDED = 1000
MERGE = "merge two halves of (b)"
SUBSET = "subset, every other member of (b)"
APPEND = f"append {APPENDED:,} files of (a) to (b)"


@pytest.fixture(scope="module")
def blob(data: DataSets) -> Iterator[blobpack.Blob]:
    """Open (b)."""
    path = data.tar("b_gnu").path
    with blobpack.open_blob(path, blobpack.scan(path)) as opened:
        yield opened


@pytest.fixture(scope="module")
def halves(blob: blobpack.Blob, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make two blobs, each with half of the members of (b) and its index inside."""
    folder, half = tmp_path_factory.mktemp("halves"), len(blob.index) // 2
    paths = [folder / "one.tar", folder / "other.tar"]
    for path, rows in zip(paths, ((0, half), (half, len(blob.index))), strict=True):
        blobpack.subset(blob, path, blob.index[slice(*rows)])
        warm(path)
    return paths


def bench_merge(figure: Figure, blob: blobpack.Blob, halves: list[Path], output: Path) -> None:
    """Merge two blobs; names are compared, and the index is written."""
    figure.of(MERGE, items=len(blob.index), unit="member")
    out = output / "out.tar"
    report = figure.take(
        lambda: blobpack.merge(halves, out),
        rounds=ROUNDS,
        setup=lambda: out.unlink(missing_ok=True),
    )
    assert report.members == len(blob.index)


def bench_cat(figure: Figure, blob: blobpack.Blob, halves: list[Path], output: Path) -> None:
    """Concatenate the two files with cat: the floor of a merge that copies everything."""
    figure.of(MERGE, "cat", items=len(blob.index), unit="member")
    out = output / "out.tar"

    def concatenate() -> None:
        with out.open("wb") as file:
            subprocess.run(["cat", *halves], stdout=file, check=True)

    figure.take(concatenate, rounds=ROUNDS, setup=lambda: out.unlink(missing_ok=True))


def bench_subset(figure: Figure, blob: blobpack.Blob, output: Path) -> None:
    """Copy every other member, so that no two of them can be copied as one range; the index is written."""
    out = output / "out.tar"
    half = blob.index[::2]
    figure.of(SUBSET, items=len(half), unit="member", to_reach=2.0)
    report = figure.take(
        lambda: blobpack.subset(blob, out, half),
        rounds=ROUNDS,
        setup=lambda: out.unlink(missing_ok=True),
    )
    assert report.members == len(half)


def bench_copy_of_the_subset(figure: Figure, blob: blobpack.Blob, output: Path) -> None:
    """Copy a blob of as many bytes as one file."""
    made, out = output / "made.tar", output / "out.tar"
    half = blob.index[::2]
    blobpack.subset(blob, made, half)
    figure.of(SUBSET, "copy of the result", items=len(half), unit="member")
    figure.take(
        lambda: shutil.copyfile(made, out),
        rounds=ROUNDS,
        setup=lambda: out.unlink(missing_ok=True),
    )


def bench_append(figure: Figure, blob: blobpack.Blob, folder: Folder, output: Path) -> None:
    """Append files; names are compared, and five steps wait for the disk, the index of all members among them."""
    out = output / "out.tar"
    blobpack.merge([blob], out)
    files = [folder.path / path for path in folder.paths[:APPENDED]]
    figure.of(APPEND, items=1, unit="append")
    # each round appends to the blob of the round before, so the names are there already
    report = figure.take(lambda: blobpack.append(out, files, duplicates="last"), rounds=ROUNDS)
    assert report.appended == len(files)


def bench_gnu_tar_append(figure: Figure, blob: blobpack.Blob, folder: Folder, output: Path) -> None:
    """Append the files with GNU tar, which reads all headers first."""
    out = output / "out.tar"
    shutil.copyfile(blob.url, out)
    names = output / "names"
    names.write_text("".join(f"{path}\n" for path in folder.paths[:APPENDED]))
    command = [gnu_tar(), "-rf", out, "-C", folder.path, "-T", names]
    figure.of(APPEND, "GNU tar -r", items=1, unit="append")
    figure.take(lambda: subprocess.run(command, check=True), rounds=ROUNDS)


def bench_write_the_index(figure: Figure, blob: blobpack.Blob, output: Path) -> None:
    """Write the index of all members alone, which every append has to do."""
    index = blobpack.Index._from_columns(blob.index._columns)
    figure.of(APPEND, "writing the index alone", items=1, unit="append")
    figure.take(lambda: index.save(output / "index"), rounds=ROUNDS)
