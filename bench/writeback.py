"""Measure how much time a pack gains by starting to write to the disk early.

    .venv/bin/python bench/writeback.py FOLDER [--files N] [--rounds N]

`pack` calls sync_file_range(2) for each 8 MiB that it writes. This program packs files into FOLDER with these calls, without
them (a preloaded library replaces them by nothing), and with GNU tar and an fsync. The three take turns.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_BYTES = (2600, 6700)
JPEG = b"\xff\xd8\xff\xe0"
STUB = "int sync_file_range(int fd, long start, long size, unsigned flags) { return 0; }\n"
# the time of the pack alone, without that of starting Python and importing what a pack needs
PACK = """
import sys, time, blobpack
blobpack.pack({"a.png": b"warm"}, sys.argv[2], all_files=True, force=True)
began = time.perf_counter()
blobpack.pack(sys.argv[1], sys.argv[2], force=True)
print(time.perf_counter() - began)
"""


def make_files(folder: Path, count: int) -> None:
    """Write files like those of data set (a)."""
    rng = random.Random(20260101)
    for i in range(count):
        path = folder / f"{i // 1000:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG + rng.randbytes(rng.randrange(*FILE_BYTES)))


def stub(folder: Path) -> Path:
    """Compile the library that replaces sync_file_range."""
    source, library = folder / "stub.c", folder / "stub.so"
    source.write_text(STUB)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def pack_seconds(files: Path, out: Path, environment: dict[str, str]) -> float:
    """Pack with blobpack in a new process, and return the seconds that it took."""
    command = [sys.executable, "-c", PACK, files, out]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def tar_seconds(files: Path, out: Path) -> float:
    """Pack with GNU tar, and wait for the disk."""
    began = time.perf_counter()
    subprocess.run(["tar", "-cf", out, "-C", files, "."], check=True)
    with out.open("r+b") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def main() -> None:
    """Print the median of each system, and its ratios to the others in the same round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=11)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        files, out = Path(made, "files"), Path(made, "out.tar")
        make_files(files, asked.files)
        without = {"LD_PRELOAD": str(stub(Path(made)))}
        systems: dict[str, Callable[[], float]] = {
            "blobpack": lambda: pack_seconds(files, out, {}),
            "blobpack without sync_file_range": lambda: pack_seconds(files, out, without),
            "GNU tar and one fsync": lambda: tar_seconds(files, out),
        }
        took: dict[str, list[float]] = {name: [] for name in systems}
        for i in range(asked.rounds + 1):  # the first round fills caches
            # each system is the first one as often as the others
            for name in sorted(systems, key=lambda name: (list(systems).index(name) + i) % 3):
                out.unlink(missing_ok=True)
                os.sync()
                took[name].append(systems[name]())
        shutil.rmtree(files)
    ours = took["blobpack"][1:]
    for name, seconds in took.items():
        ratios = [mine / other for mine, other in zip(ours, seconds[1:], strict=True)]
        per_file = statistics.median(seconds[1:]) / asked.files * 1e6
        print(
            f"{name:34} {per_file:6.1f} µs a file; blobpack takes {statistics.median(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
