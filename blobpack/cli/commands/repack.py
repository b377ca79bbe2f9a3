"""The command `blobpack repack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import check_output_name, is_same_file
from blobpack.cli.options import (
    apple_double_option,
    empty_option,
    force_option,
    json_option,
)
from blobpack.cli.params import BlobUrl, ByteSize, PathOrS3, Whole
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import print_packed
from blobpack.packing.repack import MEMBER_BYTES_MAX, repack as library
from blobpack.writing.compress import is_compressed_target
from blobpack.writing.target import kind_of

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@click.argument("source", type=BlobUrl(), metavar="SRC")
@click.argument("out", type=PathOrS3(is_read=False, dir_okay=False))
@click.option(
    "--filter",
    "globs",
    multiple=True,
    metavar="GLOB",
    help='Only members whose names match GLOB, in which * also matches "/". Repeatable: one match suffices.',
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="No members whose names match GLOB. Repeatable.",
)
@click.option("--all", "all_files", is_flag=True, help="Repack every file, not only images.")
@apple_double_option
@click.option(
    "--concatenated",
    is_flag=True,
    help="Continue behind end-of-archive markers, for tars that were joined by cat.",
)
@click.option(
    "--level",
    type=Whole(1, 22),
    metavar="LEVEL",
    help="Compression level of zstd, if OUT ends in .tar.zst.  [default: 3]",
)
@click.option(
    "--max-member",
    "member_bytes_max",
    type=ByteSize(1),
    default=MEMBER_BYTES_MAX,
    metavar="BYTES",
    # click would show 1073741824
    show_default="1Gi",
    help="Largest member. A member is held in memory, so a larger one is an error.",
)
@click.option(
    "--dry-run", is_flag=True, help="Read everything and print the report, but write nothing."
)
@empty_option
@force_option
@progress_option
@copy_options("out")
@json_option
def repack(
    source: Location,
    out: Location,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    all_files: bool,
    apple_double: bool,
    concatenated: bool,
    level: int | None,
    member_bytes_max: int,
    dry_run: bool,
    allow_empty: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make the blob OUT from the tar SRC, compressed or not.

    SRC is a plain tar, .tar.gz, .tar.zst, .tar.xz or .tar.bz2, at a path or URL. It is read once, from front to back, and
    nothing is unpacked to disk. OUT appears whole or not at all. If OUT ends in .tar.zst, it is compressed in such a way
    that each member can still be read alone.

    \b
    blobpack repack photos.tar.gz photos.tar
    blobpack repack s3://bucket/scans.tar.xz scans.tar.zst --all --level 9
    """
    # a level that has no effect is a mistake, most likely in the suffix of OUT
    if level is not None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, but {out} is a plain tar")
    check_output_name("OUT", out, kind_of(out), force=force)
    # The original would be lost, and the blob lacks its owners, its times and all files that are
    # not images.
    if is_same_file(out, source):
        raise click.UsageError(f"{out} is the file to read: OUT must be another one")
    with progress_shown("files") as progress:
        report = library(
            source,
            out,
            globs=globs,
            exclude=exclude,
            all_files=all_files,
            dry_run=dry_run,
            level=level,
            member_bytes_max=member_bytes_max,
            concatenated=concatenated,
            apple_double=apple_double,
            allow_empty=allow_empty,
            force=force,
            progress=progress,
        )
    print_packed(report, "members_behind", as_json=as_json)
