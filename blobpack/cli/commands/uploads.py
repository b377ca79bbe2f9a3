"""The command `blobpack uploads`."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from blobpack.cli.params import PathOrS3
from blobpack.cli.printing import print_note
from blobpack.cli.remote import remote_options

if TYPE_CHECKING:
    from blobpack.stores.location import Location

# [0-9] and not \d, which also matches the digits of other scripts
AGE = re.compile(r"(?P<number>[0-9]+) ?(?P<unit>[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Age(click.ParamType[timedelta]):
    """A span of time, such as 90s, 30m, 1h or 7d."""

    name = "age"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse a span of time; anything else is wrong usage."""
        # click also converts values that have been converted already, such as defaults
        if isinstance(value, timedelta):
            return value
        written = AGE.fullmatch(value.strip())
        if written is None:
            self.fail(f"{value!r} is not a time, such as 90s, 30m, 1h or 7d", param, ctx)
        try:
            return timedelta(seconds=int(written["number"]) * SECONDS[written["unit"]])
        # a timedelta holds less than a billion days
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)


@click.command()
@click.argument("url", type=PathOrS3(is_read=False, prefix=True), metavar="URL")
@click.option(
    "--abort", "aborting", is_flag=True, help="Abort these uploads: S3 deletes their parts."
)
@click.option(
    "--older-than",
    type=Age(),
    metavar="AGE",
    help="Only uploads that began longer ago than this, such as 1h or 7d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on each line.")
@remote_options
def uploads(url: Location, aborting: bool, older_than: timedelta | None, as_json: bool) -> None:
    """List or abort unfinished uploads to S3.

    URL is an object, s3://bucket/key; a prefix, s3://bucket/prefix/; or a whole bucket, s3://bucket. An unfinished
    upload is still running, or its process was killed. If it was killed, S3 keeps its parts, and you pay for them. Then
    an append to the object fails until the upload is aborted. Aborting an upload that is still running makes it fail.

    \b
    blobpack uploads s3://bucket/out.tar --abort
    blobpack uploads s3://bucket --older-than 1d
    """
    if not url.is_s3:
        raise click.UsageError(f"{url} is not in S3; give an s3:// URL")
    # imported here, because it imports boto3, which --help must not wait for
    from blobpack.stores.s3.unfinished import abort, find_unfinished

    found = list(find_unfinished(url, older_than=older_than))
    # on stderr, so that a program that reads stdout gets no lines
    if not found:
        print_note(f"no unfinished uploads to {url}")
    for upload in found:
        # False: the upload ended since it was listed, so it was not this command that ended it
        if aborting and not abort(upload, url.access.s3):
            continue
        if as_json:
            fields = {"url": upload.url, "upload": upload.id, "since": upload.since.isoformat()}
            click.echo(json.dumps(fields | {"aborted": aborting}))
        else:
            click.echo(f"aborted {upload}" if aborting else str(upload))
