"""Blobs in other clouds than S3: gs:// and az:// through obstore, and other URLs through fsspec.

Google's cloud is a fake (gcsserver.py); fsspec's memory and the server of FTP are real. scripts/test --tools clouds runs the same life cycle on
Azurite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cloudservers
import pytest
from lifecycle import STEPS, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cloudservers import CloudServer, Ftp

# Neither fsspec's memory nor this server of FTP has keys or buckets, and only an upload to S3 can be resumed.
NO_BUCKETS = ("resume", "wrong key", "missing bucket")
LEFT_OUT = {"gs": ("resume",), "memory": NO_BUCKETS, "ftp": NO_BUCKETS}
CELLS = [(scheme, step) for scheme, left in LEFT_OUT.items() for step in STEPS if step not in left]


@pytest.fixture(scope="module")
def ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    with cloudservers.serving_ftp(tmp_path_factory.mktemp("ftp")) as server:
        yield server


@pytest.fixture
def cloud(scheme: str, request: pytest.FixtureRequest) -> CloudServer:
    if scheme == "memory":
        return cloudservers.Memory()
    server: CloudServer = request.getfixturevalue({"gs": "gcs", "ftp": "ftp"}[scheme])
    return server


@pytest.mark.parametrize(("scheme", "step"), CELLS)
def test_a_step_of_the_life_cycle_works(
    step: str, cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(step, cloud, tmp_path, monkeypatch) == ""
