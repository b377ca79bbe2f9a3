"""schemathesis asks the server what its description of the routes says, and what it does not say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gatewayserver import serving

import blobpack
from blobpack.gateway.app import gateway_app

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_the_server_does_what_its_description_says(small_images, tmp_path):
    payloads = {**small_images, "0": b"", "a b.txt": b"text"}
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    blob = blobpack.open(tmp_path / "out.tar")
    # names that the tool makes up by itself, so that it finds members
    with blob, serving(gateway_app({"out": blob, "0": blob})) as client:
        done = subprocess.run(
            [
                SCHEMATHESIS,
                "run",
                f"{client.url}/openapi.json",
                "--phases=examples,coverage,fuzzing",
                "--max-examples=50",
                "--seed=1",
                # A member need not be an image, or have the bytes of a range: no schema can say so.
                "--exclude-checks=positive_data_acceptance",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
            timeout=300,
        )
        assert client.ask("/healthz").status == 200
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "Tested: 17" in done.stdout
