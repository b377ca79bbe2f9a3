"""Import blobpack: the time before the first call of a process, without the time to start Python."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Figure
    from data import DataSets

ROUNDS = 21
TASK = "import"


def seconds_of(module: str) -> float:
    """Time a Python process that imports one module and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def beyond_start(module: str, rounds: int) -> list[float]:
    """Return the time of each round to import a module, without the start of Python.

    The difference is taken within a round, because the start of a process drifts with the load of the machine. The first
    round is dropped: it may compile and read from disk.
    """
    return [seconds_of(module) - seconds_of("sys") for _ in range(rounds + 1)][1:]


@pytest.mark.parametrize("module", ["blobpack", "tarfile", "numpy"])
def bench_import(figure: Figure, data: DataSets, module: str) -> None:
    """Import blobpack, and two other modules for scale."""
    figure.of(TASK, module, items=1, unit="process")
    figure.take_timed(lambda: beyond_start(module, data.rounds(ROUNDS)))
