"""Processor time to read and decode images: .venv/bin/python bench/decoding.py [--sides PX...] [--kind KIND] [--images N]
[--rounds N] [--json FILE]

Without arguments it prints the table of docs/speed.md. `read_images` reads a local blob, beside what decodes the payloads alone, from memory:
simplejpeg, and Pillow. With PyTorch (`scripts/test --tools torch` makes .venv-torch, whose Python runs this file, too), a
DataLoader without workers decodes the same payloads by Pillow. Systems take turns in each round; each figure is the least of
all rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIDES = (64, 128, 224, 512)
RESIZED = (112, 112)  # what a 512-pixel image is reduced to
REDUCED_SIDE = 512
KINDS = ("colour", "grey", "turned")
OURS = "blobpack"
INTO = "blobpack, out="


class Took(NamedTuple):
    """What one round took for each image, in microseconds."""

    cpu_us: float
    wall_us: float


def photo(rng: random.Random, side: int, kind: str = "colour") -> bytes:
    """Encode a picture that has detail at several scales, as a photograph has; quality 90.

    Args:
        rng: Source of the picture.
        side: Width and height.
        kind: "colour"; "grey"; or "turned", a colour picture that its EXIF turns by 90 degrees.
    """
    sides = (side, side)
    picture = Image.new("RGB", sides)
    for shrink, weight in ((32, 1.0), (8, 0.5), (2, 0.15)):
        small = -(-side // shrink)
        noise = Image.frombytes("RGB", (small, small), rng.randbytes(3 * small * small))
        picture = Image.blend(picture, noise.resize(sides, Image.Resampling.BICUBIC), weight)
    file = io.BytesIO()
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    picture.convert("L" if kind == "grey" else "RGB").save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def by_pillow(payload: bytes) -> np.ndarray:
    """Decode as a program in plain Pillow does."""
    with Image.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def reduced_by_pillow(payload: bytes) -> np.ndarray:
    """Decode as read_images(size=…) promises."""
    with Image.open(io.BytesIO(payload)) as image:
        image.draft(None, RESIZED[::-1])
        resized = image.convert("RGB").resize(RESIZED[::-1], Image.Resampling.BILINEAR)
        return np.asarray(resized)


def exhaust(images: Iterator[object]) -> None:
    """Take and drop all images."""
    for _ in images:
        pass


def take_time(work: Callable[[], object], images: int) -> Took:
    """Run work once, and return what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(
        (time.process_time() - cpu) / images * 1e6, (time.perf_counter() - wall) / images * 1e6
    )


def with_data_loader(payloads: list[bytes]) -> Callable[[], None]:
    """Return work that decodes by Pillow in a DataLoader without workers, in batches of 64."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)  # more of them would only wait for each other

    class Payloads:
        def __len__(self) -> int:
            return len(payloads)

        def __getitem__(self, i: int) -> np.ndarray:
            return by_pillow(payloads[i]).copy()  # PyTorch warns of arrays that are read-only

    return lambda: exhaust(iter(DataLoader(Payloads(), batch_size=64)))


def systems(blob: blobpack.Blob, payloads: list[bytes], side: int) -> dict[str, Callable[[], None]]:
    """Return the work of each system, by its name."""
    rows = range(len(payloads))
    batch = np.empty((len(payloads), side, side, 3), np.uint8)
    works = {
        OURS: lambda: exhaust(blobpack.read_images(blob, rows)),
        INTO: lambda: exhaust(blobpack.read_images(blob, rows, out=batch)),
        "simplejpeg alone": lambda: exhaust(map(simplejpeg.decode_jpeg, payloads)),
        "Pillow alone": lambda: exhaust(map(by_pillow, payloads)),
    }
    if importlib.util.find_spec("torch"):
        works["DataLoader, Pillow"] = with_data_loader(payloads)
    if side == REDUCED_SIDE:
        works["blobpack, size="] = lambda: exhaust(blobpack.read_images(blob, rows, size=RESIZED))
        works["Pillow, draft and resize"] = lambda: exhaust(map(reduced_by_pillow, payloads))
    return works


def least(rounds: list[Took]) -> Took:
    """Return the least of each figure."""
    return Took(*map(min, zip(*rounds, strict=True)))


def measure(folder: Path, side: int, asked: argparse.Namespace) -> dict[str, Took]:
    """Measure all systems at one size, and blobpack on one processor, too."""
    rng = random.Random(side)
    payloads = [photo(rng, side, asked.kind) for _ in range(asked.images)]
    blobpack.pack(
        {f"{i:06}.jpg": payload for i, payload in enumerate(payloads)}, folder / "o.tar", force=True
    )
    took: dict[str, list[Took]] = {}
    processors = os.sched_getaffinity(0)
    with blobpack.open_blob(folder / "o.tar") as blob:
        works = systems(blob, payloads, side)
        for _ in range(asked.rounds + 1):  # the first round fills caches
            for name, work in works.items():
                took.setdefault(name, []).append(take_time(work, asked.images))
            os.sched_setaffinity(0, {min(processors)})
            for name in (OURS, INTO):
                alone = took.setdefault(f"{name}, 1 processor", [])
                alone.append(take_time(works[name], asked.images))
            os.sched_setaffinity(0, processors)
    return {name: least(times[1:]) for name, times in took.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {side: measure(Path(folder), side, asked) for side in asked.sides}
    print("| CPU µs an image (elapsed µs) | " + " | ".join(f"{side} px" for side in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for name in dict.fromkeys(name for took in found.values() for name in took):
        cells = [took.get(name) for took in found.values()]
        shown = [f"{took.cpu_us:.0f} ({took.wall_us:.0f})" if took else "" for took in cells]
        print(f"| {name} | " + " | ".join(shown) + " |")
    if asked.json:
        asked.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
