"""Offsets files: write and read them, beside pickle, which the Supervisely SDK uses, and beside the SDK itself."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import blobpack
from blobpack._native.pickles import encode_batch
from blobpack.index.tables.offsets import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Figure
    from data import DataSets, Tar

    from blobpack import Index

SDK_SCRIPT = Path(__file__).with_name("sdk.py")
MODULE = "supervisely.api.image_api"


@dataclass
class BlobImageInfo:
    """The attributes that the class of the SDK has for each row."""

    name: str
    offset_start: int
    offset_end: int


# pickle writes the name of the module: with this one, the bytes are those of the SDK
BlobImageInfo.__module__ = MODULE


@pytest.fixture(scope="module", autouse=True)
def stand_in() -> Iterator[None]:
    """Put the class where pickle looks for the class of the SDK."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("supervisely", "supervisely.api", MODULE):
            patch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[MODULE].BlobImageInfo = BlobImageInfo  # type: ignore[attr-defined]
        yield


@pytest.fixture(scope="module")
def index(data: DataSets) -> Index:
    """Scan (b)."""
    return blobpack.scan(data.tar("b_gnu").path)


def bench_write(figure: Figure, index: Index, output: Path) -> None:
    """Write all rows to a file."""
    figure.of("offsets: write a file", items=len(index), unit="row")
    assert figure.take(
        lambda: blobpack.write_offsets(index, output / "a_offsets.pkl"), rounds=7
    ) == len(index)


def bench_write_with_pickle(figure: Figure, index: Index, output: Path) -> None:
    """Write the rows with pickle, from objects that exist already."""
    rows = [BlobImageInfo(member.name, member.offset_start, member.offset_end) for member in index]
    path = output / "a_offsets.pkl"
    figure.of("offsets: write a file", "pickle", items=len(index), unit="row")
    figure.take(lambda: write_with_pickle(rows, path), rounds=3)
    # only equal bytes are equal work
    ours = output / "b_offsets.pkl"
    blobpack.write_offsets(index, ours)
    assert ours.read_bytes() == path.read_bytes()


def write_with_pickle(rows: list[BlobImageInfo], path: Path) -> None:
    """Dump batch by batch, as the SDK does."""
    with path.open("wb") as file:
        for first in range(0, len(rows), BATCH_ROWS):
            pickle.dump(rows[first : first + BATCH_ROWS], file, protocol=4)


def bench_encode(figure: Figure, index: Index) -> None:
    """Encode all rows, batch by batch, and drop the bytes: the time without the file."""
    names, bounds = index._columns.names, index._columns.name_bounds
    starts, ends = memoryview(index.offset_start), memoryview(index.offset_end)

    def encode() -> None:
        for first in range(0, len(index), BATCH_ROWS):
            last = min(first + BATCH_ROWS, len(index))
            encode_batch(names, bounds[:-1], bounds[1:], starts, ends, first, last)

    figure.of("offsets: encode", items=len(index), unit="row")
    figure.take(encode, rounds=7)


def bench_read(figure: Figure, index: Index, output: Path) -> None:
    """Read an offsets file into an index."""
    path = output / "a_offsets.pkl"
    blobpack.write_offsets(index, path)
    figure.of("offsets: read a file", items=len(index), unit="row")
    assert figure.take(lambda: blobpack.read_offsets(path), rounds=7) == index


def bench_read_with_pickle(figure: Figure, index: Index, output: Path) -> None:
    """Read an offsets file with pickle, and drop each batch."""
    path = output / "a_offsets.pkl"
    blobpack.write_offsets(index, path)
    figure.of("offsets: read a file", "pickle", items=len(index), unit="row")
    assert figure.take(lambda: count_with_pickle(path), rounds=3) == len(index)


def count_with_pickle(path: Path) -> int:
    """Load batch by batch."""
    count = 0
    with path.open("rb") as file:
        while file.peek(1):
            count += len(pickle.load(file))
    return count


# The SDK itself


@pytest.fixture
def sdk(request: pytest.FixtureRequest) -> str:
    """Return the Python that has the SDK, or skip the bench."""
    python = request.config.getoption("--sdk-python")
    if not python:
        pytest.skip(
            "the Supervisely SDK is not installed: scripts/bench --sdk installs it (840 MB)"
        )
    return python


def timed_by_sdk(python: str, *arguments: object) -> list[float]:
    """Run the SDK in a process of its own, and return the seconds of each round, without its import."""
    command = [python, str(SDK_SCRIPT), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def tar(data: DataSets) -> Tar:
    """Return the tar that the SDK scans."""
    return data.tar("a")


def bench_from_tar(figure: Figure, tar: Tar, output: Path) -> None:
    """Scan a tar and write its offsets."""
    path = output / "a_offsets.pkl"
    figure.of(f"offsets: from a tar {tar.label}", items=tar.members, unit="member")
    written = figure.take(
        lambda: blobpack.write_offsets(blobpack.scan(tar.path), path, "basename"), rounds=15
    )
    assert written == tar.members


def bench_from_tar_with_sdk(figure: Figure, tar: Tar, output: Path, sdk: str) -> None:
    """Scan the tar and write its offsets with the SDK."""
    figure.of(
        f"offsets: from a tar {tar.label}", "Supervisely SDK", items=tar.members, unit="member"
    )
    figure.take_timed(
        lambda: [s / tar.members for s in timed_by_sdk(sdk, "write", tar.path, output, 3)]
    )


def bench_read_with_sdk(figure: Figure, index: Index, output: Path, sdk: str) -> None:
    """Read an offsets file with the SDK."""
    path = output / "a_offsets.pkl"
    blobpack.write_offsets(index, path)
    figure.of("offsets: read a file", "Supervisely SDK", items=len(index), unit="row")
    figure.take_timed(lambda: [s / len(index) for s in timed_by_sdk(sdk, "read", path, output, 3)])
