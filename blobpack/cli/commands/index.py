"""The command `blobpack index`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from blobpack.cli.opened import check_allow, check_output_name, is_same_file, name_here
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
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import INDEX
from blobpack.model import redacted
from blobpack.opening.collection import open_collection
from blobpack.opening.kind import collection_location, kind_of, means_folder
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.locations import check_allowed, name_from
from blobpack.quoting import one_line
from blobpack.stores.location import Location, is_absolute
from blobpack.stores.open import open_tar
from blobpack.stores.output import translate_write_errors
from blobpack.stores.replace import check_replaceable
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.header import check_name, encode_name
from blobpack.tar.readahead import Readahead
from blobpack.tar.scan import scan_store
from blobpack.wording import counted
from blobpack.writing.embed import embed_index, write_beside

if TYPE_CHECKING:
    from blobpack.model import ScanReport


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

    \b
    blobpack index foreign.tar
    blobpack index foreign.tar --index embed --facts
    blobpack index s3://bucket/foreign.tar -o foreign.idx
    blobpack index s3://bucket/tars/ -o s3://bucket/tars/
    """
    # An embedded index goes behind the first end-of-archive marker. In a concatenated tar, the next
    # members are there. An object in S3 can't be written in place.
    embed = place == "embed"
    if embed and (output or concatenated or not blob.is_local):
        raise click.UsageError(
            "--index embed is for local blobs, and can't be combined with -o or --concatenated"
        )
    several = _blobs_in(blob, allow)
    check_allow(allow, several is not None)
    if embed and not all(one.is_local for one in several or ()):
        raise click.UsageError(f"--index embed is for local blobs, and {blob} has others")
    blobs = [blob] if several is None else several
    targets = blobs if embed else _targets(blob, several, output)
    pairs = list(zip(blobs, targets, strict=True))
    if not embed:
        # all of them before the first scan, which may take minutes
        for one, target in pairs:
            _prepare(one, target, force=force, make_folder=several is not None)
    table, reports = [], []
    for one, target in pairs:
        row, report = _index_blob(
            one, target, embed=embed, facts=facts, concatenated=concatenated, threads=threads
        )
        table.append(row)
        reports.append(report)
        if not as_json:
            members = counted(row["members"], "member")
            print_report_line(f"indexed {members}: {one_line(target.text)}")
    if as_json:
        _print_as_json(table, several)
    else:
        _print_totals(table, is_local=blob.is_local, are_several=several is not None)
    for (one, _), report in zip(pairs, reports, strict=True):
        where = "" if several is None else f"{one_line(one.text)}: "
        print_left_out(f"{where}without a row", report)


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


def _blobs_in(location: Location, allow: tuple[Location, ...]) -> list[Location] | None:
    """Return the blobs of a folder, prefix, glob or collection; None for a single blob.

    Raises:
        UnsafeNameError: a collection names a blob that is neither below its own folder nor in an allowed place.
    """
    kind = kind_of(location)
    if kind == "blob":
        return None
    if kind != "collection":
        return list_blobs(location, kind)
    with open_collection(location) as collection:
        blobs = [Location.parse(row.url, access=location.access) for row in collection.blobs]
    # a collection may come from somebody else, who must not choose where this command reads and writes
    for blob in blobs:
        check_allowed(blob, (location.folder, *allow), location.text)
    return blobs


def _targets(
    blob: Location, several: list[Location] | None, output: Location | None
) -> list[Location]:
    """Return where the index of each blob goes, or that of a single blob."""
    if several is None:
        return [_beside_or_at(blob, output)]
    return _beside_or_in(blob, several, output)


def _beside_or_at(blob: Location, output: Location | None) -> Location:
    """Return where the index of a single blob goes."""
    # the index of a remote blob is written where this command runs, unless -o says otherwise: writing to S3 is only
    # done on request
    beside = sidecar_of(Location(name_here(blob), "local"))
    if output is None:
        return beside
    return output.as_folder.below(os.path.basename(beside.path)) if means_folder(output) else output  # noqa: PTH119


def _beside_or_in(
    source: Location, blobs: list[Location], output: Location | None
) -> list[Location]:
    """Return where the indexes of several blobs go: beside them, or into a folder, with their paths in the source."""
    if output is None:
        if not all(blob.is_local for blob in blobs):
            raise click.UsageError(
                f"{source}: name a folder or prefix for the indexes with -o; the folder of the blobs puts them beside the blobs"
            )
        return [sidecar_of(blob) for blob in blobs]
    if not means_folder(output):
        raise click.UsageError(
            f"there are several blobs, and -o {output} is one file: name a folder, with a / at its end"
        )
    folder = collection_location(source, kind_of(source)).folder
    names = [name_from(folder, blob) for blob in blobs]
    outside = [name for name in names if is_absolute(name)]
    if outside:
        raise click.UsageError(
            f"with -o, each index gets its blob's path below the source, but {one_line(redacted(outside[0]))} is not below "
            f"{folder}"
        )
    if output.is_local:
        # keys in S3 may hold "..", which would lead out of the folder
        for name in names:
            check_name(encode_name(name))
    return [sidecar_of(output.as_folder.below(name)) for name in names]


def _prepare(blob: Location, target: Location, *, force: bool, make_folder: bool) -> None:
    """Check that an index file may be written, and make its folder."""
    if is_same_file(target, blob):
        raise click.UsageError(f"{target} is the blob itself")
    check_output_name("-o", target, INDEX, force=force)
    check_replaceable(target, INDEX, force=force)
    if make_folder and target.is_local:
        with translate_write_errors(target):
            os.makedirs(target.folder.path, exist_ok=True)  # noqa: PTH103 (a str)


def _index_blob(
    blob: Location,
    target: Location,
    *,
    embed: bool,
    facts: bool,
    concatenated: bool,
    threads: int | None,
) -> tuple[dict[str, Any], ScanReport | None]:
    """Scan one blob and write its index; return what JSON says of it, and the report of the scan."""
    traffic: dict[str, int] = {}
    if embed:
        made = embed_index(target, facts=facts, threads=threads)
    else:
        with open_tar(blob) as store, progress_bar("B", store.size) as bar:
            # opened here and not by scan_store, for its progress and its counts
            reader = Readahead(store, progress=lambda position: bar.update(position - bar.n))
            made = scan_store(
                store, concatenated=concatenated, facts=facts, threads=threads, reader=reader
            )
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
        **left_out_fields(made.report),
        **traffic,
    }
    return fields, made.report
