"""`blobpack index`."""

from __future__ import annotations

import json

import click

from blobpack.cli.opened import is_same_file
from blobpack.cli.options import blob_argument, progress_bar
from blobpack.cli.params import PathOrS3
from blobpack.indexfile.footer import sidecar_of
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.tar.readahead import Readahead
from blobpack.tar.scan import scan_store
from blobpack.writing.embed import embed_index, write_beside


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(dir_okay=False),
    metavar="FILE",
    help="Where to: a file, or an s3:// URL. It is found beside the blob.  [default: <blob>.idx beside a local "
    "blob; of another, in this folder]",
)
@click.option("--embed", is_flag=True, help="Put it into the blob, behind the archive's end.")
@click.option(
    "--facts",
    is_flag=True,
    help="Also read every payload: media type, width, height and checksum.",
)
@click.option("--concatenated", is_flag=True, help="Go on behind end-of-archive markers.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def index(
    blob: Location,
    output: Location | None,
    embed: bool,
    facts: bool,
    concatenated: bool,
    as_json: bool,
) -> None:
    """Scan BLOB and write its index, so that it opens at once from then on.

    \b
    blobpack index foreign.tar
    blobpack index foreign.tar --embed --facts
    blobpack index s3://bucket/foreign.tar -o foreign.idx
    """
    if embed and (output or concatenated or not blob.is_local):
        raise click.UsageError(
            "--embed is for a local blob, and goes without -o and --concatenated"
        )
    traffic: dict[str, int] = {}
    if embed:
        target = blob
        made = embed_index(target, facts=facts)
    else:
        target = output or sidecar_of(Location(blob.path_or_name, "local"))
        if is_same_file(target, blob.path_or_name):
            raise click.UsageError(f"{target} is the blob itself")
        with open_tar(blob) as store, progress_bar("B", store.size) as bar:
            reader = Readahead(store, progress=lambda position: bar.update(position - bar.n))
            made = scan_store(store, concatenated=concatenated, facts=facts, reader=reader)
            write_beside(store, made, target)
        if not blob.is_local:
            traffic = {
                "blob_bytes": store.size,
                "bytes_read": reader.bytes_read,
                "requests": reader.requests,
                "retried": store.stats.retried,
            }
    if as_json:
        click.echo(
            json.dumps({"members": len(made), "index": target.text, "embedded": embed, **traffic})
        )
    else:
        click.echo(f"indexed {len(made):,} members: {target}")
    if traffic and not as_json:
        click.echo(
            "scanned by {requests:,} requests of {bytes_read:,} bytes; the blob has {blob_bytes:,}".format_map(
                traffic
            ),
            err=True,
        )
    if made.report and (without := made.report.without_row()):
        listed = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in without.items())
        click.echo(f"without a row: {listed}", err=True)
