"""The command `blobpack ls`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from blobpack.cli.opened import opened_source, select
from blobpack.cli.options import blob_argument, index_option, rescan_option, selection_options
from blobpack.cli.report import print_left_out
from blobpack.quoting import quoted
from blobpack.stores.descriptor import never_short

if TYPE_CHECKING:
    from blobpack.model import Rescan
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "-l", "--long", is_flag=True, help="Print size, offset_start and offset_end before each name."
)
@click.option("-0", "--null", is_flag=True, help="End each name with NUL instead of a newline.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object a line: name, offset_start, offset_end.",
)
@index_option
@rescan_option
@selection_options
def ls(
    blob: Location,
    long: bool,
    null: bool,
    as_json: bool,
    index_path: Location | None,
    rescan: Rescan | None,
    **selection: Any,
) -> None:
    """List the members of BLOB, in archive order.

    Options select members; a member is listed if it meets all of them. BLOB may also be a collection.

    \b
    blobpack ls out.tar --filter 'cats/*' -l
    """
    # Bytes, because a name may hold any. Written here, because click.echo flushes each line and takes several times as
    # long. A name may also hold a newline: --null is for `xargs -0`.
    out = never_short(sys.stdout.buffer)
    end = b"\0" if null else b"\n"
    # as GNU ls does, so that a name can't control the terminal; a program that reads from a pipe gets names as they are
    quoting = sys.stdout.isatty() and not null
    index = opened_source(blob, index_path, rescan=rescan).index
    for member in select(index, **selection):
        shown = quoted(member.name) if quoting else member.name
        name = shown.encode("utf-8", "surrogateescape")
        if as_json:
            fields = {
                "name": member.name,
                "offset_start": member.offset_start,
                "offset_end": member.offset_end,
            }
            out.write(json.dumps(fields).encode() + end)
        elif long:
            out.write(
                b"%12d %14d %14d " % (member.size, member.offset_start, member.offset_end)
                + name
                + end
            )
        else:
            out.write(name + end)
    # here, so that main.py reports a full disk; at exit, Python's own flush would fail outside of its error handling
    out.flush()
    print_left_out("not listed", index.report, folders=False)
