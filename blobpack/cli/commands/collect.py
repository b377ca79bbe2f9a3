"""The command `blobpack collect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import check_output_name
from blobpack.cli.options import concatenated_option, duplicates_option, force_option, json_option
from blobpack.cli.params import BlobUrl, PathOrS3
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import upload_options
from blobpack.cli.report import print_report
from blobpack.collection.collect import collect as library
from blobpack.indexfile.open import COLLECTION

if TYPE_CHECKING:
    from blobpack.model import Duplicates
    from blobpack.stores.location import Location


@click.command()
@click.argument("blobs", nargs=-1, required=True, type=BlobUrl(), metavar="BLOBS...")
@click.option(
    "-o",
    "--output",
    type=PathOrS3(is_read=False),
    metavar="FILE",
    help="Path or s3:// URL of the collection.  [default: collection.idx in the folder of BLOBS]",
)
@duplicates_option(
    "If two blobs have a member of the same name: refuse, or find the member in the last blob (last)."
)
@click.option(
    "--add",
    is_flag=True,
    help="Keep what the collection has, and add the blobs that are not in it yet.",
)
@click.option("--scan", is_flag=True, help="Scan blobs that have no index, instead of failing.")
@concatenated_option
@force_option
@progress_option
@upload_options
@json_option
def collect(
    blobs: tuple[Location, ...],
    output: Location | None,
    duplicates: Duplicates,
    add: bool,
    scan: bool,
    concatenated: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make one collection of many blobs.

    BLOBS is a folder, a prefix in S3, a glob, or several blobs. A collection is one index of all their members, so any
    name is found without opening the blobs. Commands that read a BLOB then also take the collection: its file, or its
    folder with a "/" at the end. They read blobs outside that folder only if --allow names their place.

    \b
    blobpack collect shards/
    blobpack collect shards/ --add
    blobpack collect 's3://bucket/train/*.tar'
    blobpack cat s3://bucket/train/ cats/0001.jpg > cat.jpg
    """
    # For one folder, prefix or glob, the collection goes there. Several blobs may lie in different
    # places.
    if len(blobs) > 1 and output is None:
        raise click.UsageError("several BLOBS need -o FILE, the collection to write")
    if output and not (output.is_local or output.has_key):
        raise click.UsageError(
            f"-o is a path, or a URL that can be written to, such as s3://bucket/key, but {output} is neither"
        )
    if output:
        check_output_name("-o", output, COLLECTION, force=force)
    with progress_shown("blobs") as progress:
        report = library(
            blobs[0] if len(blobs) == 1 else blobs,
            output,
            duplicates=duplicates,
            add=add,
            scan=scan,
            concatenated=concatenated,
            force=force,
            progress=progress,
        )
    print_report(
        report,
        *("blobs", "members", "payload_bytes", "collection_bytes"),
        as_json=as_json,
        collection=report.url,
        with_members_behind=report.members_behind,
    )
