"""Blobs in other clouds than S3: gs:// and az:// through obstore, and other URLs through fsspec.

Google's cloud is a fake (gcsserver.py), fsspec's memory is real. scripts/test --tools clouds runs the same life cycle on
Azurite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cloudservers
import pytest
from lifecycle import STEPS, run

from blobpack.stores.clouds.client import forget_clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cloudservers import CloudServer, Gcs

# fsspec's memory has neither keys nor buckets, and only an upload to S3 can be resumed.
LEFT_OUT = {"gs": ("resume",), "memory": ("resume", "wrong key", "missing bucket")}
CELLS = [(scheme, step) for scheme, left in LEFT_OUT.items() for step in STEPS if step not in left]


@pytest.fixture(scope="module")
def gcs_server() -> Iterator[Gcs]:
    with cloudservers.gcs() as server:
        yield server


@pytest.fixture
def gcs(gcs_server: Gcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    for name, value in gcs_server.settings().items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield gcs_server
    forget_clients()


@pytest.fixture
def cloud(scheme: str, request: pytest.FixtureRequest) -> CloudServer:
    return request.getfixturevalue("gcs") if scheme == "gs" else cloudservers.Memory()


@pytest.mark.parametrize(("scheme", "step"), CELLS)
def test_a_step_of_the_life_cycle_works(
    step: str, cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(step, cloud, tmp_path, monkeypatch) == ""
