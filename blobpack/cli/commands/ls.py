"""The command `blobpack ls`."""

from __future__ import annotations

import sys
from itertools import repeat
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.listing import (
    blobs_of,
    csv_line,
    encoded,
    fields_of,
    json_line,
    long_line,
    name_line,
    sort,
)
from blobpack.cli.opened import opened_source, select
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    index_option,
    rescan_option,
    selection_options,
)
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_left_out
from blobpack.model import SortKey
from blobpack.stores.descriptor import never_short

if TYPE_CHECKING:
    from blobpack.cli.listing import Line
    from blobpack.model import Rescan
    from blobpack.opening.reader import Reader
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "-l",
    "--long",
    "form",
    flag_value="long",
    help="Print before each name its size and offset_start in bytes, and the facts of the index: media type, width and "
    "height as shown, CRC-32C, and modification time (UTC).",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object on each line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, with a line of column names.")
@click.option(
    "--human", is_flag=True, help="With --long, print sizes in units of 1,024 bytes, such as 3.4K."
)
@click.option(
    "--sort",
    "key",
    type=click.Choice(get_args(SortKey)),
    help="Sort by this value, smallest first.  [default: archive order]",
)
@click.option("-r", "--reverse", is_flag=True, help="With --sort, print the largest first.")
@click.option("-0", "--null", is_flag=True, help="End each line with NUL instead of a newline.")
@index_option
@rescan_option
@allow_option
@selection_options
@remote_options
def ls(
    blob: Location,
    form: str | None,
    human: bool,
    key: SortKey | None,
    reverse: bool,
    null: bool,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    **selection: Any,
) -> None:
    """List the members of BLOB, in archive order.

    Options select members; a member is listed if it meets all of them. JSON and CSV hold name, size, offset_start,
    offset_end, and the facts of the index; null and an empty cell stand for an unknown value. BLOB may also be a
    collection, or a folder, prefix or glob of blobs. Then JSON, CSV and --long also have the blob of each member.

    \b
    blobpack ls out.tar --filter 'cats/*' -l
    blobpack ls out.tar --long --human --sort size --reverse | head
    blobpack ls s3://bucket/train/ --csv > members.csv
    """
    if human and form != "long":
        raise click.UsageError("--human needs --long")
    if reverse and not key:
        raise click.UsageError("--reverse needs --sort")
    # Bytes, because a name may hold any. Written here, because click.echo flushes each line and takes several times as
    # long. A name may also hold a newline: --null is for `xargs -0`.
    out = never_short(sys.stdout.buffer)
    end = b"\0" if null else b"\n"
    source = opened_source(blob, index_path, rescan=rescan, allow=allow)
    members = select(source.index, **selection)
    if key:
        try:
            members = sort(members, key, reverse=reverse)
        except ValueError as exc:
            raise click.UsageError(f"--sort {key}: {exc}") from exc
    if form == "csv":
        out.write(encoded(",".join(fields_of(source))) + end)
    line = _line(source, form, human=human, quoting=sys.stdout.isatty() and not null)
    for member, name in zip(members, blobs_of(source, members) if form else repeat("")):  # noqa: B905
        out.write(line(member, name) + end)
    # here, so that main.py reports a full disk; at exit, Python's own flush would fail outside of its error handling
    out.flush()
    print_left_out("not listed", source.index.report, folders=False)


def _line(source: Reader, form: str | None, *, human: bool, quoting: bool) -> Line:
    """Return the function that makes a member's line, in the form that was asked for."""
    if form == "json":
        return json_line(source)
    if form == "csv":
        return csv_line(source)
    if form == "long":
        return long_line(source, human=human, quoting=quoting)
    return name_line(quoting=quoting)
