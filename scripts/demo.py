"""Pack, select, read one image from disk and one from S3, and show what each step did."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import blobpack
from blobpack.reading.image import decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Path("demo-out")
IMAGES = 4000
SERVER = Path(__file__).with_name("s3-server")


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Print what is done, then what came of it and how long it took."""
    print(f"\n\033[1m{what}\033[0m" if sys.stdout.isatty() else f"\n{what}")
    said: list[str] = []
    began = time.perf_counter()
    yield said
    took = time.perf_counter() - began
    for line in said:
        print(f"    {line}")
    print(f"    took {took:.3f} s" if took >= 0.1 else f"    took {took * 1000:.2f} ms")


def make_images(folder: Path, count: int) -> None:
    """Make small JPEG and PNG images, the same ones every time."""
    rng = np.random.default_rng(7)
    for i in range(count):
        kind = "dogs" if i % 2 else "cats"
        path = folder / kind / f"{i:04}.{'png' if i % 4 == 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)


def start_s3(folder: str) -> dict[str, str] | None:
    """Start a real S3 server on loopback; its environment variables, None if it can't be installed."""
    if shutil.which("radosgw") is None:
        print("    installing a real S3 server (Ceph RGW, about 290 MB; the first time only) …")
    done = subprocess.run([SERVER, "start", folder], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def read_from_s3(url: str, tar: Path, name: str, expected: np.ndarray[Any, Any]) -> None:
    """Upload the blob, open it without downloading it, and read one image of it by one ranged GET."""
    import boto3

    bucket, _, key = url.removeprefix("s3://").partition("/")
    with step(f"$ aws s3 cp {tar} {url}") as said:
        boto3.client("s3").upload_file(str(tar), bucket, key)
        said.append(f"{tar.stat().st_size:,} bytes")
    with step(f'>>> blob = blobpack.open_blob("{url}")') as said:
        blob = blobpack.open_blob(url)
        said.append(f"{blob!r}, ETag {blob.store.version}")
    blob.index.row_of(name)  # from afar, the index is read where it is asked
    before = blob.stats
    with blob, step(f'>>> blobpack.read_image(blob, "{name}")') as said:
        pixels = blobpack.read_image(blob, name)
        same = "the same pixels as from disk" if (pixels == expected).all() else "OTHER PIXELS"
        requests = blob.stats.requests - before.requests
        said.append(f"{pixels.shape} {pixels.dtype}, {same}")
        said.append(
            f"{requests} ranged GET, {blob.stats.bytes_fetched - before.bytes_fetched:,} bytes"
        )
    if requests != 1 or "OTHER" in same:
        sys.exit("the demo failed: that was not one ranged GET of the right bytes")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="your images; default: some made here")
    parser.add_argument(
        "--s3", metavar="s3://BUCKET/PREFIX", help="your bucket; default: a server here"
    )
    arguments = parser.parse_args()
    if arguments.folder and arguments.folder.resolve().is_relative_to(OUT.resolve()):
        parser.error(f"{OUT} is made anew by each run: give a folder outside of it")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
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
    if arguments.s3:
        read_from_s3(f"{arguments.s3.rstrip('/')}/out.tar", tar, name, pixels)
    else:
        with tempfile.TemporaryDirectory(prefix="blobpack-demo-") as server:
            environment = start_s3(server)
            if environment is None:
                print(
                    "    no S3 server could be installed here (see above). With a bucket of yours:"
                )
                print("    scripts/demo --s3 s3://your-bucket/some/prefix")
                return
            try:
                os.environ.update(environment)
                import boto3

                print(f"    a real one on loopback: {environment['AWS_ENDPOINT_URL_S3']}")
                boto3.client("s3").create_bucket(Bucket="demo")
                read_from_s3("s3://demo/out.tar", tar, name, pixels)
            finally:
                subprocess.run([SERVER, "stop", server], check=False)
    command = Path(sys.executable).with_name("blobpack")
    print(f"\ndone. Everything is still in {OUT}/; try: {command} ls -l {tar} | head")


if __name__ == "__main__":
    main()
