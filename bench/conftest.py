"""Fixtures of all benches: the data sets, the floors in plain C, and the figure that a bench takes.

Each bench measures one system at one task. One system of a task is blobpack; the others are peers, or floors in plain
C. table.py sets the systems of a task side by side.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from data import DataSets, Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    Result = TypeVar("Result")

OURS = "blobpack"
SOURCE = Path(__file__).with_name("floors.c")
# a file system in memory, on Linux
MEMORY = Path("/dev/shm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of scripts/bench."""
    sizes = parser.getgroup("sizes").addoption
    sizes(
        "--quick",
        dest="size",
        action="store_const",
        const="quick",
        default="full",
        help="small data sets: a minute",
    )
    sizes(
        "--tiny",
        dest="size",
        action="store_const",
        const="tiny",
        help="the smallest data sets, one round: shows that each row works; the times mean nothing",
    )
    parser.addoption("--sdk-python", help="a Python that has the Supervisely SDK")


@pytest.fixture(scope="session")
def data(request: pytest.FixtureRequest) -> DataSets:
    """Return the data sets; BLOBPACK_BENCH_DIR says where they are kept."""
    root = Path(
        os.environ.get("BLOBPACK_BENCH_DIR") or Path(tempfile.gettempdir(), "blobpack-bench")
    )
    root.mkdir(parents=True, exist_ok=True)
    return DataSets(root, request.config.getoption("size"))


@pytest.fixture(scope="session")
def folder(data: DataSets) -> Folder:
    """Return the files of (a)."""
    return data.folder()


@pytest.fixture
def output() -> Iterator[Path]:
    """Make a folder, in memory if possible, so that no disk is measured."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


class Floors:
    """The compiled program floors.c, whose parts do a task in plain C."""

    def __init__(self, program: Path, data: DataSets) -> None:
        self.program = program
        self.data = data

    def __call__(self, *arguments: object, rounds: int) -> list[float]:
        """Run one part of the program, and return the seconds an item of each round."""
        command = [self.program, *map(str, arguments), str(self.data.rounds(rounds))]
        lines = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        # the program prints nanoseconds an item, a line for each round
        return [float(line.split()[0]) / 1e9 for line in lines]


@pytest.fixture(scope="session")
def floors(data: DataSets) -> Floors:
    """Compile floors.c; without a compiler, skip the benches that need it."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("plain C needs a compiler, and there is no gcc")
    program = data.root / "floors"
    subprocess.run([compiler, "-O3", "-pthread", "-o", program, SOURCE], check=True)
    return Floors(program, data)


class Figure:
    """One system at one task: half a row of the table."""

    def __init__(self, benchmark: BenchmarkFixture, data: DataSets) -> None:
        self._benchmark = benchmark
        self._data = data

    def of(
        self, task: str, system: str = OURS, *, items: int, unit: str, to_reach: float | None = None
    ) -> Figure:
        """Describe the figure.

        Args:
            task: What is compared.
            system: The system that is measured: blobpack, a peer or plain C.
            items: Number of items that one round handles.
            unit: Name of one item.
            to_reach: The aim for blobpack, microseconds an item.
        """
        self._benchmark.group = task
        self._benchmark.extra_info.update(system=system, items=items, unit=unit, to_reach=to_reach)
        return self

    def take(
        self, work: Callable[[], Result], *, rounds: int, setup: Callable[[], object] | None = None
    ) -> Result:
        """Time the work, and return its result. Several rounds follow one that is not counted, which fills caches."""

        # pytest-benchmark passes what a setup returns to the work: this one returns nothing
        def prepare() -> None:
            if setup:
                setup()

        rounds = self._data.rounds(rounds)
        return self._benchmark.pedantic(
            work, setup=prepare, rounds=rounds, warmup_rounds=int(rounds > 1)
        )

    def note(self, **counts: int) -> None:
        """Keep counts with the times, such as requests and bytes."""
        self._benchmark.extra_info.update(counts)

    def take_timed(self, work: Callable[[], list[float]]) -> None:
        """Record times that the work has measured itself, as seconds an item of each round."""
        seconds = self._benchmark.pedantic(work, rounds=1)
        self._benchmark.extra_info["seconds_an_item"] = statistics.median(seconds)


@pytest.fixture
def figure(benchmark: BenchmarkFixture, data: DataSets) -> Figure:
    """Return the figure that this bench takes."""
    return Figure(benchmark, data)
