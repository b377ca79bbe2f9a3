"""FiftyOne takes the samples, and reads the images by their URLs."""

from __future__ import annotations

import json

from blobpack.integrations.export import write_export

FIELDS = [
    "filepath",
    "name",
    *(f"metadata.{each}" for each in ("size_bytes", "mime_type", "width", "height")),
]
# FiftyOne makes a local path of each filepath that a new sample is given: the page sets it again
PRINT = f"""
assert fo.Sample(filepath="http://host/a.png").filepath != "http://host/a.png"
fields = {FIELDS!r}
print(json.dumps([dataset.values(field) for field in fields]))
# here, FiftyOne asks the server for each image
dataset.compute_metadata(overwrite=True, num_workers=1, progress=False)
print(json.dumps([dataset.values(field) for field in fields]))
"""


def test_the_samples_make_a_dataset_whose_images_are_read_by_url(
    served, tmp_path, monkeypatch, run_example
):
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path / "db"))
    # the database that comes as a package is older than FiftyOne likes
    monkeypatch.setenv("FIFTYONE_DATABASE_VALIDATION", "false")
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    write_export(served.blob, tmp_path / "samples.jsonl", "fiftyone", url=served.url)
    printed = run_example("import fiftyone", PRINT).splitlines()
    # FiftyOne prints lines of its own, too
    written, found = (json.loads(line) for line in printed if line.startswith("[["))
    assert found == written
    urls, names, sizes, *_ = found
    assert all(url.startswith(served.url) for url in urls)
    assert names == list(served.images)
    assert sizes == list(map(len, served.images.values()))
