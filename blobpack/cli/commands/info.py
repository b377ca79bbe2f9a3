"""The command `blobpack info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import opened_source
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    index_option,
    json_option,
    rescan_option,
)
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.columns import FACTS, OFFSET_MAX
from blobpack.model import redacted
from blobpack.opening.collection import Collection
from blobpack.quoting import one_line

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.model import Rescan
    from blobpack.opening.blob import Blob
    from blobpack.stores.location import Location

    Figures = dict[str, int | str]

# a tar ends with two zero blocks (POSIX pax, "ustar Interchange Format"), but tar tools also read tars without them
END_MARKERS = {0: "missing", 1: "one zero block instead of two", 2: "whole"}


@click.command()
@blob_argument
@index_option
@rescan_option
@allow_option
@remote_options
@json_option
def info(
    blob: Location,
    index_path: Location | None,
    rescan: Rescan | None,
    allow: tuple[Location, ...],
    as_json: bool,
) -> None:
    """Print figures about BLOB, such as the number of members, the sizes and the facts.

    It also counts folders, symbolic links and the like, which have no payload and are not listed as members. For a
    collection, or a folder, prefix or glob of blobs, it prints the sums; --json also lists the blobs.

    \b
    blobpack info out.tar
    blobpack info shards/
    """
    opened = opened_source(blob, index_path, rescan=rescan, allow=allow)
    fields = describe_collection(opened) if isinstance(opened, Collection) else describe(opened)
    if as_json:
        table = {"table": table_of(opened)} if isinstance(opened, Collection) else {}
        facts = [name for name in FACTS if name in opened.index.facts]
        print_json({**fields, "facts": facts, **table})
        return
    for field, value in fields.items():
        shown = f"{value:,}" if isinstance(value, int) else one_line(value)
        click.echo(f"{field.replace('_', ' ') + ':':<20}{shown}")


def describe(blob: Blob) -> Figures:
    """Collect a blob's figures, in the order in which they are shown. Sizes are in bytes."""
    identity = blob.index.identity
    # an index from a scan or an offsets file has no identity: then the whole blob counts as the archive
    archive_bytes = identity.archive_bytes if identity else blob.store.size
    report = blob.index.report
    fields: Figures = {
        "blob": blob.url,
        "blob_bytes": blob.store.size,
        **figures_of(blob.index),
        "index_bytes_inside": blob.store.size - archive_bytes,
    }
    # only a scan meets these; an offsets file, say, has no report of one
    if report:
        fields["end_marker"] = END_MARKERS[report.end_marker]
        fields["after_the_end"] = max(
            0, archive_bytes - report.bytes_scanned - 512 * report.end_marker
        )
        fields["hard_links"] = report.hard_links
        fields |= report.without_row()
        behind = ("members_behind", "other_behind", "unseen_behind")
        fields |= {name: getattr(report, name) for name in behind if getattr(report, name)}
    return fields


def describe_collection(collection: Collection) -> Figures:
    """Collect a collection's figures, in the order in which they are shown. Sizes are in bytes."""
    blobs = list(collection.blobs)
    return {
        "collection": collection.url,
        "blobs": len(blobs),
        "blob_bytes": sum(blob.bytes for blob in blobs),
        **figures_of(collection.index),
    }


def table_of(collection: Collection) -> list[dict[str, int | str]]:
    """Return the blobs of a collection as rows for JSON."""
    return [
        {
            "blob": redacted(blob.url),
            "first_row": blob.first_row,
            "members": blob.rows,
            "blob_bytes": blob.bytes,
        }
        for blob in collection.blobs
    ]


def figures_of(index: Index) -> Figures:
    """Collect what an index says of its members. Sizes are in bytes."""
    import numpy as np

    fields: Figures = {
        "members": len(index),
        "payload_bytes": 0,
        "facts": ", ".join(name for name in FACTS if name in index.facts) or "none",
    }
    total, smallest, largest = 0, OFFSET_MAX, 0
    # part by part: all members of a large index may not fit into memory
    for part in index._pieces():
        sizes = np.asarray(part.offset_end) - np.asarray(part.offset_start)
        # int(), because json does not know NumPy's numbers
        total += int(sizes.sum())
        smallest = min(smallest, int(sizes.min(initial=OFFSET_MAX)))
        largest = max(largest, int(sizes.max(initial=0)))
    fields["payload_bytes"] = total
    if len(index):
        fields |= {"smallest": smallest, "mean": round(total / len(index)), "largest": largest}
    return fields
