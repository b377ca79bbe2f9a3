"""Find the blobs of `blobpack index`, and the places of their indexes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import check_output_name, is_same_file, name_here
from blobpack.model import redacted
from blobpack.opening.collection import open_collection
from blobpack.opening.kind import collection_location, kind_of, means_folder
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.locations import check_allowed, name_from
from blobpack.quoting import one_line
from blobpack.stores.location import Location, is_absolute
from blobpack.stores.output import translate_write_errors
from blobpack.stores.replace import check_replaceable
from blobpack.tar.header import check_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.replace import OutputKind


def blobs_in(location: Location, allow: tuple[Location, ...]) -> list[Location] | None:
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


def index_targets(
    blob: Location,
    several: list[Location] | None,
    output: Location | None,
    named: Callable[[Location], Location],
) -> list[Location]:
    """Return where the index of each blob goes, or that of a single blob; `named` returns the place beside a blob."""
    if several is None:
        return [_beside_or_at(blob, output, named)]
    return _beside_or_in(blob, several, output, named)


def _beside_or_at(
    blob: Location, output: Location | None, named: Callable[[Location], Location]
) -> Location:
    """Return where the index of a single blob goes."""
    # the index of a remote blob is written where this command runs, unless -o says otherwise: writing to S3 is only
    # done on request
    beside = named(Location(name_here(blob), "local"))
    if output is None:
        return beside
    return output.as_folder.below(os.path.basename(beside.path)) if means_folder(output) else output  # noqa: PTH119


def _beside_or_in(
    source: Location,
    blobs: list[Location],
    output: Location | None,
    named: Callable[[Location], Location],
) -> list[Location]:
    """Return where the indexes of several blobs go: beside them, or into a folder, with their paths in the source."""
    if output is None:
        if not all(blob.is_local for blob in blobs):
            raise click.UsageError(
                f"{source}: name a folder or prefix for the indexes with -o; the folder of the blobs puts them beside the blobs"
            )
        return [named(blob) for blob in blobs]
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
    return [named(output.as_folder.below(name)) for name in names]


def prepare(
    blob: Location, target: Location, kind: OutputKind, *, force: bool, make_folder: bool
) -> None:
    """Check that an index file may be written, and make its folder."""
    if is_same_file(target, blob):
        raise click.UsageError(f"{target} is the blob itself")
    check_output_name("-o", target, kind, force=force)
    check_replaceable(target, kind, force=force)
    if make_folder and target.is_local:
        with translate_write_errors(target):
            os.makedirs(target.folder.path, exist_ok=True)  # noqa: PTH103 (a str)
