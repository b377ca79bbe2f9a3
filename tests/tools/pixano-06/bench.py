"""Measure a build of 3,000 images of 4 KB with Pixano 0.6, of files and of a blob, in one run.

    scripts/test --tools pixano-06                                       # makes the environment
    LANCE_LOG=error PYTHONPATH=tests .venv-pixano-06/bin/python tests/tools/pixano-06/bench.py [IMAGES]

Each image has one box and one key point annotation. Of three runs of each way, in turn, the median is printed. What the files
cost before, as downloading or unpacking them, is a row of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixano_library as library
from PIL import Image
from pixano.datasets.builders import ImageFolderBuilder
from pixano_items import HealthDatasetItem, info

import blobpack
from blobpack.integrations.pixano import BlobFolderBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 3
BUILD = {"mode": "create", "flush_every_n_samples": 1024, "check_integrity": "none"}


def noise(number: int) -> bytes:
    """A JPEG of about 4 KB."""
    file = io.BytesIO()
    Image.effect_noise((72, 64), 40 + number % 40).save(file, "JPEG", quality=90)
    return file.getvalue()


def make(folder: Path, count: int) -> Path:
    members = {f"all/{number:06}.jpg": noise(number) for number in range(count)}
    lines = [library.line_06(1) | {"image": name.rpartition("/")[2]} for name in members]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    blobpack.pack(members | {"all/metadata.jsonl": text}, folder / "out.tar", all_files=True)
    return folder / "out.tar"


def ways(folder: Path, blob: Path) -> dict[str, Callable[[], object]]:
    media = folder / "media"
    options: dict[str, Any] = {"info": info(), "dataset_item": HealthDatasetItem}

    def unpack() -> None:
        shutil.rmtree(media, ignore_errors=True)
        with tarfile.open(blob) as tar:
            tar.extractall(media / "out", filter="data")

    def build_files() -> None:
        shutil.rmtree(folder / "library", ignore_errors=True)
        ImageFolderBuilder(media, folder / "library", dataset_path="out", **options).build(**BUILD)

    def build_blob() -> None:
        shutil.rmtree(folder / "library", ignore_errors=True)
        BlobFolderBuilder(blob, folder / "library" / "out", **options).build(**BUILD)

    return {
        "unpack the blob": unpack,
        "build of files": build_files,
        "build of the blob": build_blob,
    }


def main() -> None:
    logging.disable(logging.WARNING)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = ways(folder, make(folder, count))
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        for _ in range(RUNS):
            for step, run in steps.items():
                began = time.perf_counter()
                # the progress bars of Pixano
                with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                    run()
                seconds[step].append(time.perf_counter() - began)
    for step, taken in seconds.items():
        print(f"{step:20}{statistics.median(taken):8.2f} s")


if __name__ == "__main__":
    main()
