"""Blobs in other clouds than S3: gs:// and az:// through obstore, and other URLs through fsspec.

Google's cloud is a fake (gcsserver.py), fsspec's memory is real. scripts/test --tools clouds runs the same life cycle on
Azurite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cloudservers
import pytest
from lifecycle import STEPS, run

if TYPE_CHECKING:
    from pathlib import Path

    from cloudservers import CloudServer

# fsspec's memory has neither keys nor buckets, and only an upload to S3 can be resumed.
LEFT_OUT = {"gs": ("resume",), "memory": ("resume", "wrong key", "missing bucket")}
CELLS = [(scheme, step) for scheme, left in LEFT_OUT.items() for step in STEPS if step not in left]


@pytest.fixture
def cloud(scheme: str, request: pytest.FixtureRequest) -> CloudServer:
    return request.getfixturevalue("gcs") if scheme == "gs" else cloudservers.Memory()


@pytest.mark.parametrize(("scheme", "step"), CELLS)
def test_a_step_of_the_life_cycle_works(
    step: str, cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(step, cloud, tmp_path, monkeypatch) == ""
