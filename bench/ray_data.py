"""Ray Data: .venv-ray/bin/python bench/ray_data.py [--images N] [--rounds N] [--json FILE]

It prints the table of docs/guides/ray.md: read_blobs and write_blobs beside Ray's own read_webdataset, read_images,
read_binary_files and write_webdataset, on two processors. All read the same JPEGs, from tars or from files, which are in
memory. They take turns in each round; each figure is the best of all rounds, without the first, in which workers start.
Processor time is that of this process and all that it has started.

`scripts/test --tools ray` makes .venv-ray.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from decoding import photo

import blobpack
from blobpack.integrations.ray import read_blobs, write_blobs

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 96  # photo() makes 3.6 KB of it, on average
RESIZED = (64, 64)  # all images of a run must fit into the object store, or it writes them to disk
BLOBS = 6
CLASSES = 10
PHOTOS = 200
SEED = 20260101
OBJECT_STORE_BYTES = 400 << 20


def make_sources(folder: Path, images: int) -> None:
    """Write the images as blobs in shards/, and as files in imgs/."""
    rng = random.Random(SEED)
    photos = [photo(rng, SIDE) for _ in range(PHOTOS)]
    names = [f"{i % CLASSES}/{i:06}.jpg" for i in range(images)]
    payloads = {name: photos[i % PHOTOS] for i, name in enumerate(names)}
    total = sum(map(len, payloads.values())) + 1024 * images
    blobpack.pack_shards(payloads, folder / "shards", total // BLOBS)
    for name, payload in payloads.items():
        path = folder / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)


def tars(folder: Path) -> list[str]:
    """Return the paths of the blobs, which are tars."""
    return sorted(map(str, (folder / "shards").glob("*.tar")))


def count(dataset: ray.data.Dataset) -> int:
    """Read all of a dataset."""
    return dataset.materialize().count()


def blobs_of(folder: Path, **options: Any) -> ray.data.Dataset:
    """Make a dataset of the collection."""
    return read_blobs(folder / "shards", **options)


def webdataset_of(folder: Path) -> ray.data.Dataset:
    """Make a dataset of the same tars."""
    # decoder=None: payloads stay bytes
    return ray.data.read_webdataset(tars(folder), decoder=None)


def write_ours(folder: Path) -> int:
    """Copy the collection."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    return write_blobs(blobs_of(folder), folder / "out", shard_bytes=32 << 20).members


def write_theirs(folder: Path) -> int:
    """Copy the collection into tars."""
    shutil.rmtree(folder / "out", ignore_errors=True)

    def sample(row: dict[str, Any]) -> dict[str, Any]:
        return {"__key__": row["name"].removesuffix(".jpg"), "jpg": row["bytes"]}

    blobs_of(folder).map(sample).write_webdataset(str(folder / "out"), encoder=None)
    return sum(1 for path in (folder / "out").iterdir() if path.suffix == ".tar") and -1


# task → what does it; -1 stands for a number of rows that is not known
TASKS: dict[str, dict[str, Callable[[Path], int]]] = {
    "read all payloads": {
        "read_blobs": lambda folder: count(blobs_of(folder)),
        "read_webdataset": lambda folder: count(webdataset_of(folder)),
        "read_binary_files": lambda folder: count(
            ray.data.read_binary_files(str(folder / "imgs"), include_paths=True)
        ),
    },
    "read and decode all images": {
        "read_blobs": lambda folder: count(
            blobs_of(folder, columns=["name", "image"], size=RESIZED)
        ),
        "read_images": lambda folder: count(
            ray.data.read_images(str(folder / "imgs"), size=RESIZED, mode="RGB")
        ),
    },
    "read one class of ten": {
        "read_blobs": lambda folder: count(blobs_of(folder, where="3/*")),
        "read_webdataset": lambda folder: count(
            webdataset_of(folder).filter(lambda row: row["__key__"].startswith("3/"))
        ),
    },
    "take(1)": {
        "read_blobs": lambda folder: len(blobs_of(folder).take(1)),
        "read_webdataset": lambda folder: len(webdataset_of(folder).take(1)),
        "read_binary_files": lambda folder: len(
            ray.data.read_binary_files(str(folder / "imgs")).take(1)
        ),
    },
    "count()": {
        "read_blobs": lambda folder: blobs_of(folder).count(),
        "read_webdataset": lambda folder: webdataset_of(folder).count(),
    },
    "write": {"write_blobs": write_ours, "write_webdataset": write_theirs},
}


def cpu_s() -> float:
    """Return the processor time of this process, and of all that it has started and that run now."""
    ticks, parents = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
    ours, new = {os.getpid()}, {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - ours
        ours |= new
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[Path], int], folder: Path) -> tuple[float, float, int]:
    """Return the seconds and the processor seconds that work takes, and the number of rows."""
    began, cpu = time.perf_counter(), cpu_s()
    rows = work(folder)
    return time.perf_counter() - began, cpu_s() - cpu, rows


def measure(folder: Path, rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Measure all; return seconds and processor seconds of each system at each task."""
    best: dict[str, dict[str, tuple[float, float]]] = {task: {} for task in TASKS}
    for number in range(rounds + 1):
        for task, systems in TASKS.items():
            rows = set()
            for system, work in systems.items():
                seconds, cpu, found = timed(work, folder)
                rows |= {found} - {-1}
                if number:
                    before = best[task].get(system, (seconds, cpu))
                    best[task][system] = min(seconds, before[0]), min(cpu, before[1])
            assert len(rows) == 1, f"{task}: {rows} rows"
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    ray.init(
        num_cpus=2,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",  # nothing listens on another address
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sources(folder, asked.images)
        best = measure(folder, asked.rounds)
    print("| | system | seconds | processor seconds |\n|---|---|---|---|")
    for task, systems in best.items():
        for system, (seconds, cpu) in systems.items():
            print(f"| {task} | `{system}` | {seconds:.2f} | {cpu:.2f} |")
    if asked.json:
        asked.json.write_text(json.dumps(best))


if __name__ == "__main__":
    main()
