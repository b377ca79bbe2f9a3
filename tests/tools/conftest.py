"""What the tests of several tools share: a blob that is served, and its images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blobpack import Blob


class Served(NamedTuple):
    """An open blob, the URL of its server, and its images by their names."""

    blob: Blob
    url: str
    images: dict[str, bytes]


@pytest.fixture
def served(small_images: dict[str, bytes], tmp_path: Path) -> Iterator[Served]:
    """A blob behind `blobpack serve`, with names that must be encoded in URLs."""
    # imported here: not every tool's environment has the server's packages
    from gatewayserver import serving

    from blobpack.gateway.app import gateway_app

    images = dict(list(small_images.items())[:6])
    images["größe/1 & #2.jpg"] = small_images["cats/0001.jpg"]
    blobpack.pack(images, tmp_path / "out.tar")
    with (
        blobpack.open(tmp_path / "out.tar") as blob,
        serving(gateway_app({"out": blob})) as client,
    ):
        yield Served(blob, f"{client.url}/b/out", images)
