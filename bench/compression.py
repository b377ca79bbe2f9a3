"""Compare plain blobs with seekable zstd, for each kind of file: sizes, and the times of reads.

    python bench/compression.py FOLDER [--level 3] [--files 1000]

FOLDER holds photographs, in any format that Pillow reads. Crops of 128 by 128 pixels are cut from them, at places that
depend on a seed, and written as each kind, so that all kinds hold the same pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import blobpack
from blobpack.stores.zstd.store import SeekableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 20260101
SIDE = 128
READS = 500
ROUNDS = 5
SENSOR_BITS = 12
# standard deviation, in 4,096 levels: about that of a camera in daylight
SENSOR_NOISE = 12.0


def encoded(pixels: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image in one of Pillow's formats."""
    file = io.BytesIO()
    pixels.save(file, kind, **options)
    return file.getvalue()


def sensor(pixels: Image.Image) -> bytes:
    """Make the raw values of a camera's sensor: 12 bits in 16, with noise, without a header."""
    levels = np.asarray(pixels.convert("L"), np.float64) * (1 << SENSOR_BITS) / 256
    # the seed depends on the pixels, so that each run makes the same files
    noise = np.random.default_rng(levels.astype(np.int64).sum()).normal(
        0, SENSOR_NOISE, levels.shape
    )
    return (levels + noise).clip(0, (1 << SENSOR_BITS) - 1).astype("<u2").tobytes()


def mask(pixels: Image.Image) -> Image.Image:
    """Make a mask of eight classes by brightness, with smooth regions."""
    grey = pixels.convert("L").resize((16, 16)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return grey.point(lambda level: level // 32)


def annotation(pixels: Image.Image) -> bytes:
    """Make JSON of a few boxes and a polygon, as annotation tools write it."""
    chance = random.Random(pixels.tobytes())
    points = [[chance.randrange(SIDE), chance.randrange(SIDE)] for _ in range(12)]
    boxes = [
        {"classTitle": chance.choice(["cat", "dog", "bird"]), "geometryType": "rectangle", "tags": [],
         "points": {"exterior": [[chance.randrange(SIDE) for _ in range(2)] for _ in range(2)], "interior": []}}
        for _ in range(chance.randrange(1, 6))
    ]  # fmt: skip
    polygon = {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": points}}
    size = {"height": SIDE, "width": SIDE}
    return json.dumps({"description": "", "size": size, "objects": [*boxes, polygon]}).encode()


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 90": lambda pixels: encoded(pixels, "JPEG", quality=90),
    "PNG": lambda pixels: encoded(pixels, "PNG"),
    "WebP, lossy": lambda pixels: encoded(pixels, "WEBP"),
    "BMP, 24 bit": lambda pixels: encoded(pixels, "BMP"),
    "PNM, colour (PPM)": lambda pixels: encoded(pixels, "PPM"),
    "PNM, grey (PGM)": lambda pixels: encoded(pixels.convert("L"), "PPM"),
    "raw sensor, 12 of 16 bit": sensor,
    "mask as PNG": lambda pixels: encoded(mask(pixels), "PNG"),
    "mask as BMP": lambda pixels: encoded(mask(pixels), "BMP"),
    "JSON annotations": annotation,
}


def crops(folder: Path, count: int) -> list[Image.Image]:
    """Cut crops from photographs."""
    chance = random.Random(SEED)
    photographs = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
    cut = []
    for _ in range(count):
        photograph = chance.choice(photographs)
        x, y = (chance.randrange(side - SIDE) for side in photograph.size)
        cut.append(photograph.crop((x, y, x + SIDE, y + SIDE)))
    return cut


def members(
    pixels: list[Image.Image], encode: Callable[[Image.Image], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Yield a name and the encoded payload of each crop."""
    for i, crop in enumerate(pixels):
        yield f"crops/{i:06}", encode(crop)


def read_us(path: Path, *, keep_frames: bool) -> float:
    """Return the median time of a read by name, in microseconds.

    Args:
        path: The blob.
        keep_frames: Read all members in archive order, with decompressed frames kept; else some in random order, with
            each read decompressing its frame.
    """
    with blobpack.open_blob(path) as blob:
        names = random.Random(SEED).choices(blob.index.names, k=READS)
        if isinstance(blob.store, SeekableStore) and not keep_frames:
            cold = SeekableStore(blob.store.base, blob.store.table, cache_bytes=0)
            blob = blobpack.Blob(cold, blob.index)
        if keep_frames:
            names = list(blob.index.names)
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for name in names:
                blob.read(name)
            rounds.append((time.perf_counter() - began) / len(names) * 1e6)
        return statistics.median(rounds)


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000)
    arguments = parser.parse_args()
    pixels = crops(arguments.folder, arguments.files)
    print("| kind | a file | plain | .tar.zst | size | random read | in order |")
    print("|---|---|---|---|---|---|---|")
    for kind, encode in KINDS.items():
        payloads = list(members(pixels, encode))
        with tempfile.TemporaryDirectory() as folder:
            plain, packed = Path(folder, "a.tar"), Path(folder, "a.tar.zst")
            report = blobpack.pack(payloads, plain, all_files=True)
            blobpack.pack(payloads, packed, all_files=True, level=arguments.level)
            sizes = plain.stat().st_size, packed.stat().st_size
            times = [
                read_us(path, keep_frames=keep)
                for keep in (False, True)
                for path in (plain, packed)
            ]
        print(
            f"| {kind} | {report.payload_bytes / len(payloads) / 1e3:.1f} KB | {sizes[0] / 1e6:.1f} MB "
            f"| {sizes[1] / 1e6:.1f} MB | {sizes[1] / sizes[0]:.0%} "
            f"| {times[0]:.0f} → {times[1]:.0f} µs | {times[2]:.0f} → {times[3]:.0f} µs |"
        )


if __name__ == "__main__":
    main()
