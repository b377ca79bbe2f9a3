"""The command `blobpack verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from blobpack.cli.opened import opened_if_allowed
from blobpack.cli.options import (
    allow_option,
    blob_argument,
    index_option,
    json_option,
    threads_option,
)
from blobpack.cli.printing import print_report_line, progress_option, progress_shown
from blobpack.cli.remote import remote_options
from blobpack.cli.report import print_json
from blobpack.reading.verify import verify as library

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "--full/--fast",
    default=True,
    show_default=True,
    help="Compare headers with the index and payloads with their checksums, or only the headers.",
)
@index_option
@allow_option
@threads_option("one for each processor, up to 8; for a remote BLOB, 8")
@progress_option
@json_option
@click.pass_context
@remote_options
def verify(
    ctx: click.Context,
    blob: Location,
    full: bool,
    index_path: Location | None,
    allow: tuple[Location, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare BLOB with its index.

    Each header is compared with the index, and each payload with its checksum, if the index has
    checksums. Each member that fails is printed to stdout, with its place in BLOB. The exit code is
    1 if any member fails. BLOB may also be a collection, or a folder, prefix or glob of blobs.

    \b
    blobpack verify out.tar
    blobpack verify s3://bucket/out.tar --fast
    """
    [source] = opened_if_allowed([blob], allow)
    with progress_shown("members") as progress:
        report = library(source, index=index_path, full=full, threads=threads, progress=progress)
    if as_json:
        fields = {"source": report.url, **asdict(report), "ok": report.ok}
        del fields["url"]
        print_json({**fields, "seconds": round(report.seconds, 3)})
    else:
        for failure in report.failures:
            click.echo(str(failure))
        print_report_line(str(report))
    # the report is on stdout already, so no ClickException, which would print a message, too
    if not report.ok:
        ctx.exit(1)
