"""Images a second into a training loop: .venv-torch/bin/python bench/torch_loop.py [--images N] [--rounds N] [--json FILE]

It prints the table of docs/guides/torch.md: BlobDataset and BlobStream beside an ImageFolder, WebDataset and MosaicML's
streaming. Each system reads the same JPEGs of 128 by 128 pixels and their labels in random order, in batches of 64, with
PyTorch's DataLoader. The loop makes floats of each batch. Systems take turns in each round; each figure is the best of all
rounds. Processor time is that of all processes.

`scripts/test --tools torch` makes .venv-torch. MosaicML's streaming needs torchvision, which the CPU build of PyTorch lacks:

    .venv-torch/bin/pip install --no-deps mosaicml-streaming
    .venv-torch/bin/pip install 'transformers<5' 'xxhash<4' Brotli zstd python-snappy matplotlib boto3 catalogue \
        google-cloud-storage paramiko oci azure-storage-blob azure-storage-file-datalake azure-identity

A system that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from decoding import photo
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import blobpack
from blobpack.integrations.torch import BlobDataset, BlobStream

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 128
BATCH = 64
CLASSES = 10
SHARDS = 4
WORKERS = (0, 1, 2)
SEED = 20260101

Make = "Callable[[int], Any]"  # makes a DataLoader with so many workers


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Make a (3, height, width) uint8 tensor of an image."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


class ImageFolder(Dataset):
    """What torchvision's ImageFolder does: a file for each image, opened by Pillow, in a folder for each class."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*/*.jpg"))
        self.labels = [int(path.parent.name) for path in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with self.files[i].open("rb") as file, Image.open(file) as image:
            return to_tensor(image), self.labels[i]


def image_folder(folder: Path, payloads: list[tuple[bytes, int]]) -> Make:
    """Write files, and read them."""
    for i, (payload, label) in enumerate(payloads):
        path = folder / str(label) / f"{i:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(payload)
    dataset = ImageFolder(folder)
    return lambda workers: DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)


def members(payloads: list[tuple[bytes, int]]) -> dict[str, bytes]:
    """Name payloads and labels as WebDataset does."""
    made = {}
    for i, (payload, label) in enumerate(payloads):
        made[f"{i:06}.cls"] = b"%d" % label
        made[f"{i:06}.jpg"] = payload
    return made


def blob_dataset(folder: Path, payloads: list[tuple[bytes, int]]) -> Make:
    """Pack one blob, and read it by rows."""
    blobpack.pack(members(payloads), folder / "out.tar", all_files=True)
    dataset = BlobDataset(folder / "out.tar", fields=("jpg", "cls"))
    return lambda workers: DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)


def blob_stream(folder: Path, payloads: list[tuple[bytes, int]]) -> Make:
    """Pack one blob, and stream it."""
    blobpack.pack(members(payloads), folder / "out.tar", all_files=True)
    stream = BlobStream(
        folder / "out.tar", fields=("jpg", "cls"), batch_size=BATCH, shuffle=SEED, window=1024
    )
    return lambda workers: DataLoader(stream, BATCH, num_workers=workers)


def web_dataset(folder: Path, payloads: list[tuple[bytes, int]]) -> Make:
    """Write shards by WebDataset's writer, and stream them by its pipeline."""
    import webdataset

    for shard in range(SHARDS):
        with webdataset.TarWriter(str(folder / f"{shard}.tar")) as writer:
            for i in range(shard, len(payloads), SHARDS):
                payload, label = payloads[i]
                writer.write({"__key__": f"{i:06}", "jpg": payload, "cls": label})
    pipeline = (
        webdataset.WebDataset(
            [str(folder / f"{shard}.tar") for shard in range(SHARDS)], shardshuffle=SHARDS
        )
        .shuffle(1024)
        .decode("torchrgb8")
        .to_tuple("jpg", "cls")
    )
    return lambda workers: DataLoader(pipeline, BATCH, num_workers=workers)


def mds(folder: Path, payloads: list[tuple[bytes, int]]) -> Make:
    """Write MDS shards, and read them by a StreamingDataset."""
    stand_in_for_torchvision()
    import streaming
    import streaming.base.util

    with streaming.MDSWriter(out=str(folder), columns={"jpg": "jpeg", "cls": "int"}) as writer:
        for payload, label in payloads:
            writer.write({"jpg": _AsJpeg(payload), "cls": label})

    class Images(streaming.StreamingDataset):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            sample = super().__getitem__(i)
            return to_tensor(sample["jpg"]), sample["cls"]

    def loader(workers: int) -> Any:
        # a dataset that had other workers before waits forever
        streaming.base.util.clean_stale_shared_memory()
        dataset = Images(local=str(folder), batch_size=BATCH, shuffle=True, shuffle_block_size=1024)
        return DataLoader(dataset, BATCH, num_workers=workers)

    return loader


class _AsJpeg(Image.Image):
    """An image that MDSWriter stores as the JPEG that it is, and does not encode again."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.payload = payload

    def save(self, file: Any, *_: object, **__: object) -> None:  # type: ignore[override]
        file.write(self.payload)


def stand_in_for_torchvision() -> None:
    """If there is no torchvision, let the packages import an empty one: reading MDS does not use it."""
    if importlib.util.find_spec("torchvision"):
        return
    import transformers.feature_extraction_utils  # noqa: F401 - it looks for torchvision when it is imported

    for name in ("", ".transforms", ".transforms.functional", ".datasets", ".io"):
        module: Any = types.ModuleType(f"torchvision{name}")
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None, is_package=True)
        module.__path__ = []
        module.to_tensor, module.VisionDataset = None, object
        sys.modules[module.__name__] = module


SYSTEMS = {
    "BlobStream": blob_stream,
    "BlobDataset": blob_dataset,
    "ImageFolder": image_folder,
    "WebDataset": web_dataset,
    "MosaicML streaming": mds,
}


def cpu_s() -> float:
    """Return the processor time of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def train(loader: Any, expected: int) -> tuple[float, float]:
    """Take one epoch; return the images a second, and the processor time for each in microseconds."""
    began, cpu = time.perf_counter(), cpu_s()
    seen = 0
    for images, labels in loader:
        assert images.shape == (len(labels), 3, SIDE, SIDE)
        images.float().div_(255)
        seen += len(labels)
    took = time.perf_counter() - began
    assert seen == expected, f"{seen} images instead of {expected}"
    return seen / took, (cpu_s() - cpu) / seen * 1e6


def measure(
    folder: Path, systems: list[str], images: int, rounds: int
) -> dict[str, dict[int, tuple[float, float]]]:
    """Measure all systems that are installed, with each number of workers."""
    rng = random.Random(SEED)
    payloads = [(photo(rng, SIDE), rng.randrange(CLASSES)) for _ in range(images)]
    makes: dict[str, Callable[[int], Any]] = {}
    for name in systems:
        place = folder / name
        place.mkdir()
        try:
            makes[name] = SYSTEMS[name](place, payloads)
        except ImportError as exc:
            print(f"{name} is left out: {exc}", file=sys.stderr)
    best: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in makes}
    for _ in range(rounds):
        for workers in WORKERS:
            for name, make in makes.items():
                rate, cpu = train(make(workers), images)
                before = best[name].get(workers, (0.0, cpu))
                best[name][workers] = (max(rate, before[0]), min(cpu, before[1]))
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "systems", nargs="*", help=f"of {', '.join(SYSTEMS)}; all, if none is named"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        best = measure(Path(folder), asked.systems or list(SYSTEMS), asked.images, asked.rounds)
    print(
        "| images a second (CPU µs an image) | "
        + " | ".join(f"{n} workers" for n in WORKERS)
        + " |"
    )
    print("|---" * (len(WORKERS) + 1) + "|")
    for name, by_workers in best.items():
        cells = [f"{rate:,.0f} ({cpu:.0f})" for rate, cpu in by_workers.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if asked.json:
        asked.json.write_text(json.dumps(best))


if __name__ == "__main__":
    os.environ.setdefault("WDS_VERBOSE_CACHE", "0")
    main()
