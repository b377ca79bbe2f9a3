"""The options of pack and append that say which names members get, and where to list the files that are left out."""

from __future__ import annotations

import csv
import io
import os
import shutil
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from blobpack.cli.params import LocalPath, PathOrS3, Whole
from blobpack.errors import BlobpackError
from blobpack.model import BYTES_MAX
from blobpack.packing.names import check_prefix
from blobpack.stores.location import Location
from blobpack.stores.output import replacing
from blobpack.stores.replace import OutputKind, check_replaceable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.stores.base import Store

F = TypeVar("F", bound="Callable[..., Any]")

COLUMNS = ("path", "reason")
COPIED_BYTES = 1 << 20


def _is_skipped_table(store: Store) -> bool:
    first = ",".join(COLUMNS).encode()
    return store.read_range(0, min(store.size, len(first))) == first


SKIPPED = OutputKind("list of skipped files", _is_skipped_table)


class Prefix(click.ParamType[str]):
    """A text that a member's name can begin with."""

    name = "prefix"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the prefix; an absolute one, or one with "..", is wrong usage."""
        try:
            check_prefix(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return value


NAMING = (
    click.option(
        "-C",
        "--directory",
        type=PathOrS3(exists=True, file_okay=False, prefix=True),
        metavar="DIR",
        help="Relative SRCs start at this folder or s3:// prefix, and names are relative to it.",
    ),
    click.option(
        "--strip",
        type=Whole(0, BYTES_MAX),
        default=0,
        metavar="N",
        help="Remove the first N folders of each name.",
    ),
    click.option(
        "--prefix",
        type=Prefix(),
        default="",
        metavar="TEXT",
        help="Put TEXT in front of each name, after --strip. For a folder, end it in a slash: train/.",
    ),
    click.option(
        "--skipped-to",
        type=LocalPath(dir_okay=False),
        metavar="FILE",
        help="List each file that is left out, and why, in this CSV file, also with --dry-run or after an error. "
        "A hidden folder is one line.",
    ),
)


def naming_options(command: F) -> F:
    """Add the options for names, and for the list of skipped files."""
    for option in reversed(NAMING):
        command = option(command)
    return command


def located(sources: tuple[Location, ...], directory: Location | None) -> list[Location]:
    """Return the places of sources: relative paths start at the directory."""
    return [
        directory.as_folder.below(source.path)
        if directory and source.is_local and not os.path.isabs(source.path)  # noqa: PTH117
        else source
        for source in sources
    ]


def check_places(places: list[Location]) -> None:
    """Check that local sources exist, and that all are local or all in S3.

    Raises:
        click.UsageError: a path does not exist, or some are in S3 and some are not.
    """
    for place in places:
        if place.is_local and not os.path.exists(place.path):  # noqa: PTH110 (a str)
            raise click.UsageError(f"Invalid value for 'SRC': Path {place.path!r} does not exist.")
        if place.kind != places[0].kind:
            raise click.UsageError(
                f"give SRCs in S3, or local ones, not both: {places[0]} and {place}"
            )


@contextmanager
def skipped_table(
    path: str | None, out: Location, *, force: bool = False
) -> Iterator[Callable[[str, str], object] | None]:
    """Return what is to be called for each skipped file, or None; the table is written at the end of the block.

    It is also written after a BlobpackError: it may say why there was nothing to pack.

    Args:
        path: The file, or None.
        out: What the command writes.
        force: Replace a file of any kind.

    Raises:
        StorageError: the file would replace a file of another kind, or can't be written.
        click.UsageError: the file is what the command writes.
    """
    if path is None:
        yield None
        return
    if out.is_local and os.path.realpath(path) == os.path.realpath(out.path):
        raise click.UsageError(f"{out} can't be both the blob and the list of skipped files")
    check_replaceable(Location(path, "local"), SKIPPED, force=force)
    # not beside the file: its folder may be the one that is packed, and the rows would be listed in themselves
    with TemporaryFile() as rows:
        text = io.TextIOWrapper(rows, "utf-8", "surrogateescape", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        try:
            yield lambda file, reason: writer.writerow((file, reason))
        except BlobpackError:
            _write_table(path, text, rows)
            raise
        _write_table(path, text, rows)


def _write_table(path: str, text: io.TextIOWrapper, rows: IO[bytes]) -> None:
    text.flush()
    rows.seek(0)
    with replacing(path) as file:
        shutil.copyfileobj(rows, file, COPIED_BYTES)
