"""Pack, select, read one image from disk and one from S3, and show what each step did."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import blobpack
from blobpack.reading.decode import decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Path("demo-out")
IMAGES = 4000
START_TIMEOUT_S = 60
# moto's server colours its log even if that is a file
COLOUR = re.compile(r"\x1b\[\d*m")


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Print what is done; when the block ends, print its results and the time that it took.

    Yields:
        The list to which the block appends lines of results. They are printed last, so that printing is not timed.
    """
    print(f"\n\033[1m{what}\033[0m" if sys.stdout.isatty() else f"\n{what}")
    said: list[str] = []
    began = time.perf_counter()
    yield said
    took = time.perf_counter() - began
    for line in said:
        print(f"    {line}")
    print(f"    took {took:.3f} s" if took >= 0.1 else f"    took {took * 1000:.2f} ms")


def make_images(folder: Path, count: int) -> None:
    """Make small JPEG and PNG images, with the same pixels in every run."""
    rng = np.random.default_rng(7)
    for i in range(count):
        kind = "dogs" if i % 2 else "cats"
        path = folder / kind / f"{i:04}.{'png' if i % 4 == 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)


class LocalServer:
    """The S3 server of moto, on loopback; it keeps objects in memory.

    Attributes:
        log: The file to which the server writes a line for each request.
        settings: The environment variables with which boto3 uses the server.
    """

    def __init__(self, folder: Path) -> None:
        """Start the server, with its log in a folder. It takes half a second until it accepts connections."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.log = folder / "s3-server.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.settings = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def wait(self) -> None:
        """Wait until the server accepts connections."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            time.sleep(0.05)
        sys.exit(f"the demo failed: its S3 server did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop the server; what it stored is gone."""
        self._process.terminate()
        self._process.wait()


def read_from_s3(
    url: str, tar: Path, name: str, expected: np.ndarray[Any, Any], log: Path | None = None
) -> None:
    """Upload the blob, open it without downloading it, and read one image of it by one ranged GET.

    Args:
        url: The s3:// URL to upload the blob to.
        tar: The local blob.
        name: The image to read.
        expected: The pixels of the image.
        log: The log of the server; its line about the ranged GET is shown. None if there is none.
    """
    import boto3

    bucket, _, key = url.removeprefix("s3://").partition("/")
    with step(f"$ aws s3 cp {tar} {url}") as said:
        boto3.client("s3").upload_file(str(tar), bucket, key)
        said.append(f"{tar.stat().st_size:,} bytes")
    with step(f'>>> blob = blobpack.open_blob("{url}")') as said:
        blob = blobpack.open_blob(url)
        said.append(f"{blob!r}, ETag {blob.store.version}")
    # A remote index is read block by block, when a name is looked up. Without this, the step would show two requests: one
    # for the block of the index, one for the image.
    blob.index.row_of(name)
    before = blob.stats
    logged = len(log.read_text().splitlines()) if log else 0
    with blob, step(f'>>> blobpack.read_image(blob, "{name}")') as said:
        pixels = blobpack.read_image(blob, name)
        same = "the same pixels as from disk" if (pixels == expected).all() else "OTHER PIXELS"
        requests = blob.stats.requests - before.requests
        said.append(f"{pixels.shape} {pixels.dtype}, {same}")
        said.append(
            f"{requests} ranged GET, {blob.stats.bytes_fetched - before.bytes_fetched:,} bytes"
        )
        seen = log.read_text().splitlines()[logged:] if log else []
        said.extend(f"the server's log: {COLOUR.sub('', line)}" for line in seen)
    if requests != 1 or len(seen) > 1 or "OTHER" in same:
        sys.exit("the demo failed: that was not one ranged GET of the right bytes")


def main() -> None:
    """Read the arguments and run the demo, with an S3 server of its own if no bucket is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="folder with your images; default: images made by the demo",
    )
    parser.add_argument(
        "--s3", metavar="s3://BUCKET/PREFIX", help="your bucket; default: a server on this machine"
    )
    arguments = parser.parse_args()
    if arguments.folder and arguments.folder.resolve().is_relative_to(OUT.resolve()):
        parser.error(f"each run deletes and remakes {OUT}: give a folder outside of it")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # so that each step is seen at once, also through a pipe
        sys.stdout.reconfigure(line_buffering=True)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    # before the other steps: it starts while images are made
    server = None if arguments.s3 else LocalServer(OUT)
    try:
        run(arguments, server)
    finally:
        if server is not None:
            server.stop()


def run(arguments: argparse.Namespace, server: LocalServer | None) -> None:
    """Run the steps; the S3 steps use the server, or the bucket of the user."""
    print(f"blobpack: the main job end to end, in {OUT}/")

    folder, tar = arguments.folder, OUT / "out.tar"
    if folder is None:
        folder = OUT / "imgs"
        with step(f"making {IMAGES:,} small images in {folder}/") as said:
            make_images(folder, IMAGES)
            said.append("JPEG and PNG, 64 x 48 pixels")

    with step(f"$ blobpack pack {folder}/ {tar}") as said:
        report = blobpack.pack(folder, tar)
        said.extend(str(report).splitlines())
    if not report.members:
        sys.exit(f"there are no images in {folder}")

    if shutil.which("tar"):
        with step(f"$ tar tvf {tar} | head -3        (any tar tool opens it)") as said:
            listed = subprocess.run(["tar", "tvf", tar], capture_output=True, text=True, check=True)
            said.extend(listed.stdout.splitlines()[:3])

    with step(f'>>> index = blobpack.open_blob("{tar}").index        (it is inside)') as said:
        index = blobpack.open_blob(tar).index
        said.append(f"{index!r}; the first: {next(iter(index))}")

    name = next((name for name in index.names if name.endswith(".jpg")), index.names[0])
    glob = f"*{Path(name).suffix}"
    offsets = OUT / "out_offsets.pkl"
    with step(f"$ blobpack offsets {tar} --filter '{glob}'") as said:
        kept = blobpack.write_offsets(index.select(glob), offsets)
        said.append(
            f"kept {kept:,} of {len(index):,} members: {offsets}, {offsets.stat().st_size:,} bytes"
        )

    with blobpack.open_blob(tar) as blob:
        with step(f'>>> blobpack.read_image(blob, "{name}")        (from disk)') as said:
            pixels = blobpack.read_image(blob, name)
            said.append(f"{pixels.shape} {pixels.dtype}, mean {pixels.mean():.1f}")
        original = decode_image((folder / name).read_bytes(), name)
        if not (pixels == original).all():
            sys.exit(f"the demo failed: {name} came back with other pixels")
        print("    the same pixels as the file in the folder")

    print("\nand from S3:")
    if server is None:
        read_from_s3(f"{arguments.s3.rstrip('/')}/out.tar", tar, name, pixels)
    else:
        server.wait()
        # credentials and a profile of the user must not reach the local server
        for variable in [variable for variable in os.environ if variable.startswith("AWS_")]:
            del os.environ[variable]
        os.environ.update(server.settings)
        import boto3

        print(f"    moto's S3 server, on loopback: {os.environ['AWS_ENDPOINT_URL_S3']}")
        boto3.client("s3").create_bucket(Bucket="demo")
        read_from_s3("s3://demo/out.tar", tar, name, pixels, server.log)
    command = Path(sys.executable).with_name("blobpack")
    print(f"\ndone. Everything is still in {OUT}/; try: {command} ls -l {tar} | head")


if __name__ == "__main__":
    main()
