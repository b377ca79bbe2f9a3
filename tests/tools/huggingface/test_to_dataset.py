"""A blob as a Dataset: lazily read, in batches, as Hugging Face's own functions and PyTorch-like loaders use it."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pytest
from datasets import Dataset, load_dataset, load_from_disk
from PIL import Image, ImageOps

import blobpack
from blobpack import FormatError
from blobpack.integrations.huggingface import to_dataset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(params=["local", "shards", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path, small_images: dict[str, bytes]) -> str:
    if request.param == "shards":
        blobpack.pack_shards(small_images, tmp_path / "shards", shard_bytes=4000)
        return str(tmp_path / "shards")
    root = tmp_path
    if request.param == "s3":
        root = f"s3://{request.getfixturevalue('bucket')}"
    blobpack.pack(small_images, f"{root}/out.tar")
    return f"{root}/out.tar"


def pixels(image: Any) -> Any:
    return np.asarray(image.convert("RGBA"))


def opened(payload: bytes) -> Any:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))


def test_rows_are_the_images_with_their_facts(source: str, small_images: dict[str, bytes]) -> None:
    dataset = to_dataset(source)
    assert isinstance(dataset, Dataset)
    assert dataset.column_names[0] == "name"
    assert isinstance(dataset.features["image"], datasets.Image)
    assert [row["name"] for row in dataset] == list(small_images)
    for row in dataset:
        assert (pixels(row["image"]) == pixels(opened(small_images[row["name"]]))).all()
        # as shown: the orientation of EXIF is applied
        assert row["image"].size == (row["width"], row["height"])
    assert dataset[-1]["name"] == list(small_images)[-1]
    assert [image.size for image in dataset["image"]] == [row["image"].size for row in dataset]


def test_the_functions_of_a_dataset_work(source: str, small_images: dict[str, bytes]) -> None:
    dataset = to_dataset(source)
    wide = dataset.filter(lambda width: width > 30, input_columns=["width"])
    assert [row["image"].width for row in wide] == [48]
    mixed = dataset.shuffle(seed=3).select(range(4)).rename_column("image", "picture")
    for row in mixed:
        assert (pixels(row["picture"]) == pixels(opened(small_images[row["name"]]))).all()
    # in other processes, too
    means = dataset.map(lambda row: {"mean": float(np.asarray(row["image"]).mean())}, num_proc=2)
    assert [row["mean"] for row in means] == [
        float(np.asarray(opened(payload)).mean()) for payload in small_images.values()
    ]
    grey = dataset.map(
        lambda batch: {"image": [i.convert("L") for i in batch["image"]]}, batched=True
    )
    assert {row["image"].mode for row in grey} == {"L"}
    again = pickle.loads(pickle.dumps(dataset))
    assert (pixels(again[1]["image"]) == pixels(dataset[1]["image"])).all()
    split = dataset.train_test_split(0.5, seed=1)
    assert len(split["test"][:]["image"]) == len(small_images) // 2
    both = datasets.concatenate_datasets([dataset, dataset])
    assert len(both) == 2 * len(small_images)


def test_a_dataset_without_its_transform_opens_urls(
    tmp_path: Path, small_images: dict[str, bytes]
) -> None:
    blobpack.pack(small_images, tmp_path / "out.tar")
    plain = to_dataset(tmp_path / "out.tar").with_format(None)
    plain.save_to_disk(tmp_path / "saved")
    loaded = load_from_disk(tmp_path / "saved")
    assert loaded[0]["image"] == {
        "bytes": None,
        "path": f"blob://{loaded[0]['name']}::{tmp_path}/out.tar",
    }
    decoded = loaded.cast_column("image", datasets.Image())
    for row in [*decoded, *decoded.to_iterable_dataset(num_shards=3)]:
        assert (pixels(row["image"]) == pixels(opened(small_images[row["name"]]))).all()


def test_a_batch_is_one_batch_of_requests(bucket: str, small_images: dict[str, bytes]) -> None:
    many = {f"{i:03}.png": small_images["birds/grey.png"] for i in range(300)}
    blobpack.pack(many, f"s3://{bucket}/out.tar")
    with blobpack.open_blob(f"s3://{bucket}/out.tar") as blob:
        dataset = to_dataset(blob)
        before = blob.stats.requests
        # what a DataLoader of PyTorch calls
        rows = dataset.__getitems__(list(range(0, 300, 3)))
        assert len(rows) == 100
        assert blob.stats.requests - before < 30
        # a condition on the table reads no image
        before = blob.stats.requests
        few = dataset.filter(lambda name: name < "010", input_columns=["name"])
        assert (len(few), blob.stats.requests) == (10, before)


def test_bytes_are_those_that_were_packed(tmp_path: Path) -> None:
    payloads = {"a.jpg": b"no image", "b.txt": b"text", "empty": b""}
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    rows = to_dataset(tmp_path / "out.tar", column="file", decode=False)
    assert {row["name"]: row["file"]["bytes"] for row in rows} == payloads
    images = to_dataset(tmp_path / "out.tar")
    with pytest.raises(Image.UnidentifiedImageError):
        images[0]


def test_some_members_in_their_order(tmp_path: Path, small_images: dict[str, bytes]) -> None:
    blobpack.pack(small_images, tmp_path / "out.tar")
    some = to_dataset(tmp_path / "out.tar", members=["dogs/clear.png", "cats/0001.jpg"])
    assert list(some["name"]) == ["dogs/clear.png", "cats/0001.jpg"]
    with blobpack.open(tmp_path / "out.tar") as blob:
        assert len(to_dataset(blob, members=blob.index.select("cats/*"))) == 3
        assert len(to_dataset(blob, members=[])) == 0


def test_wrong_arguments_are_named(tmp_path: Path, small_images: dict[str, bytes]) -> None:
    blobpack.pack(small_images, tmp_path / "out.tar")
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"column": "name"}, ValueError, "column must not be 'name'"),
        ({"column": 3}, TypeError, "column must be a str"),
        ({"decode": "no"}, TypeError, "decode must be"),
        ({"members": 3}, TypeError, "several"),
    ]
    for options, error, message in wrong:
        with pytest.raises(error, match=message):
            to_dataset(tmp_path / "out.tar", **options)
    with pytest.raises(TypeError, match="source must be"):
        to_dataset(3)
    odd = {"\udcff.png": small_images["birds/grey.png"]}
    blobpack.pack(odd, tmp_path / "odd.tar")
    with pytest.raises(FormatError, match="not UTF-8"):
        to_dataset(tmp_path / "odd.tar")


def test_load_dataset_reads_members(tmp_path: Path, small_images: dict[str, bytes]) -> None:
    """Its own readers find members by fsspec."""
    lines = b'{"text": "one"}\n{"text": "two"}\n'
    blobpack.pack({"lines.jsonl": lines, **small_images}, tmp_path / "out.tar", all_files=True)
    for streaming in (False, True):
        dataset = load_dataset(
            "json",
            data_files=f"blob://lines.jsonl::{tmp_path}/out.tar",
            split="train",
            streaming=streaming,
            cache_dir=str(tmp_path / "cache"),
        )
        assert [row["text"] for row in dataset] == ["one", "two"]
