"""The command `blobpack gallery`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.options import blob_argument, force_option, json_option
from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_report_line
from blobpack.cli.remote import upload_options
from blobpack.cli.report import print_json
from blobpack.errors import BlobpackError
from blobpack.gateway.gallery import write_gallery
from blobpack.model import without_secrets
from blobpack.quoting import one_line

if TYPE_CHECKING:
    from blobpack.stores.location import Location


@click.command()
@blob_argument
@click.option(
    "-o",
    "--output",
    type=PathOrS3(is_read=False, dir_okay=False),
    metavar="FILE",
    help="Path or s3:// URL of the page.  [default: beside BLOB, with the suffix .html; for a blob behind HTTP in the "
    "current folder]",
)
@click.option(
    "--url",
    default="",
    metavar="URL",
    help="Where browsers read BLOB, such as the URL of a CDN.  [default: relative to the page, if both are local files or "
    "lie in one prefix; else the URL of BLOB]",
)
@force_option
@upload_options
@json_option
def gallery(blob: Location, output: Location | None, url: str, force: bool, as_json: bool) -> None:
    """Write a page that shows the images of BLOB in a browser.

    The page is one HTML file. It reads BLOB, or the blobs of a collection, by ranged GETs, so no program has to run on the
    server. Put the page beside BLOB on any web server. If BLOB is in S3, this command writes the page beside it. If the page
    and BLOB have different origins, see `blobpack cors`.

    \b
    blobpack gallery out.tar
    blobpack gallery s3://bucket/out.tar -o s3://bucket/index.html
    blobpack gallery s3://bucket/out.tar --url https://cdn.example.org/out.tar -o index.html
    """
    try:
        written = write_gallery(blob, output, url=url, force=force)
    except BlobpackError:
        raise
    # the suffix promises another format, or the URL is missing
    except ValueError as exc:
        message = (
            str(exc).replace("target", "-o", 1).replace("name its URL", "name its URL with --url")
        )
        raise click.UsageError(message) from exc
    # the page holds the whole URL, which its reader needs; a report does not
    blob_shown = without_secrets(written.blob)
    if as_json:
        print_json({"page": written.page.text, "url": written.address, "blob": blob_shown})
        return
    where = f" ({written.address})" if written.address else ""
    print_report_line(f"wrote {one_line(written.page.text)}{where}, which reads {blob_shown}")
