"""`blobpack collect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.options import duplicates_option, progress_bar
from blobpack.cli.params import BlobUrl
from blobpack.cli.report import print_report
from blobpack.collection.collect import collect as library

if TYPE_CHECKING:
    from blobpack.model import Duplicates
    from blobpack.stores.location import Location


@click.command()
@click.argument("blobs", nargs=-1, required=True, type=BlobUrl(), metavar="BLOBS...")
@click.option(
    "-o",
    "--output",
    type=BlobUrl(),
    metavar="FILE",
    help="Where to, a path or s3:// URL.  [default: collection.idx in the folder of BLOBS]",
)
@duplicates_option("A name in two blobs: refuse it, or find the member of the last blob.")
@click.option("--scan", is_flag=True, help="Scan blobs that have no index.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def collect(
    blobs: tuple[Location, ...],
    output: Location | None,
    duplicates: Duplicates,
    scan: bool,
    as_json: bool,
) -> None:
    """Make BLOBS, a folder, a prefix, a glob or several blobs, one collection, in which any name is found at once.

    A collection's file, or its folder with a "/" at the end, is then a BLOB for cat, ls and extract.

    \b
    blobpack collect shards/
    blobpack collect 's3://bucket/train/*.tar'
    blobpack cat s3://bucket/train/ cats/0001.jpg > cat.jpg
    """
    if len(blobs) > 1 and output is None:
        raise click.UsageError("several BLOBS need -o")
    if output and not (output.is_local or output.is_s3):
        raise click.UsageError(f"-o is a path or an s3:// URL, and {output} is neither")
    with progress_bar("blobs") as bar:
        report = library(
            blobs[0] if len(blobs) == 1 else blobs,
            output,
            duplicates=duplicates,
            scan=scan,
            progress=lambda *_: bar.update(1),
        )
    print_report(
        report,
        *("blobs", "members", "payload_bytes", "collection_bytes"),
        as_json=as_json,
        collection=report.url,
    )
