"""BlobDataset in PyTorch's DataLoader: every way to start workers, local blobs and S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, get_worker_info

import blobpack
from blobpack.integrations.torch import BlobDataset

if TYPE_CHECKING:
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

COUNT = 150
SIZE = (12, 12)
STARTS = ["fork", "spawn", "forkserver"]


def with_worker(sample: Any) -> Any:
    info = get_worker_info()
    return (*sample, -1 if info is None else info.id)


def check(loader: DataLoader, source: Any) -> set[int]:
    """Compare every batch with read_image; return the workers that made them."""
    labels: list[int] = []
    workers: set[int] = set()
    with blobpack.open(source) as reader:
        for images, batch_labels, batch_workers in loader:
            assert images.dtype == torch.uint8
            assert images.shape == (len(batch_labels), 3, *SIZE)
            for image, label in zip(images, batch_labels.tolist(), strict=True):
                [name] = reader.index.select(f"*/{label:04}.jpg").names
                expected = blobpack.read_image(reader, name, size=SIZE)
                assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
            labels += batch_labels.tolist()
            workers |= set(batch_workers.tolist())
    assert sorted(labels) == list(range(COUNT))
    assert labels != list(range(COUNT))
    return workers


def dataset(source: Any) -> BlobDataset:
    return BlobDataset(source, fields=("jpg", "cls"), size=SIZE, transform=with_worker)


@pytest.mark.parametrize("start", STARTS)
def test_workers_read_each_sample_once(tar: Path, start: str) -> None:
    loader = DataLoader(
        dataset(tar), batch_size=16, shuffle=True, num_workers=2, multiprocessing_context=start
    )
    assert check(loader, tar) == {0, 1}


def test_without_workers(tar: Path, shards: Path) -> None:
    for source in (tar, shards):
        assert check(DataLoader(dataset(source), batch_size=16, shuffle=True), source) == {-1}


@pytest.mark.parametrize("start", STARTS)
def test_a_blob_in_s3_that_was_read_before_the_workers_start(
    s3_env: S3Server, tar: Path, start: str
) -> None:
    url = s3_env.put(s3_env.new_bucket(), "out.tar", tar.read_bytes())
    made = dataset(url)
    assert made[0][1] == 0
    loader = DataLoader(
        made, batch_size=16, shuffle=True, num_workers=2, multiprocessing_context=start
    )
    assert check(loader, url) == {0, 1}


def test_a_batch_is_one_batch_of_ranged_reads(
    faults: FaultServer, tar: Path, s3_env: S3Server
) -> None:
    url = s3_env.put(s3_env.new_bucket(), "out.tar", tar.read_bytes())
    made = BlobDataset(url, fields=("jpg", "cls"))
    made[0]
    before = made.reader.stats.requests
    neighbours = made.__getitems__(list(range(20, 60)))
    assert [label for _, label in neighbours] == list(range(20, 60))
    # 80 members that lie near each other
    assert made.reader.stats.requests - before <= 2


def test_items_are_those_of_a_sequence(tar: Path) -> None:
    made = BlobDataset(tar, fields=("cls",))
    assert len(made) == COUNT
    assert made[-1] == (COUNT - 1,)
    assert made[np.int64(3)] == (3,)
    assert made[torch.tensor(3)] == (3,)
    for wrong in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            made[wrong]
    assert Subset(made, [5, 7])[1] == (7,)
    assert made.__getitems__([]) == []


def test_dicts_of_all_fields_are_collated(tar: Path) -> None:
    loader = DataLoader(BlobDataset(tar, size=SIZE), batch_size=3)
    batch = next(iter(loader))
    assert batch["__key__"] == ["cats/0000", "cats/0001", "cats/0002"]
    assert batch["json"]["number"].tolist() == [0, 1, 2]
    assert batch["jpg"].shape == (3, 3, *SIZE)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_blob_and_member(tmp_path: Path, workers: int) -> None:
    blobpack.pack({"a.jpg": b"no image"}, tmp_path / "bad.tar", all_files=True)
    loader = DataLoader(BlobDataset(tmp_path / "bad.tar"), num_workers=workers)
    with pytest.raises(blobpack.ImageError, match=r"bad\.tar: a\.jpg"):
        list(loader)


def test_a_tensor_has_the_memory_of_the_pixels(tar: Path) -> None:
    """So that a batch of them is in the memory format channels_last."""
    [image] = BlobDataset(tar, fields=("jpg",), size=SIZE)[0]
    assert image.stride() == (1, 3 * SIZE[1], 3)
    image += 1
