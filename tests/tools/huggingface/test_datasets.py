"""Hugging Face's datasets reads metadata files, and the images by URL, in a folder, or from the blob."""

from __future__ import annotations

import pytest
from datasets import Dataset, Features, Image, Value, config, load_dataset

import blobpack
from blobpack.integrations.export import export_records, write_export


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")


def check(dataset, served, column="image"):
    """Check the pixels of each image, by the name in its row."""
    assert len(dataset) == len(served.images)
    for row in dataset:
        expected = blobpack.read_image(served.blob, row["file_name"])
        assert (row["width"], row["height"]) == row[column].size == expected.shape[1::-1]
        assert row[column].convert("RGB").tobytes() == expected.tobytes()


def test_images_by_url(served, tmp_path):
    write_export(served.blob, tmp_path / "metadata.jsonl", "huggingface", url=served.url)
    dataset = load_dataset("json", data_files=str(tmp_path / "metadata.jsonl"), split="train")
    check(dataset.cast_column("url", Image()), served, "url")


def test_images_in_a_folder(served, tmp_path):
    blobpack.extract(served.blob, tmp_path / "folder")
    write_export(served.blob, tmp_path / "folder", "huggingface")
    dataset = load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), split="train")
    assert {row["width"] for row in dataset} == {member.width for member in served.blob.index}
    assert all(row["image"].size == (row["width"], row["height"]) for row in dataset)


def test_images_from_the_blob(served):
    """The generator of docs/guides/export.md; datasets itself reads no images in tars beside a metadata file."""

    def rows():
        with blobpack.open(served.blob.url) as reader:
            for record in export_records(reader, "huggingface"):
                payload = reader.read(record["file_name"])
                yield record | {"image": {"path": record["file_name"], "bytes": payload}}

    features = {"file_name": Value("string"), "width": Value("int32"), "height": Value("int32")}
    dataset = Dataset.from_generator(rows, features=Features(features | {"image": Image()}))
    check(dataset, served)
