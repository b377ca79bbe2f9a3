"""The command `blobpack merge`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import check_output_name, opened_if_allowed
from blobpack.cli.options import (
    allow_option,
    concatenated_option,
    duplicates_option,
    empty_option,
    force_option,
    json_option,
)
from blobpack.cli.params import BlobUrl, PlainTar
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import place_option, print_combined
from blobpack.editing.merge import merge as library
from blobpack.opening.kind import kind_of
from blobpack.writing.target import TAR

if TYPE_CHECKING:
    from blobpack.model import Duplicates, IndexPlace
    from blobpack.stores.location import Location


@click.command()
@click.argument("blobs", nargs=-1, required=True, type=BlobUrl(), metavar="BLOB...")
@click.argument("out", type=PlainTar(dir_okay=False))
@concatenated_option
@allow_option
@duplicates_option("If several members have the same name: refuse, or copy only the last one.")
@place_option
@empty_option
@force_option
@progress_option
@copy_options("out")
@json_option
def merge(
    blobs: tuple[Location, ...],
    out: Location,
    concatenated: bool,
    allow: tuple[Location, ...],
    duplicates: Duplicates,
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Copy the members of several blobs into one new blob, OUT.

    BLOB is a blob, a collection, or a folder, prefix or glob of blobs. Members are copied in the order of the BLOBs,
    headers included, and their indexes are joined without a scan. OUT is a path or an s3:// URL. It appears whole or not
    at all, and replaces an existing blob.

    \b
    blobpack merge cats.tar dogs.tar all.tar
    blobpack merge shards/ s3://bucket/all.tar
    """
    check_output_name("OUT", out, TAR, force=force)
    # If OUT was forgotten, `merge a.tar b.tar` would replace b.tar with the members of a.tar.
    is_one = len(blobs) == 1 and kind_of(blobs[0]) == "blob"
    if is_one and out.is_local and os.path.exists(out.path):  # noqa: PTH110
        raise click.UsageError(
            f"{out} exists and would be replaced by a copy of {blobs[0]}: OUT comes last"
        )
    if concatenated and any(kind_of(blob) == "collection" for blob in blobs):
        raise click.UsageError(
            "--concatenated scans blobs, and a collection has its index: give its folder, or its blobs"
        )
    sources = opened_if_allowed(blobs, allow)
    with progress_shown("members") as progress:
        report = library(
            sources,
            out,
            concatenated=concatenated,
            duplicates=duplicates,
            index=place,
            allow_empty=allow_empty,
            force=force,
            progress=progress,
        )
    print_combined(report, out, as_json=as_json)
