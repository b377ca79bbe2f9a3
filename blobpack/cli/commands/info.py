"""The command `blobpack info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blobpack.cli.options import blob_argument, json_option
from blobpack.columns import FACTS
from blobpack.opening.blob import Blob, open_blob
from blobpack.quoting import one_line

if TYPE_CHECKING:
    from blobpack.stores.location import Location

# a tar ends with two zero blocks (POSIX pax, "ustar Interchange Format"), but tar tools also read tars without them
END_MARKERS = {0: "missing", 1: "one zero block instead of two", 2: "whole"}


@click.command()
@blob_argument
@json_option
def info(blob: Location, as_json: bool) -> None:
    """Print figures about BLOB, such as the number of members, the sizes and the facts.

    It also counts folders, symbolic links and the like, which have no payload and are not listed as
    members.

    \b
    blobpack info out.tar
    """
    with open_blob(blob) as opened:
        fields = describe(opened)
    if as_json:
        click.echo(json.dumps(fields))
        return
    for field, value in fields.items():
        shown = f"{value:,}" if isinstance(value, int) else one_line(value)
        click.echo(f"{field.replace('_', ' ') + ':':<20}{shown}")


def describe(blob: Blob) -> dict[str, int | str]:
    """Collect a blob's figures, in the order in which they are shown. Sizes are in bytes."""
    sizes = blob.index.offset_end - blob.index.offset_start
    identity = blob.index.identity
    # an index from a scan or an offsets file has no identity: then the whole blob counts as the archive
    archive_bytes = identity.archive_bytes if identity else blob.store.size
    report = blob.index.report
    fields: dict[str, int | str] = {
        "blob": blob.url,
        "blob_bytes": blob.store.size,
        "members": len(blob.index),
        # int(), because json does not know NumPy's numbers
        "payload_bytes": int(sizes.sum()),
        "index_bytes_inside": blob.store.size - archive_bytes,
        "facts": ", ".join(name for name in FACTS if name in blob.index.facts) or "none",
    }
    # min() of an empty array raises ValueError
    if len(sizes):
        fields["smallest"] = int(sizes.min())
        fields["mean"] = round(float(sizes.mean()))
        fields["largest"] = int(sizes.max())
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
