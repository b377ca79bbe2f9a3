"""FiftyOne takes the samples, and reads the images by their URLs."""

from __future__ import annotations

import json

from blobpack.integrations.export import write_export

FIELDS = ["size_bytes", "mime_type", "width", "height"]


def test_the_samples_make_a_dataset_whose_images_are_read_by_url(served, tmp_path, monkeypatch):
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path / "db"))
    monkeypatch.setenv("FIFTYONE_DATABASE_VALIDATION", "false")
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    # imported here: the import starts the database
    import fiftyone as fo

    write_export(served.blob, tmp_path / "samples.jsonl", "fiftyone", url=served.url)
    dataset = fo.Dataset()
    for line in (tmp_path / "samples.jsonl").read_text().splitlines():
        record = json.loads(line)
        sample = fo.Sample.from_dict(record)
        # FiftyOne makes a local path of each filepath that a new sample is given
        assert sample.filepath != record["filepath"]
        sample["filepath"] = record["filepath"]
        dataset.add_sample(sample)
    assert dataset.values("name") == list(served.images)
    assert all(url.startswith(served.url) for url in dataset.values("filepath"))
    written = [dataset.values(f"metadata.{field}") for field in FIELDS]
    # FiftyOne asks the server for each image
    dataset.compute_metadata(overwrite=True, num_workers=1)
    assert [dataset.values(f"metadata.{field}") for field in FIELDS] == written
    assert dataset.values("metadata.size_bytes") == list(map(len, served.images.values()))
