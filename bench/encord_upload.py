"""From images on disk to a file for Encord, with single objects and with a blob: .venv/bin/python bench/encord_upload.py

It prints the second table of docs/guides/encord.md, for 3,000 images of 4 KB and an S3 server on loopback. With single objects,
a script uploads each image, lists the prefix, and writes the JSON. What Encord does then is not measured: without
imageMetadata, it reads each image once to find its size.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from s3server import NO_AWS, S3Server, forget_clients

import blobpack
from blobpack.integrations.encord import registration

IMAGES = 3000
THREADS = 16


def make_images(folder: Path) -> None:
    """Write the images."""
    with io.BytesIO() as file:
        Image.new("L", (64, 48)).save(file, "PNG")
        image = file.getvalue()
    for number in range(IMAGES):
        noise = random.Random(number).randbytes(4000)
        (folder / f"{number:05}.png").write_bytes(image + noise)


def single_objects(folder: Path, bucket: str, endpoint: str) -> int:
    """Upload each image, list them and write the JSON; return the number of requests."""
    client = boto3.client("s3")

    def put(path: Path) -> None:
        client.put_object(Bucket=bucket, Key=f"imgs/{path.name}", Body=path.read_bytes())

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, sorted(folder.iterdir())))
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="imgs/"))
    keys = [each["Key"] for page in pages for each in page["Contents"]]
    listed = [{"objectUrl": f"{endpoint}/{bucket}/{key}"} for key in keys]
    Path("single.json").write_text(json.dumps({"images": listed}))
    return len(keys) + len(pages)


def one_blob(folder: Path, bucket: str, _: str) -> int:
    """Pack the images to S3 and write the JSON; return the number of requests."""
    before = blobpack.stats()
    blobpack.pack(folder, f"s3://{bucket}/out.tar")
    with blobpack.open(f"s3://{bucket}/out.tar") as reader:
        made = registration(reader, "https://images.example.org/b/out", output="files", folder=".")
        assert len(list(made)) == 1
    after = blobpack.stats()
    return after.requests - before.requests


def run(server: S3Server, temporary: Path) -> None:
    """Print the table."""
    os.chdir(temporary)
    folder = Path("imgs")
    folder.mkdir()
    make_images(folder)
    os.environ.update(server.settings())
    forget_clients()
    print("| | requests | seconds | sizes in the file |\n|---|---|---|---|")
    for name, way, sizes in (
        ("single objects", single_objects, "no"),
        ("one blob", one_blob, "yes"),
    ):
        bucket = server.new_bucket()
        began = time.perf_counter()
        requests = way(folder, bucket, server.endpoint)
        took = time.perf_counter() - began
        print(f"| {name} | {requests:,} | {took:.1f} s | {sizes} |", flush=True)


if __name__ == "__main__":
    os.environ.update(NO_AWS)
    with tempfile.TemporaryDirectory() as place:
        running = S3Server(Path(place))
        try:
            run(running, Path(place))
        finally:
            running.stop()
