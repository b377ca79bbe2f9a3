"""A pytest plugin: it records which mutants each test reaches.

It is loaded with -p, before any other file of the tests is imported, because mutated code maps its record when it is
imported. Each worker process of xdist has a record of its own.
"""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = os.environ.get("BLOBPACK_MUTANTS_RECORD")  # a folder, and the number of mutants
_reached: mmap.mmap | None = None
_report: Path | None = None

if RECORD is not None:
    _folder, _count = RECORD.rsplit(":", 1)
    _worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    _map = Path(_folder, f"{_worker}.map")
    _map.write_bytes(bytes(int(_count)))
    os.environ["BLOBPACK_MUTANTS_REACHED"] = str(_map)
    _report = Path(_folder, f"{_worker}.jsonl")
    with _map.open("r+b") as _file:
        _reached = mmap.mmap(_file.fileno(), 0)


def _take() -> list[int]:
    """Return the mutants that were reached since the last call."""
    assert _reached is not None
    found = [number for number, flag in enumerate(_reached[:]) if flag]
    _reached[:] = bytes(len(_reached))
    return found


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record the mutants that a test reaches, with its fixtures."""
    if _reached is None:
        yield
        return
    # what the import of test modules reached belongs to no test
    _take()
    item.stash[_failed] = False
    yield
    line = {"test": item.nodeid, "failed": item.stash[_failed], "reached": _take()}
    line["seconds"] = item.stash.get(_seconds, 0.0)
    assert _report is not None
    with _report.open("a") as file:
        file.write(json.dumps(line) + "\n")


_failed = pytest.StashKey[bool]()
_seconds = pytest.StashKey[float]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Record how long a test took, and whether it failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    item.stash[_seconds] = item.stash.get(_seconds, 0.0) + report.duration
    if report.failed:
        item.stash[_failed] = True
