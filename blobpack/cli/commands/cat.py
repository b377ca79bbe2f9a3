"""The command `blobpack cat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from blobpack.cli.completion.names import complete_member
from blobpack.cli.opened import opened_source
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    cache_option,
    index_option,
    rescan_option,
)
from blobpack.cli.remote import remote_options
from blobpack.stores.descriptor import never_short

if TYPE_CHECKING:
    from blobpack.model import Rescan
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_member)
@index_option
@rescan_option
@allow_option
@cache_option
@remote_options
def cat(
    blob: Location,
    names: tuple[str, ...],
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    cache: str | None,
    cache_bytes: int,
) -> None:
    """Write the payloads of members to stdout, one after the other.

    BLOB may also be a collection: its file, or its folder or prefix with a "/" at the end.

    \b
    blobpack cat out.tar cats/0001.jpg > cat.jpg
    blobpack cat s3://bucket/train/ cats/0001.jpg > cat.jpg
    blobpack cat s3://bucket/out.tar cats/0001.jpg --index-file out_offsets.pkl > cat.jpg
    """
    # payloads are bytes; sys.stdout itself takes only text
    out = never_short(sys.stdout.buffer)
    source = opened_source(
        blob, index_path, rescan=rescan, allow=allow, cache=cache, cache_bytes=cache_bytes
    )
    # one batch for all names: from S3, near members take one request
    for payload in source.read_many(names):
        out.write(payload)
    # here, so that main.py reports a full disk; at exit, Python's own flush would fail outside of its error handling
    out.flush()
