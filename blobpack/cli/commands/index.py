"""The command `blobpack index`."""

from __future__ import annotations

import click

from blobpack.cli.opened import check_output_name, is_same_file, name_here
from blobpack.cli.options import blob_argument, force_option, json_option
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_note, print_report_line, progress_bar, progress_option
from blobpack.cli.report import left_out_fields, print_json, print_left_out
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import INDEX
from blobpack.quoting import one_line
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.stores.replace import check_replaceable
from blobpack.tar.behind import warn_of_left_out
from blobpack.tar.readahead import Readahead
from blobpack.tar.scan import scan_store
from blobpack.wording import counted
from blobpack.writing.embed import embed_index, write_beside


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(dir_okay=False),
    metavar="FILE",
    help="Path or s3:// URL of the index. If it is BLOB.idx beside BLOB, opening BLOB finds it.  [default: "
    "BLOB.idx beside a local blob; for a remote blob, its name with .idx in the current folder]",
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
@force_option
@progress_option
@json_option
def index(
    blob: Location,
    output: Location | None,
    place: str,
    facts: bool,
    concatenated: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Scan BLOB and write its index.

    With an index, BLOB opens at once; without one, it is scanned each time it is opened. `blobpack pack` writes an index
    by itself, so this command is for tars that other tools made. A tar in S3 is scanned without being stored on disk.

    \b
    blobpack index foreign.tar
    blobpack index foreign.tar --index embed --facts
    blobpack index s3://bucket/foreign.tar -o foreign.idx
    """
    # An embedded index goes behind the first end-of-archive marker. In a concatenated tar, the next
    # members are there. An object in S3 can't be written in place.
    embed = place == "embed"
    if embed and (output or concatenated or not blob.is_local):
        raise click.UsageError(
            "--index embed is for a local blob, and can't be combined with -o or --concatenated"
        )
    traffic: dict[str, int] = {}
    if embed:
        target = blob
        made = embed_index(target, facts=facts)
    else:
        # the index of a remote blob is written where this command runs, unless -o says otherwise: writing to S3 is only
        # done on request
        target = output or sidecar_of(Location(name_here(blob), "local"))
        if is_same_file(target, blob):
            raise click.UsageError(f"{target} is the blob itself")
        check_output_name("-o", target, INDEX, force=force)
        # before the scan, which may take minutes
        check_replaceable(target, INDEX, force=force)
        with open_tar(blob) as store, progress_bar("B", store.size) as bar:
            # opened here and not by scan_store, for its progress and its counts
            reader = Readahead(store, progress=lambda position: bar.update(position - bar.n))
            made = scan_store(store, concatenated=concatenated, facts=facts, reader=reader)
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
    if as_json:
        print_json(
            {
                "members": len(made),
                "index": target.text,
                "embedded": embed,
                **left_out_fields(made.report),
                **traffic,
            }
        )
    else:
        print_report_line(f"indexed {counted(len(made), 'member')}: {one_line(target.text)}")
    if traffic and not as_json:
        print_note(
            "scanned with {requests:,} requests for {bytes_read:,} bytes; the blob has {blob_bytes:,} bytes".format_map(
                traffic
            )
        )
    print_left_out("without a row", made.report)
