"""SageMaker's SDK reads each object that a manifest names, here from the blob's S3 face."""

from __future__ import annotations

import json

import boto3
from s3_tools import serving_s3, settings
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.s3 import S3Downloader

import blobpack
from blobpack.integrations.export import write_export


def test_the_sdk_reads_what_the_manifest_names(small_images, tmp_path, monkeypatch):
    blobpack.pack(small_images, tmp_path / "photos.tar")
    write_export(tmp_path / "photos.tar", tmp_path, "sagemaker", url="s3://photos")
    with serving_s3(tmp_path / "photos.tar") as url:
        for name, value in settings(url).items():
            monkeypatch.setenv(name, value)
        session = Session(boto3.Session(region_name="us-east-1"))
        lines = (tmp_path / "sagemaker.manifest").read_text().splitlines()
        assert len(lines) == len(small_images)
        for line in map(json.loads, lines):
            name = line["source-ref"].removeprefix("s3://photos/")
            found = S3Downloader.read_bytes(line["source-ref"], sagemaker_session=session)
            assert bytes(found) == small_images[name]
