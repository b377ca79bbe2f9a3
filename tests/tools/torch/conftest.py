"""Blobs of samples for PyTorch."""

from __future__ import annotations

import io
import json
from multiprocessing import forkserver
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import blobpack

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 150


def jpeg(value: int, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).rotate(value).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def _new_forkserver() -> None:
    """Stop the fork server of the test before, whose environment would lack this test's credentials."""
    forkserver._forkserver._stop()


@pytest.fixture(scope="session")
def payloads() -> dict[str, bytes]:
    """Member name → payload, of samples with an image, a label and an annotation."""
    made: dict[str, bytes] = {}
    for i in range(COUNT):
        stem = f"{('cats', 'dogs')[i * 2 // COUNT]}/{i:04}"
        made[f"{stem}.cls"] = b"%d" % i
        made[f"{stem}.jpg"] = jpeg(i, (20 + i % 7, 16))
        made[f"{stem}.json"] = json.dumps({"number": i}).encode()
    return made


@pytest.fixture(scope="session")
def tar(payloads: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blob of them."""
    path = tmp_path_factory.mktemp("samples") / "out.tar"
    blobpack.pack(payloads, path, all_files=True)
    return path


@pytest.fixture(scope="session")
def shards(payloads: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of them."""
    path = tmp_path_factory.mktemp("shards")
    blobpack.pack_shards(payloads, path, shard_bytes=100_000, all_files=True)
    return path
