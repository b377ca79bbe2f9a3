"""The command `blobpack pack`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from blobpack import pack as library
from blobpack.cli.naming import check_places, located, naming_options, skipped_table
from blobpack.cli.opened import check_output_name, is_same_file
from blobpack.cli.options import (
    empty_option,
    force_option,
    json_option,
    packing_options,
)
from blobpack.cli.params import ByteSize, LocalList, PathOrS3, Whole
from blobpack.cli.printing import progress_option, progress_shown
from blobpack.cli.remote import copy_options
from blobpack.cli.report import place_option, print_packed
from blobpack.packing.manifest import read_manifest
from blobpack.packing.shards import SHARD_BYTES_MIN, pack_shards
from blobpack.writing.compress import is_compressed_target
from blobpack.writing.target import kind_of

if TYPE_CHECKING:
    from blobpack.model import IndexPlace, Packable
    from blobpack.stores.location import Location


@click.command()
# not required, because a list can take its place
@click.argument("sources", nargs=-1, type=PathOrS3(prefix=True), metavar="[SRC]...")
# A file or, with --shard-size, a folder: _check_usage checks which one it is.
@click.argument("out", type=PathOrS3(is_read=False))
@packing_options
@naming_options
@click.option(
    "--manifest",
    type=LocalList(exists=True, dir_okay=False),
    metavar="LIST",
    help="Pack the files and objects in this list: a text with one URL, key or path on each line; "
    "or .csv or .jsonl with url, path or key, and optionally name. Relative keys and paths start at SRC.",
)
@click.option(
    "--encord",
    type=LocalList(exists=True, dir_okay=False),
    metavar="FILE",
    help="Pack the images that this JSON or CSV file for Encord lists. If it contains ARNs of an access point, SRC can be the "
    "bucket behind it. Videos, DICOM series and other kinds are left out and counted.",
)
@place_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read everything and print the report with some names (--json: all names), but write no blob.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an upload to S3 that was interrupted. If this one fails, its parts are kept for the next --resume.",
)
@click.option(
    "--shard-size",
    "shard_bytes",
    type=ByteSize(SHARD_BYTES_MIN),
    metavar="BYTES",
    help="Pack into several blobs of at most this size, such as 1Gi, in the folder or prefix OUT, and make their "
    "collection.",
)
@click.option(
    "--level",
    type=Whole(1, 22),
    metavar="LEVEL",
    help="Compression level of zstd, if OUT ends in .tar.zst [default: 3]. "
    "With --shard-size, it compresses the blobs to .tar.zst.",
)
@empty_option
@force_option
@progress_option
@copy_options("out")
@json_option
def pack(
    sources: tuple[Location, ...],
    out: Location,
    place: IndexPlace,
    dry_run: bool,
    resume: bool,
    shard_bytes: int | None,
    level: int | None,
    manifest: Location | None,
    encord: Location | None,
    allow_empty: bool,
    force: bool,
    as_json: bool,
    directory: Location | None,
    skipped_to: str | None,
    **packing: Any,
) -> None:
    """Pack images into the blob OUT, a path or an s3:// URL.

    SRC is a folder, a file, or a prefix such as s3://bucket/imgs/. Images are recognised by their content, not by their
    names. The same images give the same bytes on any machine. OUT appears whole or not at all, and replaces an existing
    blob. If OUT ends in .tar.zst, it is compressed in such a way that each member can still be read alone.

    Names of members are relative to SRC if it is one folder or prefix. Names of files, or of several SRCs, begin with SRC
    as it is given, but without ".." at the front; of an absolute path or a URL, only the last part remains. With -C, names
    are relative to DIR. Then --strip removes folders, and --prefix adds TEXT. --filter and --exclude see the result.

    \b
    blobpack pack imgs/ out.tar                        # cats/0001.jpg ...
    blobpack pack imgs/cats/ imgs/dogs/ out.tar        # imgs/cats/0001.jpg ... imgs/dogs/0001.jpg ...
    blobpack pack -C imgs/ cats dogs out.tar           # cats/0001.jpg ... dogs/0001.jpg ...
    blobpack pack imgs/cats/ out.tar --prefix 2024/ --dry-run
    blobpack pack imgs/ cats.tar --filter 'cats/*' --exclude '*_mask.png'
    blobpack pack scans/ out.tar.zst --level 9
    blobpack pack imgs/ s3://bucket/out.tar
    blobpack pack s3://bucket/imgs/ out.tar
    blobpack pack --manifest list.csv s3://bucket/imgs/ out.tar
    blobpack pack --encord registration.json out.tar
    blobpack pack imgs/ shards/ --shard-size 1Gi
    blobpack pack imgs/ s3://bucket/train/ --shard-size 1Gi
    """
    places = located(sources, directory)
    _check_usage(places, out, place, dry_run, resume, shard_bytes, level, force)
    check_places(places)
    source = _source(sources, directory, manifest, encord)
    with (
        skipped_table(skipped_to, out, force=force) as on_skipped,
        progress_shown("files") as progress,
    ):
        packing |= {"on_skipped": on_skipped, "directory": directory, "progress": progress}
        if shard_bytes is None:
            report = library(
                source,
                out,
                index=place,
                dry_run=dry_run,
                resume=resume,
                level=level,
                allow_empty=allow_empty,
                force=force,
                **packing,
            )
        else:
            report = pack_shards(
                source,
                out,
                shard_bytes,
                level=level,
                allow_empty=allow_empty,
                **packing,
            )
    print_packed(report, as_json=as_json)


def _check_usage(
    sources: list[Location],
    out: Location,
    place: IndexPlace,
    dry_run: bool,
    resume: bool,
    shard_bytes: int | None,
    level: int | None,
    force: bool,
) -> None:
    """Check that the options fit together, and fit OUT.

    Raises:
        click.UsageError: they do not.
    """
    # The library checks some of these, too, but with a ValueError that names its parameters. These messages name options,
    # and say what to do.
    if shard_bytes is None and out.is_local and os.path.isdir(out.path):  # noqa: PTH112
        raise click.UsageError(
            f"{out} is a folder: OUT, the last argument, must name a blob, unless --shard-size is given"
        )
    if shard_bytes is None and out.has_key and out.text.endswith("/"):
        raise click.UsageError(
            f"{out} is a prefix: OUT, the last argument, must name a blob, unless --shard-size is given"
        )
    if shard_bytes is not None and (dry_run or resume or place != "embed" or force):
        raise click.UsageError(
            "--shard-size can't be combined with --dry-run, --resume, --index or --force"
        )
    if shard_bytes is None:
        check_output_name("OUT", out, kind_of(out), force=force)
    if level is not None and shard_bytes is None and not is_compressed_target(out):
        raise click.UsageError(f"--level is for OUT.tar.zst, but {out} is a plain tar")
    if resume and not out.is_s3:
        raise click.UsageError(f"--resume is for OUT in S3, but {out} is not in S3")
    # OUT would replace a file that is still to be read
    if any(is_same_file(out, source) for source in sources):
        raise click.UsageError(f"{out} is among the files to pack: OUT comes last")


def _source(
    sources: tuple[Location, ...],
    directory: Location | None,
    manifest: Location | None,
    encord: Location | None,
) -> Packable:
    """Return what to pack: what a list names, or the sources themselves."""
    if manifest and encord:
        raise click.UsageError("give --manifest or --encord, not both")
    if manifest:
        if directory:
            raise click.UsageError("-C can't be combined with --manifest: its paths start at SRC")
        if len(sources) > 1:
            raise click.UsageError(
                "--manifest takes one SRC at most: the folder or prefix that its paths are relative to"
            )
        return read_manifest(manifest, *sources)
    if encord:
        if directory or len(sources) > 1 or any(not source.is_s3 for source in sources):
            raise click.UsageError(
                "--encord takes no -C, and at most one SRC: s3://bucket, the bucket behind an access point"
            )
        # imported here: no other use of pack needs it
        from blobpack.integrations.encord import read_registration

        return read_registration(encord, *sources)
    # click can't require SRC, which is optional with a list; the message is click's own for a missing argument
    if not sources:
        raise click.UsageError("Missing argument 'SRC...'.")
    # one folder alone gives other names than a list of one
    return sources[0] if len(sources) == 1 else sources
