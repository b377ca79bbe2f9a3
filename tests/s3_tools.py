"""A running `blobpack serve --s3-port`, for tests of programs that speak S3, in `tests/tools/`."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from s3server import NO_AWS

if TYPE_CHECKING:
    from collections.abc import Iterator

# the server runs in the environment of blobpack itself, and the tool in its own
BLOBPACK = Path(__file__).parents[1] / ".venv" / "bin" / "blobpack"
ACCESS_KEY, SECRET_KEY = "reader", "a secret of these tests"
KEYS = {"BLOBPACK_SERVE_ACCESS_KEY": ACCESS_KEY, "BLOBPACK_SERVE_SECRET_KEY": SECRET_KEY}
ODD_NAMES = [
    "a b+c&d=e.jpg",
    "ä/ö~ü.png",
    "%41%2F%.jpg",
    "*'(),;:@$!#?[]{}^`.jpg",
    "\U0001f600.jpg",
]


@contextmanager
def serving_s3(
    *blobs: Path, options: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> Iterator[str]:
    """Serve blobs on free ports, and yield the URL of the S3 face."""
    command = [BLOBPACK, "serve", *blobs, "--port", "0", "--s3-port", "0", "--json", *options]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=(env or dict(os.environ)) | KEYS
    )
    try:
        yield json.loads(server.stdout.readline())["s3_url"]
    finally:
        server.terminate()
        server.stdout.close()
        assert server.wait(120) == 0


def settings(url: str, **more: str) -> dict[str, str]:
    """Return the environment in which the tools of AWS use the S3 face."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return (
        kept
        | NO_AWS
        | {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        | more
    )


def members(small_images: dict[str, bytes]) -> dict[str, bytes]:
    """Return members with names and sizes of every kind, one above the size at which tools read in parts."""
    odd = {name: name.encode() for name in ODD_NAMES}
    return small_images | odd | {"large.bin": bytes(range(256)) * (40 << 10), "empty.bin": b""}


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by their paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
