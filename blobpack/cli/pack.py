"""`blobpack pack`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, get_args

import click

from blobpack import pack as library
from blobpack.cli.options import (
    ByteSize,
    PathOrS3,
    is_same_file,
    one_source,
    packing_options,
    progress_bar,
    show_pieces,
)
from blobpack.compress import is_compressed_target
from blobpack.embed import IndexPlace
from blobpack.manifest import read_manifest
from blobpack.sharded import pack_shards
from blobpack.targets import is_s3

if TYPE_CHECKING:
    from blobpack.reports import PackReport


@click.command()
@click.argument("sources", nargs=-1, type=PathOrS3(exists=True, prefix=True), metavar="[SRC]...")
@click.argument("out", type=PathOrS3())
@packing_options
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False),
    metavar="LIST",
    help="Pack what a list names: text, one URL, key or path a line; .csv or .jsonl with url, path or key, and "
    "perhaps name. What is relative is so to SRC.",
)
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
    "--resume",
    is_flag=True,
    help="Go on with an upload to S3 that was interrupted; one that fails is kept to go on with.",
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
    resume: bool,
    shard_bytes: int | None,
    level: int | None,
    threads: int | None,
    manifest: str | None,
    as_json: bool,
) -> None:
    """Pack a folder, files or what is below an s3:// prefix into the blob OUT, a file or an s3:// URL.

    Images are recognised by what they are, not by their names. The same files give the same bytes on any
    machine. OUT appears whole or not at all; .tar.zst is compressed so that any member can still be read alone.

    \b
    blobpack pack imgs/ out.tar
    blobpack pack imgs/ cats.tar --filter 'cats/*' --exclude '*_mask.png'
    blobpack pack scans/ out.tar.zst --level 9
    blobpack pack imgs/ s3://bucket/out.tar
    blobpack pack s3://bucket/imgs/ out.tar
    blobpack pack --manifest list.csv s3://bucket/imgs/ out.tar
    blobpack pack imgs/ shards/ --shard-size 1Gi
    """
    if shard_bytes is None and os.path.isdir(out):  # noqa: PTH112
        raise click.UsageError(f"{out} is a folder: name a blob in it, or say --shard-size")
    if shard_bytes is not None and (dry_run or level is not None or place != "embed"):
        raise click.UsageError("--shard-size goes without --dry-run, --level and --index")
    if level is not None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, and {out} is a plain tar")
    if resume and not is_s3(out):
        raise click.UsageError(f"--resume is for OUT in S3, and {out} is not there")
    if any(is_same_file(out, source) for source in sources):
        raise click.UsageError(f"{out} is among the files to pack: the blob to write comes last")
    if manifest:
        if len(sources) > 1:
            raise click.UsageError(
                "a list has one SRC at most: the folder or prefix it starts from"
            )
        source: Any = read_manifest(manifest, *sources)
    elif sources:
        source = one_source(sources)
    else:
        raise click.UsageError("Missing argument 'SRC...'.")
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
            report = library(
                source, out, index=place, dry_run=dry_run, resume=resume, level=level, **packing
            )
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
