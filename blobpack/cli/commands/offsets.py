"""The command `blobpack offsets`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from blobpack.cli.opened import (
    check_allow,
    check_output_name,
    is_same_file,
    name_here,
    opened_source,
    select,
)
from blobpack.cli.options import (
    allow_option,
    apple_double_option,
    blob_argument,
    force_option,
    index_option,
    json_option,
    rescan_option,
    selection_options,
)
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.remote import upload_options
from blobpack.cli.report import print_json, print_left_out
from blobpack.errors import BlobpackError
from blobpack.index.tables.offsets import OFFSETS_KINDS, format_of, offsets_path
from blobpack.model import NameStyle, OffsetsFormat, Rescan
from blobpack.opening.find_index import whole_index
from blobpack.opening.kind import collection_location, kind_of, means_folder
from blobpack.opening.open_blob import open_blob
from blobpack.quoting import one_line
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.stores.replace import check_replaceable
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.names import without_apple_double
from blobpack.tar.scan import scan_store
from blobpack.wording import counted
from blobpack.writing.beside import unchanged
from blobpack.writing.offsets import write_offsets

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.stores.base import Store


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(is_read=False, prefix=True, allow_dash=True),
    metavar="FILE",
    help="Path or s3:// URL of the offsets file, or a folder or prefix for it; - writes to stdout.  [default: "
    "<stem>_offsets.pkl beside a local blob; for a remote blob in the current folder, if no such file exists there]",
)
@click.option(
    "--names",
    type=click.Choice(get_args(NameStyle)),
    default="path",
    show_default=True,
    help="The name in each row: the member's whole name, or only the part after its last /, as Supervisely expects.",
)
@click.option(
    "--format",
    type=click.Choice(get_args(OffsetsFormat)),
    help="Supervisely's pickle batches (pkl); or CSV, JSON lines or Parquet, which also hold the facts of the index.  "
    "[default: by the suffix of FILE, else pkl]",
)
@force_option
@apple_double_option
@index_option
@rescan_option
@allow_option
@selection_options
@upload_options
@json_option
def offsets(
    blob: Location,
    output: Location | None,
    names: NameStyle,
    format: OffsetsFormat | None,
    force: bool,
    apple_double: bool,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    as_json: bool,
    **selection: Any,
) -> None:
    """Write the start and end of each member's payload in BLOB.

    Any program can then read a member: it is the bytes offset_start to offset_end, end excluded. Options select
    members; a member is written if it meets all of them. If BLOB is a collection, or a folder, prefix or glob of blobs,
    there is one file for each blob in the folder FILE, or one table with a column for the blob.

    \b
    blobpack offsets out.tar --filter '*.jpg'
    blobpack offsets out.tar --min-size 4k --format csv -o - | head
    blobpack offsets out.tar --media-type 'image/*' -o out.parquet
    """
    format = format or format_of(output.whole if output else "")
    table = _Table(names, format, force, apple_double, selection)
    write = _write_one if kind_of(blob) == "blob" else _write_many
    kept = write(blob, output, table, index_path=index_path, rescan=rescan, allow=allow)
    _print_kept(kept, format, as_json=as_json)
    warn_of_left_out(kept.url, kept.members.report)
    print_left_out("without offsets", kept.members.report)


class _Table(NamedTuple):
    """The table to write, as the options describe it."""

    names: NameStyle
    format: OffsetsFormat
    force: bool
    apple_double: bool
    selection: dict[str, Any]

    def choose(self, index: Index) -> tuple[Index, Index]:
        """Return the members that the options select, and those of them that are written."""
        selected = select(index, **self.selection)
        # by their names they are images, and who reads offsets does not look into them; `pack` leaves them out, too
        return selected, selected if self.apple_double else without_apple_double(selected)


class _Kept(NamedTuple):
    """Members that were selected and written, and the output.

    Attributes:
        url: Path or URL of the blob or blobs.
        members: All members.
        selected: Those that the options select.
        written: Those that were written.
        where: Path or URL of the output; None for stdout.
    """

    url: str
    members: Index
    selected: Index
    written: Index
    where: str | None


def _write_one(
    blob: Location,
    output: Location | None,
    table: _Table,
    *,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
) -> _Kept:
    """Write the offsets of one blob."""
    check_allow(allow, is_collection=False)
    target = None if _is_stdout(output) else _file_of(blob, output, table.format)
    if target is not None:
        _check_file(blob, target, table, is_named=output is not None)
    store, index = _opened(blob, index_path, rescan)
    selected, chosen = table.choose(index)
    names, format, force = table[:3]
    with unchanged(store, target) if target else nullcontext():
        write_offsets(chosen, target or sys.stdout.buffer, names, format=format, force=force)
    return _Kept(store.url, index, selected, chosen, target.text if target else None)


def _check_file(blob: Location, target: Location, table: _Table, *, is_named: bool) -> None:
    """Check that the offsets file of a blob may be written, before a scan, which may take minutes."""
    # two remote blobs may have the same name, so a file that exists here may belong to another one
    if not is_named and not blob.is_local and os.path.exists(target):  # noqa: PTH110 (a path of any kind)
        raise click.UsageError(
            f"{target} may belong to another blob, and is not replaced: name a file with -o"
        )
    if is_same_file(target, blob):
        raise click.UsageError(f"{target} is the blob itself")
    check_output_name("-o", target, OFFSETS_KINDS[table.format], force=table.force)
    check_replaceable(target, OFFSETS_KINDS[table.format], force=table.force)


def _opened(
    blob: Location, index_path: Location | None, rescan: Rescan | None
) -> tuple[Store, Index]:
    """Open a blob until the command ends, and find or make its index."""
    if index_path and not rescan:
        opened = click.get_current_context().with_resource(open_blob(blob, index_path))
        return opened.store, opened.index
    # Not open_blob, which would also read an existing offsets file: that may hold only some of the members, and the new
    # one would lack the rest.
    store = click.get_current_context().with_resource(open_tar(blob, tail=True))
    if rescan:
        return store, scan_store(store, concatenated=rescan == "concatenated")
    return store, whole_index(store)


def _file_of(blob: Location, output: Location | None, format: OffsetsFormat) -> Location:
    """Return the offsets file of one blob: the one that is named, or one in the folder that is named, or beside the blob."""
    if output and not means_folder(output):
        return output
    beside = offsets_path(name_here(blob), format)
    return output.as_folder.below(beside.name) if output else Location(str(beside), "local")


def _write_many(
    blobs: Location,
    output: Location | None,
    table: _Table,
    *,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
) -> _Kept:
    """Write the offsets of many blobs, into a folder or one table."""
    source = opened_source(blobs, index_path, rescan=rescan, allow=allow)
    if output is None and not blobs.is_local:
        raise click.UsageError(f"{blobs}: name a folder or a table for the offsets with -o")
    # beside the blobs
    target = output or collection_location(blobs, kind_of(blobs)).folder
    selected, chosen = table.choose(source.index)
    names, format, force = table[:3]
    to_stdout = _is_stdout(output)
    if not to_stdout and not means_folder(target):
        check_output_name("-o", target, OFFSETS_KINDS[format], force=force)
    file = sys.stdout.buffer if to_stdout else target
    try:
        write_offsets(source, file, names, format=format, members=chosen, force=force)
    except BlobpackError:
        raise
    # one pickle of many blobs
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return _Kept(source.url, source.index, selected, chosen, None if to_stdout else target.text)


def _is_stdout(output: Location | None) -> bool:
    return output is not None and output.whole == "-"


def _print_kept(kept: _Kept, format: OffsetsFormat, *, as_json: bool) -> None:
    """Print how many members were written."""
    to_stdout, where = kept.where is None, kept.where or "stdout"
    rows, members = len(kept.written), len(kept.members)
    # if stdout carries the rows, the report must not be among them
    if as_json:
        fields = {"members": members, "rows": rows, "offsets": where, "format": format}
        print_json(fields, err=to_stdout)
    else:
        count = f"{rows:,}" if rows else "none"
        (print_note if to_stdout else print_report_line)(
            f"kept {count} of {counted(members, 'member')}: {one_line(where)}"
        )
    left_out = len(kept.selected) - rows
    if left_out:
        print_note(
            f"left out: {counted(left_out, 'AppleDouble file')} of macOS, ._*; --apple-double keeps them"
        )
