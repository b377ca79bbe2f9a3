"""The command `blobpack extract`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from blobpack.cli.opened import opened_source, select
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    cache_option,
    index_option,
    json_option,
    rescan_option,
    selection_options,
)
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_report_line, progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import print_json, print_left_out
from blobpack.quoting import one_line
from blobpack.reading.extract import extract as library
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.model import Rescan
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.argument("folder", type=PathOrS3(is_read=False, prefix=True, file_okay=False))
@index_option
@rescan_option
@allow_option
@cache_option
@selection_options
@progress_option
@copy_options("folder")
@json_option
def extract(
    blob: Location,
    folder: Location,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    cache: str | None,
    cache_bytes: int,
    as_json: bool,
    **selection: Any,
) -> None:
    """Write members of BLOB as files below FOLDER, or as objects below an s3:// prefix.

    FOLDER is made if it does not exist. Existing files of the same names are replaced, each whole or not at all. A name
    that would lead out of FOLDER, by ".." or through a link, is an error, and nothing is written outside. All names are
    checked before the first file is written: that they are not too long, and that no two of them would be one file.
    Hard links stay hard links if FOLDER's file system supports them. BLOB may also be a collection.

    \b
    blobpack extract out.tar imgs/ --filter 'cats/*'
    """
    opened = opened_source(
        blob, index_path, rescan=rescan, allow=allow, cache=cache, cache_bytes=cache_bytes
    )
    selected = select(opened.index, **selection)
    with progress_shown("files") as progress:
        report = library(opened, folder, selected, progress=progress)
    if as_json:
        print_json({**asdict(report), "folder": folder.text})
    else:
        members, size = counted(report.members, "member"), counted(report.payload_bytes, "byte")
        print_report_line(f"extracted {members}, {size}, to {one_line(folder.text)}")
    print_left_out("not extracted", opened.index.report, folders=False)
