"""Hugging Face's datasets reads metadata files, and the images by URL, in a folder, or from the blob."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset

import blobpack
from blobpack.integrations.export import write_export

# prints the rows, each with the colour of its first pixel
PRINT = """
import json

for row in dataset:
    image = row.pop({column!r}).convert("RGB")
    print(json.dumps([row["file_name"], row["width"], row["height"], image.size, image.getpixel((0, 0))]))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def check(printed, served):
    """Check the size and the first pixel of each image, by the name in its row."""
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [row[0] for row in rows] == list(served.images)
    for name, width, height, size, pixel in rows:
        expected = blobpack.read_image(served.blob, name)
        assert [height, width] == size[::-1] == list(expected.shape[:2])
        assert pixel == expected[0, 0].tolist()


def test_images_by_url(served, tmp_path, run_example):
    write_export(served.blob, tmp_path / "metadata.jsonl", "huggingface", url=served.url)
    check(run_example('cast_column("url"', PRINT.format(column="url")), served)


def test_images_from_the_blob(served, run_example):
    check(run_example("from_generator", PRINT.format(column="image")), served)


def test_images_in_a_folder(served, tmp_path):
    blobpack.extract(served.blob, tmp_path / "folder")
    write_export(served.blob, f"{tmp_path}/folder/", "huggingface")
    dataset = load_dataset(
        "imagefolder",
        data_dir=str(tmp_path / "folder"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(dataset) == len(served.images)
    assert all(row["image"].size == (row["width"], row["height"]) for row in dataset)
