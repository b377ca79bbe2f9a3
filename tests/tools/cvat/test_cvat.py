"""CVAT's SDK takes a manifest for a task; CVAT's own server is on no package registry."""

from __future__ import annotations

import json

from cvat_sdk import models

from blobpack.integrations.export import write_export


def test_a_task_of_the_files_that_the_manifest_names(served, tmp_path):
    write_export(served.blob, tmp_path / "manifest.jsonl", "cvat")
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    version, kind, *images = lines
    assert (version, kind) == ({"version": "1.1"}, {"type": "images"})
    names = [image["name"] + image["extension"] for image in images]
    assert names == list(served.images)
    request = models.DataRequest(
        image_quality=70,
        server_files=[*names, "manifest.jsonl"],
        cloud_storage_id=1,
        use_cache=True,
        sorting_method=models.SortingMethod("predefined"),
    )
    assert request.to_dict()["server_files"] == [*names, "manifest.jsonl"]
    storage = models.CloudStorageWriteRequest(
        provider_type=models.ProviderTypeEnum("AWS_S3_BUCKET"),
        resource="out",
        display_name="out",
        credentials_type=models.CredentialsTypeEnum("KEY_SECRET_KEY_PAIR"),
        manifests=["manifest.jsonl"],
        specific_attributes="endpoint_url=http://127.0.0.1:9000",
    )
    assert storage.manifests == ["manifest.jsonl"]
