"""`blobpack pack`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack import pack as library
from blobpack.cli.options import (
    ByteSize,
    is_same_file,
    packing_options,
    progress_bar,
    show_pieces,
)
from blobpack.compress import is_compressed_target
from blobpack.embed import IndexPlace
from blobpack.sharded import pack_shards

if TYPE_CHECKING:
    from blobpack.pack import PackReport


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True), metavar="SRC...")
@click.argument("out", type=click.Path())
@packing_options
@click.option(
    "--index",
    "place",
    type=click.Choice(get_args(IndexPlace)),
    default="embed",
    show_default=True,
    help="Where the index goes: into OUT, beside it or nowhere.",
)
@click.option(
    "--dry-run", is_flag=True, help="Read everything, write nothing, tell counts and bytes."
)
@click.option(
    "--shard-size",
    "shard_bytes",
    type=ByteSize(),
    metavar="BYTES",
    help="Pack blobs of at most this, such as 1Gi, into the folder OUT, and their collection.",
)
@click.option("--level", type=click.IntRange(1, 22), help="Of zstd, for OUT.tar.zst.  [default: 3]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def pack(
    sources: tuple[str, ...],
    out: str,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    all_files: bool,
    hidden: bool,
    follow_symlinks: bool,
    keep_mtime: bool,
    facts: bool,
    place: IndexPlace,
    dry_run: bool,
    shard_bytes: int | None,
    level: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Pack a folder, or files, into the blob OUT.

    Images are recognised by what they are, not by their names. The same files give the same bytes on any
    machine. OUT appears whole or not at all; .tar.zst is compressed so that any member can still be read alone.

    \b
    blobpack pack imgs/ out.tar
    blobpack pack imgs/ cats.tar --filter 'cats/*' --exclude '*_mask.png'
    blobpack pack scans/ out.tar.zst --level 9
    blobpack pack imgs/ shards/ --shard-size 1Gi
    """
    if shard_bytes is None and os.path.isdir(out):  # noqa: PTH112
        raise click.UsageError(f"{out} is a folder: name a blob in it, or say --shard-size")
    if shard_bytes is not None and (dry_run or level is not None or place != "embed"):
        raise click.UsageError("--shard-size goes without --dry-run, --level and --index")
    if level is not None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, and {out} is a plain tar")
    if len(sources) > 1 and (folders := [source for source in sources if os.path.isdir(source)]):  # noqa: PTH112
        raise click.UsageError(f"{folders[0]} is a folder: give one folder, or files")
    if any(is_same_file(out, source) for source in sources):
        raise click.UsageError(f"{out} is among the files to pack: the blob to write comes last")
    source = sources[0] if os.path.isdir(sources[0]) else sources  # noqa: PTH112
    with progress_bar("files") as bar:
        packing: dict[str, Any] = {
            "globs": globs,
            "exclude": exclude,
            "all_files": all_files,
            "hidden": hidden,
            "follow_symlinks": follow_symlinks,
            "keep_mtime": keep_mtime,
            "facts": facts,
            "threads": threads,
            "progress": show_pieces(bar),
        }
        if shard_bytes is None:
            report = library(source, out, index=place, dry_run=dry_run, level=level, **packing)
        else:
            report = pack_shards(source, out, shard_bytes, **packing)
    show_report(report, as_json=as_json)


def show_report(report: PackReport, *, as_json: bool) -> None:
    """Print what was packed."""
    if not as_json:
        click.echo(str(report))
        return
    click.echo(
        json.dumps(
            {
                "members": report.members,
                "payload_bytes": report.payload_bytes,
                "blob_bytes": report.blob_bytes,
                "skipped": report.skipped,
                "seconds": round(report.seconds, 3),
                "dry_run": report.dry_run,
                "shards": report.shards,
            }
        )
    )
