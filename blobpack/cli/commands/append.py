"""The command `blobpack append`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.naming import check_places, located, naming_options, skipped_table
from blobpack.cli.opened import is_same_file
from blobpack.cli.options import duplicates_option, json_option, packing_options
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import print_report
from blobpack.editing.append import append as library
from blobpack.editing.append_shard import collection_at
from blobpack.model import Property

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@click.argument("blob", type=PathOrS3(is_read=False, exists=True, prefix=True))
@click.argument("sources", nargs=-1, required=True, type=PathOrS3(prefix=True), metavar="SRC...")
@packing_options
@naming_options
@duplicates_option(
    "If BLOB already has a member of that name: refuse, or append it (last). Then reads find the last one."
)
@click.option(
    "--rescan", is_flag=True, help="Scan the headers of BLOB if its index does not fit it any more."
)
@click.option(
    "--drop",
    type=click.Choice(get_args(Property)),
    multiple=True,
    help="If BLOB is in S3: do without this property of the object, instead of copying it to the new one. Repeatable.",
)
@progress_option
@copy_options("blob")
@json_option
def append(
    blob: Location,
    sources: tuple[Location, ...],
    rescan: bool,
    as_json: bool,
    directory: Location | None,
    skipped_to: str | None,
    **options: Any,
) -> None:
    """Add images to BLOB, in place, or to a collection, as another blob.

    SRC is a folder, a file, or a prefix such as s3://bucket/imgs/. Members are named as by `blobpack pack`; see its
    --help. Existing members are neither moved nor read. If the command is killed at any moment, BLOB has either its old
    members or the old and the new ones. The index stays where it was: inside BLOB or beside it. In S3, the server copies
    the old bytes; only new ones are uploaded. The new object has the properties of the old one: headers, metadata, tags,
    ACL, storage class, encryption, retention.

    BLOB may be a collection: its file, or the folder or prefix that holds collection.idx. Then the images are packed into
    a new blob beside it, with the next free number as its name, and the collection is written anew.

    \b
    blobpack append out.tar more/
    blobpack append out.tar -C imgs/ cats dogs --prefix new/
    blobpack append s3://bucket/out.tar more/
    blobpack append shards/ more/
    blobpack append out.tar cats/0001.jpg cats/0002.jpg --duplicates last
    """
    places = located(sources, directory)
    # Other commands write to their last argument, so users easily swap the arguments here.
    if any(is_same_file(blob, place) for place in places):
        raise click.UsageError(f"{blob} is among the files to append: BLOB comes first")
    check_places(places)
    if options["drop"] and blob.is_local:
        raise click.UsageError("--drop needs a blob in S3")
    if (rescan or options["drop"]) and collection_at(blob) is not None:
        raise click.UsageError(
            f"--rescan and --drop are for a single blob, and {blob} is a collection"
        )
    with skipped_table(skipped_to, blob) as on_skipped, progress_shown("files") as progress:
        report = library(
            blob,
            # one folder alone gives other names than a list of one
            sources[0] if len(sources) == 1 else sources,
            directory=directory,
            on_skipped=on_skipped,
            stale="rescan" if rescan else "refuse",
            progress=progress,
            **options,
        )
    print_report(
        report,
        *("appended", "appended_bytes", "members", "blob_bytes", "skipped"),
        as_json=as_json,
        index_place=report.index_place,
        shard=report.shard,
    )
