"""`blobpack repack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import is_same_file
from blobpack.cli.options import progress_bar, show_pieces
from blobpack.cli.params import BlobUrl, PathOrS3
from blobpack.cli.report import print_packed
from blobpack.packing.repack import MEMBER_BYTES_MAX, repack as library
from blobpack.writing.compress import is_compressed_target

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@click.argument("source", type=BlobUrl(), metavar="SRC")
@click.argument("out", type=PathOrS3(dir_okay=False))
@click.option(
    "--filter", "globs", multiple=True, metavar="GLOB", help="Only names that match; repeatable."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="No names that match; repeatable.")
@click.option("--all", "all_files", is_flag=True, help="Repack every file, not only images.")
@click.option("--level", type=click.IntRange(1, 22), help="Of zstd, for OUT.tar.zst.  [default: 3]")
@click.option(
    "--max-member",
    "member_bytes_max",
    type=click.IntRange(1),
    default=MEMBER_BYTES_MAX,
    metavar="BYTES",
    help="The largest member taken into memory; a larger one is an error.  [default: 1 GiB]",
)
@click.option(
    "--dry-run", is_flag=True, help="Read everything, write nothing, tell counts and bytes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def repack(
    source: Location,
    out: Location,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    all_files: bool,
    level: int | None,
    member_bytes_max: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the blob OUT of the tar SRC: plain, .tar.gz, .tar.zst, .tar.xz or .tar.bz2.

    SRC is read once, front to back, and may be a URL; no file of it is unpacked to disk. OUT appears whole or
    not at all; .tar.zst is compressed so that any member can still be read alone.

    \b
    blobpack repack photos.tar.gz photos.tar
    blobpack repack s3://bucket/scans.tar.xz scans.tar.zst --all --level 9
    """
    if level is not None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, and {out} is a plain tar")
    if is_same_file(out, source):
        raise click.UsageError(f"{out} is what is read: the blob to write must be another")
    with progress_bar("files") as bar:
        report = library(
            source,
            out,
            globs=globs,
            exclude=exclude,
            all_files=all_files,
            dry_run=dry_run,
            level=level,
            member_bytes_max=member_bytes_max,
            progress=show_pieces(bar),
        )
    print_packed(report, as_json=as_json)
