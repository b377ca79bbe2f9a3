"""A real Ray on two processors, whose workers use the tests' S3 server, and blobs for it."""

from __future__ import annotations

import logging
import os
import random
import tempfile
from typing import TYPE_CHECKING

import pytest
import ray
from s3server import NO_AWS

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

COUNT = 600
SHARD_BYTES = 300_000
OBJECT_STORE_BYTES = 300 << 20


@pytest.fixture(scope="session", autouse=True)
def _cluster(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray, with workers that have the environment of this process: S3's settings, and no others of AWS."""
    with (
        pytest.MonkeyPatch.context() as patch,
        # tests of several checkouts may run at the same time; not below TMPDIR, because the path of a socket has at most
        # 107 bytes
        tempfile.TemporaryDirectory(
            prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as folder,
    ):
        for name in os.environ:
            if name.startswith("AWS_"):
                patch.delenv(name)
        for name, value in {**NO_AWS, **s3.settings()}.items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        # workers import blobpack from the checkout, by the .pth file of the environment
        ray.init(
            num_cpus=2,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",  # nothing listens on another address
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def payloads() -> dict[str, bytes]:
    """Member name → payload."""
    made = random.Random(3)
    return {
        f"{('cats', 'dogs')[i % 2]}/{i:04}.bin": made.randbytes(made.randrange(6000))
        for i in range(COUNT)
    }


@pytest.fixture(scope="session")
def shards(payloads: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of them."""
    folder = tmp_path_factory.mktemp("in") / "shards"
    blobpack.pack_shards(payloads, folder, SHARD_BYTES, all_files=True)
    return folder


@pytest.fixture
def s3_shards(s3_env: S3Server, shards: Path) -> str:
    """The URL of the collection in S3."""
    bucket = s3_env.new_bucket()
    for path in shards.iterdir():
        s3_env.put(bucket, f"in/{path.name}", path.read_bytes())
    return f"s3://{bucket}/in/"
