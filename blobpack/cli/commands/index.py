"""The command `blobpack index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack.cli.commands.index_places import blobs_in, index_targets, prepare
from blobpack.cli.commands.index_together import index_together, print_unheld
from blobpack.cli.opened import check_allow
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    force_option,
    json_option,
    threads_option,
)
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_note, print_report_line, progress_bar, progress_option
from blobpack.cli.remote import upload_options
from blobpack.cli.report import left_out_fields, print_json, print_left_out
from blobpack.foreign.table import FORMATS
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import INDEX
from blobpack.model import ForeignFormat
from blobpack.opening.blob_rows import BlobPart
from blobpack.quoting import one_line
from blobpack.stores.open import open_tar
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.readahead import Readahead
from blobpack.tar.scan import scan_store
from blobpack.wording import counted
from blobpack.writing.embed import embed_index, write_beside
from blobpack.writing.foreign_index import write_parts

if TYPE_CHECKING:
    from blobpack.model import ScanReport
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(is_read=False, prefix=True),
    metavar="FILE",
    help="Path or s3:// URL of the index, or a folder or prefix for BLOB.idx. If it is BLOB.idx beside BLOB, opening BLOB "
    "finds it.  [default: BLOB.idx beside a local blob; for a remote blob, its name with .idx in the current folder]",
)
@click.option(
    "--index",
    "place",
    type=click.Choice(["embed", "sidecar"]),
    default="sidecar",
    show_default=True,
    help="Where to write the index: into BLOB, behind the end of the tar, or into a file of its own.",
)
@click.option(
    "--format",
    type=click.Choice(get_args(ForeignFormat)),
    help="Write the index of another program instead. By default, its name is the one that this program looks for. "
    "energon-sqlite, kerchunk and wids write one file for all blobs. energon-sqlite and wids need -o.",
)
@click.option(
    "--facts",
    is_flag=True,
    help="Also read every payload, and record media type, width, height and checksum.",
)
@click.option(
    "--concatenated",
    is_flag=True,
    help="Continue the scan behind end-of-archive markers, for tars that were joined by cat.",
)
@allow_option
@threads_option("one for each processor, up to 8; a remote BLOB is scanned by one")
@force_option
@progress_option
@upload_options
@json_option
def index(
    blob: Location,
    output: Location | None,
    place: str,
    format: ForeignFormat | None,
    facts: bool,
    concatenated: bool,
    allow: tuple[Location, ...],
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Scan BLOB and write its index.

    With an index, BLOB opens at once; without one, it is scanned each time it is opened. `blobpack pack` writes an index
    by itself, so this command is for tars that other tools made. A tar in S3 is scanned without being stored on disk.

    If BLOB is a collection, or a folder, prefix or glob of blobs, each blob gets an index. If a blob can't be indexed,
    the command stops there. For blobs in S3, give -o: the blobs' own prefix, or a local folder.

    Some other programs find members by index files of their own. --format writes such a file. --index-file of other commands
    reads it.

    \b
    blobpack index foreign.tar
    blobpack index foreign.tar --index embed --facts
    blobpack index s3://bucket/foreign.tar -o foreign.idx
    blobpack index s3://bucket/tars/ -o s3://bucket/tars/
    blobpack index foreign.tar --format hfutils
    """
    embed = place == "embed"
    _check_usage(blob, output, format, embed=embed, facts=facts, concatenated=concatenated)
    several = blobs_in(blob, allow)
    check_allow(allow, several is not None)
    blobs = [blob] if several is None else several
    if format and FORMATS[format].several and (several is not None or not FORMATS[format].place):
        index_together(
            blobs, output, format, concatenated=concatenated, force=force, as_json=as_json
        )
        return
    if embed and not all(one.is_local for one in blobs):
        raise click.UsageError(f"--index embed is for local blobs, and {blob} has others")
    pairs = list(zip(blobs, _targets(blob, several, output, embed, format, force), strict=True))
    table, reports = [], []
    for one, target in pairs:
        row, report = _index_blob(
            one,
            target,
            embed=embed,
            format=format,
            facts=facts,
            concatenated=concatenated,
            threads=threads,
        )
        table.append(row)
        reports.append(report)
        if not as_json:
            members = counted(row["members"], "member")
            print_report_line(f"indexed {members}: {one_line(target.text)}")
        if format:
            print_unheld(row["members"] - row["rows"], format)
    if as_json:
        _print_as_json(table, several)
    else:
        _print_totals(table, is_local=blob.is_local, are_several=several is not None)
    for one, report in zip(blobs, reports, strict=True):
        where = "" if several is None else f"{one_line(one.text)}: "
        print_left_out(f"{where}without a row", report)


def _check_usage(
    blob: Location,
    output: Location | None,
    format: ForeignFormat | None,
    *,
    embed: bool,
    facts: bool,
    concatenated: bool,
) -> None:
    # An embedded index goes behind the first end-of-archive marker. In a concatenated tar, the next
    # members are there. An object in S3 can't be written in place.
    if embed and (output or concatenated or not blob.is_local):
        raise click.UsageError(
            "--index embed is for local blobs, and can't be combined with -o or --concatenated"
        )
    if format and (embed or facts):
        raise click.UsageError("--format can't be combined with --index embed or --facts")


def _targets(
    blob: Location,
    several: list[Location] | None,
    output: Location | None,
    embed: bool,
    format: ForeignFormat | None,
    force: bool,
) -> list[Location]:
    """Return where the index of each blob goes.

    All targets are checked before the first scan, which may take minutes.
    """
    blobs = [blob] if several is None else several
    if embed:
        return blobs
    kind = FORMATS[format].kind if format else INDEX
    named = FORMATS[format].beside if format else sidecar_of
    targets = index_targets(blob, several, output, named)
    for one, target in zip(blobs, targets, strict=True):
        prepare(one, target, kind, force=force, make_folder=several is not None)
    return targets


def _print_as_json(table: list[dict[str, Any]], several: list[Location] | None) -> None:
    if several is None:
        print_json(table[0])
        return
    rows = [{"blob": blob.text} | row for blob, row in zip(several, table, strict=True)]
    print_json({"blobs": len(rows), "members": _sum(table, "members"), "indexes": rows})


def _print_totals(table: list[dict[str, Any]], *, is_local: bool, are_several: bool) -> None:
    """Print how much was indexed, if there are several blobs, and how much of remote ones was read."""
    if are_several:
        members = counted(_sum(table, "members"), "member")
        print_report_line(f"indexed {members} of {counted(len(table), 'blob')}")
    if not is_local:
        print_note(
            f"scanned with {counted(_sum(table, 'requests'), 'request')} for {counted(_sum(table, 'bytes_read'), 'byte')}; "
            f"{'the blobs have' if are_several else 'the blob has'} {counted(_sum(table, 'blob_bytes'), 'byte')}"
        )


def _sum(table: list[dict[str, Any]], key: str) -> int:
    return sum(row[key] for row in table)


def _index_blob(
    blob: Location,
    target: Location,
    *,
    embed: bool,
    format: ForeignFormat | None,
    facts: bool,
    concatenated: bool,
    threads: int | None,
) -> tuple[dict[str, Any], ScanReport | None]:
    """Scan one blob and write its index; return what JSON says of it, and the report of the scan."""
    traffic: dict[str, int] = {}
    written: dict[str, object] = {}
    if embed:
        made = embed_index(target, facts=facts, threads=threads)
    else:
        with open_tar(blob) as store, progress_bar("B", store.size) as bar:
            # opened here and not by scan_store, for its progress and its counts
            reader = Readahead(store, progress=lambda position: bar.update(position - bar.n))
            made = scan_store(
                store, concatenated=concatenated, facts=facts, threads=threads, reader=reader
            )
            if format:
                part = BlobPart.of_store(store, made)
                written = {"rows": write_parts([part], target, format), "format": format}
            else:
                write_beside(store, made, target)
        warn_of_left_out(blob.text, made.report)
        # If members are small, a scan reads large windows; if they are large, only their headers.
        # The counts show how much was read, compared with the size of the blob.
        if not blob.is_local:
            traffic = {
                "blob_bytes": store.size,
                "bytes_read": reader.bytes_read,
                "requests": reader.requests,
                "retried": store.stats.retried,
            }
    fields = {
        "members": len(made),
        "index": target.text,
        "embedded": embed,
        **written,
        **left_out_fields(made.report),
        **traffic,
    }
    return fields, made.report
