"""The command `blobpack subset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blobpack.cli.opened import check_output_name, opened_source, select
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    empty_option,
    force_option,
    index_option,
    json_option,
    rescan_option,
    selection_options,
)
from blobpack.cli.params import PlainTar
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import place_option, print_combined
from blobpack.editing.merge import subset as library
from blobpack.writing.target import TAR

if TYPE_CHECKING:
    from blobpack.model import IndexPlace, Rescan
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.argument("out", type=PlainTar(dir_okay=False))
@index_option
@rescan_option
@allow_option
@selection_options
@place_option
@empty_option
@force_option
@progress_option
@copy_options("out")
@json_option
def subset(
    blob: Location,
    out: Location,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """Copy selected members of BLOB into a new blob, OUT.

    BLOB may also be a collection, or a folder, prefix or glob of blobs. Options select members; a member is copied,
    header included, if it meets all of them. OUT is a path or an s3:// URL. It appears whole or not at all, and replaces
    an existing blob.

    \b
    blobpack subset out.tar cats.tar --filter 'cats/*'
    blobpack subset s3://bucket/out.tar small.tar --max-size 50k
    """
    check_output_name("OUT", out, TAR, force=force)
    opened = opened_source(blob, index_path, rescan=rescan, allow=allow)
    members = select(opened.index, **selection)
    with progress_shown("members") as progress:
        report = library(
            opened,
            out,
            members,
            index=place,
            allow_empty=allow_empty,
            force=force,
            progress=progress,
        )
    print_combined(report, out, as_json=as_json)
