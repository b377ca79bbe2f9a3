"""`blobpack offsets`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.opened import is_same_file, select
from blobpack.cli.options import blob_argument, rescan_option, selection_options
from blobpack.cli.params import LocalPath
from blobpack.index.offsets import format_of, offsets_path, write_offsets
from blobpack.model import NameStyle, OffsetsFormat
from blobpack.reading.find_index import whole_index
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=LocalPath(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to; - for stdout.  [default: <stem>_offsets.pkl beside a local blob; of another, in this folder, "
    "where none is replaced]",
)
@click.option(
    "--names",
    type=click.Choice(get_args(NameStyle)),
    default="path",
    show_default=True,
    help="Rows carry the member's name, or what stands behind its last / (what Supervisely imports).",
)
@click.option(
    "--format",
    type=click.Choice(get_args(OffsetsFormat)),
    help="Supervisely's pickle batches; or CSV, JSON lines or Parquet, with the facts that the index has.  "
    "[default: by FILE's suffix, else pkl]",
)
@rescan_option
@selection_options
def offsets(
    blob: Location,
    output: str | None,
    names: NameStyle,
    format: OffsetsFormat | None,
    rescan: bool,
    **selection: Any,
) -> None:
    """Write where in BLOB each member's payload starts and ends.

    \b
    blobpack offsets out.tar --filter '*.jpg'
    blobpack offsets out.tar --min-size 4k --format csv -o - | head
    blobpack offsets out.tar --media-type 'image/*' -o out.parquet
    """
    to_stdout = output == "-"
    format = format or format_of(output or "")
    target = output or str(offsets_path(blob.path_or_name, format))
    if not output and not blob.is_local and os.path.exists(target):  # noqa: PTH110 (a path of any kind)
        raise click.UsageError(f"{target} may be another blob's, and is not replaced: say -o")
    if not to_stdout and is_same_file(target, blob.path_or_name):
        raise click.UsageError(f"{target} is the blob itself")
    store = click.get_current_context().with_resource(open_tar(blob, tail=True))
    index = scan_store(store) if rescan else whole_index(store)
    chosen = select(index, **selection)
    write_offsets(
        chosen,
        sys.stdout.buffer if to_stdout else target,
        names=names,
        format=format,
    )
    where = "stdout" if to_stdout else target
    kept = (
        f"{len(chosen):,} of {len(index):,} members"
        if len(chosen)
        else f"none of {len(index):,} members"
    )
    click.echo(f"kept {kept}: {where}", err=to_stdout)
    if index.report and (without := index.report.without_row()):
        listed = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in without.items())
        click.echo(f"without offsets: {listed}", err=True)
