"""Measure an import of 10,000 images of 4 KB into Pixano 0.8, of files and of a blob, in one run.

    scripts/test --tools pixano-08                                       # makes the environment
    LANCE_LOG=error PYTHONPATH=tests .venv-pixano-08/bin/python tests/tools/pixano-08/bench.py [IMAGES]

Each image has one box and one key point annotation. Of three runs of each way, in turn, the median is printed. What the files
cost before, as downloading or unpacking them, is a row of its own.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pixano_library as library
from PIL import Image
from pixano.datasets.io import ImportSpec, import_dataset

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 3
SCHEMA = {
    "views": {"image": "image"},
    "record": {"attrs": {"image_type": "str"}},
    "entity": {"attrs": {"category": "str"}},
    "annotations": ["bbox", "keypoint"],
}


def noise(number: int) -> bytes:
    """A JPEG of about 4 KB."""
    file = io.BytesIO()
    Image.effect_noise((72, 64), 40 + number % 40).save(file, "JPEG", quality=90)
    return file.getvalue()


def make(folder: Path, count: int) -> Path:
    members = {f"all/{number:06}.jpg": noise(number) for number in range(count)}
    lines = [library.HEADER_08] + [
        library.line_08(1) | {"views": {"image": name.rpartition("/")[2]}} for name in members
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    blobpack.pack(members | {"all/metadata.jsonl": text}, folder / "out.tar", all_files=True)
    return folder / "out.tar"


def ways(folder: Path, blob: Path) -> dict[str, Callable[[], object]]:
    files = folder / "files"

    def unpack() -> None:
        shutil.rmtree(files, ignore_errors=True)
        with tarfile.open(blob) as tar:
            tar.extractall(files, filter="data")

    def imported(source: Path, **fields: object) -> None:
        shutil.rmtree(folder / "data", ignore_errors=True)
        given = {"dataset": {"name": "Bench"}, "schema": SCHEMA, **fields}
        import_dataset(source, folder / "data", ImportSpec.model_validate(given))

    media = {"mode": "uri", "uri_prefix": "http://127.0.0.1:8000/b/out"}
    return {
        "unpack the blob": unpack,
        "import the files": lambda: imported(files, format="pixano_jsonl"),
        "import the blob, images stored": lambda: imported(blob, format="blobpack"),
        "import the blob, images by URL": lambda: imported(blob, format="blobpack", media=media),
    }


def main() -> None:
    logging.disable(logging.WARNING)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = ways(folder, make(folder, count))
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        for _ in range(RUNS):
            for step, run in steps.items():
                began = time.perf_counter()
                run()
                seconds[step].append(time.perf_counter() - began)
    for step, taken in seconds.items():
        print(f"{step:34}{statistics.median(taken):8.2f} s")


if __name__ == "__main__":
    main()
