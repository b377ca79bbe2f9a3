"""The part of `blobpack index` that writes one file of another program as the index of many blobs."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import click

from blobpack.cli.commands.index_places import prepare
from blobpack.cli.printing import print_note, print_report_line
from blobpack.cli.report import print_json
from blobpack.foreign.table import FORMATS
from blobpack.opening.blob_rows import BlobPart
from blobpack.opening.kind import means_folder
from blobpack.quoting import one_line
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan
from blobpack.wording import counted
from blobpack.writing.foreign_index import write_parts

if TYPE_CHECKING:
    from blobpack.model import ForeignFormat
    from blobpack.stores.location import Location


def index_together(
    blobs: list[Location],
    output: Location | None,
    format: ForeignFormat,
    *,
    concatenated: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Scan blobs, and write the one file of another program that is the index of them all."""
    if output is None or means_folder(output):
        raise click.UsageError(f"--format {format} is one file for all blobs: name it with -o")
    # This is checked before the first scan, which may take minutes.
    for blob in blobs:
        prepare(blob, output, FORMATS[format].kind, force=force, make_folder=False)
    parts = [
        BlobPart(
            blob.text,
            blob,
            0,
            partial(scan, blob, concatenated=concatenated),
            partial(open_tar, blob),
        )
        for blob in blobs
    ]
    # Each blob is open only while it is scanned. The indexes stay in memory, because one file holds the members of all
    # blobs.
    parts = [part.with_index_read() for part in parts]
    rows = write_parts(parts, output, format)
    indexes = [part.read_index() for part in parts]
    members = sum(map(len, indexes))
    if as_json:
        left_out: Counter[str] = Counter()
        for index in indexes:
            left_out.update(index.report.without_row() if index.report else {})
        fields = {"blobs": len(blobs), "members": members, "rows": rows, "format": format}
        print_json({**fields, "index": output.text, "embedded": False, "left_out": left_out})
    else:
        print_report_line(
            f"indexed {counted(members, 'member')} of {counted(len(blobs), 'blob')}: {one_line(output.text)}"
        )
    print_unheld(members - rows, format)


def print_unheld(count: int, format: ForeignFormat) -> None:
    """Print how many members the index of another program can't hold."""
    if count:
        print_note(
            f"left out, because the index of {FORMATS[format].program} can't hold them: {counted(count, 'member')}"
        )
