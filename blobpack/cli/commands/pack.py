"""`blobpack pack`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from blobpack import pack as library
from blobpack.cli.opened import is_same_file, one_source
from blobpack.cli.options import packing_options, progress_bar, show_pieces
from blobpack.cli.params import ByteSize, PathOrS3
from blobpack.cli.report import place_option, print_packed
from blobpack.packing.manifest import read_manifest
from blobpack.packing.shards import pack_shards
from blobpack.writing.compress import is_compressed_target

if TYPE_CHECKING:
    from blobpack.model import IndexPlace, Packable
    from blobpack.stores.location import Location


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
@place_option("--index")
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
    help="Pack blobs of at most this, such as 1Gi, into the folder or prefix OUT, and their collection.",
)
@click.option(
    "--level",
    type=click.IntRange(1, 22),
    help="Of zstd, for OUT.tar.zst [default: 3]; with --shard-size, the blobs are .tar.zst then.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def pack(
    sources: tuple[Location, ...],
    out: Location,
    place: IndexPlace,
    dry_run: bool,
    resume: bool,
    shard_bytes: int | None,
    level: int | None,
    manifest: str | None,
    as_json: bool,
    **packing: Any,
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
    blobpack pack imgs/ s3://bucket/train/ --shard-size 1Gi
    """
    _check_usage(sources, out, place, dry_run, resume, shard_bytes, level)
    source = _source(sources, manifest)
    with progress_bar("files") as bar:
        progress = show_pieces(bar)
        if shard_bytes is None:
            report = library(
                source,
                out,
                index=place,
                dry_run=dry_run,
                resume=resume,
                level=level,
                progress=progress,
                **packing,
            )
        else:
            report = pack_shards(
                source, out, shard_bytes, level=level, progress=progress, **packing
            )
    print_packed(report, as_json=as_json)


def _check_usage(
    sources: tuple[Location, ...],
    out: Location,
    place: IndexPlace,
    dry_run: bool,
    resume: bool,
    shard_bytes: int | None,
    level: int | None,
) -> None:
    """Refuse options that do not go together, or with OUT."""
    if shard_bytes is None and out.is_local and os.path.isdir(out.path):  # noqa: PTH112
        raise click.UsageError(f"{out} is a folder: name a blob in it, or say --shard-size")
    if shard_bytes is None and out.is_s3 and out.text.endswith("/"):
        raise click.UsageError(f"{out} is a prefix: name a blob in it, or say --shard-size")
    if shard_bytes is not None and (dry_run or resume or place != "embed"):
        raise click.UsageError("--shard-size goes without --dry-run, --resume and --index")
    if level is not None and shard_bytes is None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, and {out} is a plain tar")
    if resume and not out.is_s3:
        raise click.UsageError(f"--resume is for OUT in S3, and {out} is not there")
    if any(is_same_file(out, source) for source in sources):
        raise click.UsageError(f"{out} is among the files to pack: the blob to write comes last")


def _source(sources: tuple[Location, ...], manifest: str | None) -> Packable:
    """Take what a list names, or what was given."""
    if manifest:
        if len(sources) > 1:
            raise click.UsageError(
                "a list has one SRC at most: the folder or prefix it starts from"
            )
        return read_manifest(manifest, *sources)
    if not sources:
        raise click.UsageError("Missing argument 'SRC...'.")
    return one_source(sources)
