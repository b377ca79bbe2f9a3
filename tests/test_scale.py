"""The figures of docs/guides/scale.md: counted in small runs on a real S3 server, and multiplied.

With BLOBPACK_REWRITE_DOCS, the tables are written to the page.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from webserver import WebServer

import blobpack
from blobpack.columns import Columns
from blobpack.indexfile.identity import COLLECTION_IDENTITY, Identity
from blobpack.indexfile.shard_table import Shard, encode_shards
from blobpack.indexfile.writer import write_sections
from blobpack.stores.s3.client import client_of
from blobpack.stores.s3.multipart import UPLOAD_PART_BYTES
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "scale.md"
REWRITE = "BLOBPACK_REWRITE_DOCS"
JPEG = b"\xff\xd8\xff\xe0"
TABLE = re.compile(r"^\| +\| one object.*?\n(?=\n)", re.MULTILINE | re.DOTALL)

# What the page assumes. Prices are those of S3 Standard in us-east-1, in dollars, as published in 2024.
IMAGES = 1_000_000_000
IMAGE_BYTES = 100_000
BLOBS = 10_000
USD_PER_1000_GETS = 0.0004
USD_PER_1000_PUTS = 0.005
USD_PER_GB_MONTH = 0.023
LATENCY_S = 0.030
IN_FLIGHT = 128
BYTES_PER_S = 1e9
BATCH = 256


@dataclass(frozen=True)
class Counted:
    """What small runs counted.

    Attributes:
        puts_of_a_blob: PUTs for a blob, besides one for each 8 MiB; with half of those for the collection.
        blob_bytes_of_an_image: Bytes of a blob for each image, besides its payload.
        gets_to_collect_a_blob: GETs of `collect` for a blob.
        index_bytes_of_an_image: Bytes that the collection has for each image.
        gets_to_open: GETs that open a large collection.
        gets_of_a_name: GETs that find a name, when nothing of the index is in memory.
        gets_of_a_batch: GETs of a batch of neighbours.
    """

    puts_of_a_blob: float
    blob_bytes_of_an_image: float
    gets_to_collect_a_blob: int
    index_bytes_of_an_image: float
    gets_to_open: int
    gets_of_a_name: int
    gets_of_a_batch: int


class Requests:
    """The requests of a block, without those that were sent again or twice."""

    def __enter__(self) -> Requests:
        self._before = blobpack.stats()
        return self

    def __exit__(self, *_: object) -> None:
        before, after = self._before, blobpack.stats()
        again = after.retried - before.retried + after.hedged - before.hedged
        self.puts = after.puts - before.puts
        self.gets = after.requests - before.requests - self.puts - again


def payloads(count: int) -> dict[str, bytes]:
    image = JPEG + bytes(IMAGE_BYTES - len(JPEG))
    return {f"train/{number:09}.jpg": image for number in range(count)}


def make_large(path: Path, blobs: int, members: int) -> None:
    """Write a collection whose directory and table of blobs do not fit into the first read."""
    numbers = np.arange(members)
    digits = numbers[:, None] // 10 ** np.arange(8, -1, -1) % 10 + ord("0")
    names = memoryview(digits.astype(np.uint8).tobytes())
    starts = numbers * 512
    columns = Columns(names, (np.arange(members + 1) * 9).data, starts.data, starts.data)
    shards = [
        Shard(
            f"{n:05}.tar", 0, members * (n + 1) // blobs, 1 << 40, 0, False, Identity(1 << 40, n, n)
        )
        for n in range(blobs)
    ]
    with path.open("w+b") as file:
        sink = FileSink(file)
        footer = write_sections(
            sink, [columns], None, identity=COLLECTION_IDENTITY, blobs=lambda: encode_shards(shards)
        )
        sink.write(footer.encode())


@pytest.fixture(params=["S3", "HTTP"])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a large collection."""
    make_large(tmp_path / "collection.idx", 3000, 600_000)
    if request.param == "S3":
        bucket = request.getfixturevalue("bucket")
        client_of().upload_file(str(tmp_path / "collection.idx"), bucket, "collection.idx")
        yield f"s3://{bucket}/collection.idx"
        return
    with WebServer(tmp_path) as server:
        yield f"{server.url}collection.idx"


def test_any_name_of_a_large_collection_takes_three_small_reads(large: str) -> None:
    for name, row in (("000000000", 0), ("000599999", 599_999), ("000314159", 314_159)):
        # nothing is in memory yet
        with Requests() as opening:
            collection = blobpack.open_collection(large)
        assert opening.gets <= 3
        before = collection.stats
        with collection, Requests() as looking:
            assert collection.index.row_of(name) == row
        # a page of the lookup, a page of the directory, a block
        assert looking.gets <= 3
        assert collection.stats.bytes_fetched - before.bytes_fetched < 32_000


def count(bucket: str, tmp_path: Path) -> Counted:
    """Pack, collect and read a few hundred images, and look a name up in a larger collection."""
    folder = f"s3://{bucket}/train"
    with Requests() as packing:
        packed = blobpack.pack_shards(payloads(2 * BATCH), folder, 26_000_000)
    with blobpack.open_collection(folder) as collection:
        sizes = [blob.bytes for blob in collection.blobs]
        with Requests() as reading:
            assert sum(map(len, collection.read_many(range(BATCH)))) == BATCH * IMAGE_BYTES
    parts = sum(-(-size // UPLOAD_PART_BYTES) for size in sizes)
    # as many members as a blob has; their payloads are not read
    many = f"s3://{bucket}/many.tar"
    empty = ((f"train/{number:09}.jpg", b"") for number in range(IMAGES // BLOBS))
    blobpack.pack(empty, many, all_files=True)
    with Requests() as collecting:
        blobpack.collect([many], tmp_path / "c.idx")
    large = tmp_path / "large.idx"
    make_large(large, 3000, 600_000)
    client_of().upload_file(str(large), bucket, "large.idx")
    with Requests() as opening:
        collection = blobpack.open_collection(f"s3://{bucket}/large.idx")
    with collection, Requests() as looking:
        collection.index.row_of("000314159")
    assert packed.shards == len(sizes) == 2
    return Counted(
        puts_of_a_blob=(packing.puts - parts) / 2,
        blob_bytes_of_an_image=sum(sizes) / packed.members - IMAGE_BYTES,
        gets_to_collect_a_blob=collecting.gets,
        index_bytes_of_an_image=large.stat().st_size / 600_000 + len("train/.jpg"),
        gets_to_open=opening.gets,
        gets_of_a_name=looking.gets,
        gets_of_a_batch=reading.gets,
    )


def table(counted: Counted) -> str:
    """Return the table of the page."""
    blob_bytes = IMAGES // BLOBS * (IMAGE_BYTES + counted.blob_bytes_of_an_image)
    puts = round(BLOBS * (blob_bytes // UPLOAD_PART_BYTES + 1 + counted.puts_of_a_blob))
    image_gb = IMAGES * IMAGE_BYTES / 1e9
    index_gb = IMAGES * counted.index_bytes_of_an_image / 1e9
    extra_gb = IMAGES * counted.blob_bytes_of_an_image / 1e9
    batch_gets = round(IMAGES / BATCH * counted.gets_of_a_batch)
    collect_gets = BLOBS * counted.gets_to_collect_a_blob
    rows = [
        ("", "one object for each image", "blobpack"),
        ("objects", f"{IMAGES:,}", f"{BLOBS + 1:,}"),
        ("upload, requests", puts_cost(IMAGES), puts_cost(puts)),
        ("upload, time", time_of(IMAGES), time_of(puts)),
        ("list all names, or collect them", lists_cost(IMAGES // 1000), gets_cost(collect_gets)),
        (
            "find one image by its name",
            "–",
            f"{counted.gets_to_open} GETs to open, {counted.gets_of_a_name} for the name",
        ),
        ("read it", "1 GET", "1 GET"),
        ("read all, in batches of neighbours", gets_cost(IMAGES), gets_cost(batch_gets)),
        ("read all, time", time_of(IMAGES), time_of(batch_gets)),
        ("read all, in random order", gets_cost(IMAGES), gets_cost(IMAGES)),
        ("images stored", stored(image_gb), stored(image_gb)),
        ("headers, padding and indexes in blobs", "–", stored(extra_gb)),
        ("file of the collection", "–", stored(index_gb)),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]]) + "\n"


def dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd < 100 else f"${usd:,.0f}"


def puts_cost(puts: int) -> str:
    return f"{puts:,} PUTs, {dollars(puts / 1000 * USD_PER_1000_PUTS)}"


def lists_cost(lists: int) -> str:
    hours = lists * LATENCY_S / 3600
    return f"{lists:,} LISTs, {dollars(lists / 1000 * USD_PER_1000_PUTS)}, {hours:.1f} hours"


def gets_cost(gets: int) -> str:
    return f"{gets:,} GETs, {dollars(gets / 1000 * USD_PER_1000_GETS)}"


def time_of(requests: int) -> str:
    """Return how long requests that move all images take: they wait for answers, or for bytes."""
    waits = requests * LATENCY_S / IN_FLIGHT / 3600
    moves = IMAGES * IMAGE_BYTES / BYTES_PER_S / 3600
    return f"{max(waits, moves):.0f} hours"


def stored(gigabytes: float) -> str:
    size = f"{gigabytes / 1000:,.1f} TB" if gigabytes >= 1000 else f"{gigabytes:,.0f} GB"
    return f"{size}, {dollars(gigabytes * USD_PER_GB_MONTH)} a month"


def test_the_page_shows_what_requests_cost(bucket: str, tmp_path: Path) -> None:
    shown = PAGE.read_text()
    came = TABLE.sub(lambda _: table(count(bucket, tmp_path)), shown)
    if os.environ.get(REWRITE):
        PAGE.write_text(came)
    assert TABLE.search(shown)
    assert PAGE.read_text() == came


def test_the_page_names_what_it_assumes() -> None:
    """Numbers in its text are those that the table is computed from."""
    text = " ".join(PAGE.read_text().split())
    for said in (
        f"{IMAGES:,} images of {IMAGE_BYTES // 1000} KB in {BLOBS:,} blobs",
        f"${USD_PER_1000_PUTS} for 1,000 PUTs or LISTs",
        f"${USD_PER_1000_GETS} for 1,000 GETs",
        f"${USD_PER_GB_MONTH} for a GB and month",
        f"{LATENCY_S * 1000:.0f} ms",
        f"{IN_FLIGHT} at a time",
        f"{BYTES_PER_S / 1e9:.0f} GB a second",
        f"batches of {BATCH}",
    ):
        assert said in text
