"""Import: what a process pays before its first call, beyond starting Python."""

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
    """Start Python, import one module, and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def beyond_start(module: str, rounds: int) -> list[float]:
    """Import a module and one that is there anyway, by turns: the difference of each round."""
    return [seconds_of(module) - seconds_of("sys") for _ in range(rounds + 1)][1:]


@pytest.mark.parametrize("module", ["blobpack", "tarfile", "numpy"])
def bench_import(figure: Figure, data: DataSets, module: str) -> None:
    """Import ours, and two for scale."""
    figure.of(TASK, module, items=1, unit="process")
    figure.take_timed(lambda: beyond_start(module, data.rounds(ROUNDS)))
