"""`blobpack uploads`."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from blobpack.cli.params import PathOrS3

if TYPE_CHECKING:
    from blobpack.stores.location import Location

AGE = re.compile(r"(?P<number>[0-9]+) ?(?P<unit>[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Age(click.ParamType[timedelta]):
    """A time, such as 90s, 30m, 1h or 7d."""

    name = "age"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Refuse what is no such time as wrong usage."""
        if isinstance(value, timedelta):
            return value
        written = AGE.fullmatch(value.strip())
        if written is None:
            self.fail(f"{value!r} is no time: 90s, 30m, 1h or 7d are", param, ctx)
        try:
            return timedelta(seconds=int(written["number"]) * SECONDS[written["unit"]])
        except OverflowError:
            self.fail(f"{value!r} is longer than time is counted", param, ctx)


@click.command()
@click.argument("url", type=PathOrS3(prefix=True), metavar="URL")
@click.option("--abort", "aborting", is_flag=True, help="Throw them away.")
@click.option("--older-than", type=Age(), metavar="AGE", help="Only those that began so long ago.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def uploads(url: Location, aborting: bool, older_than: timedelta | None, as_json: bool) -> None:
    """List the unfinished uploads to URL: s3://bucket/key, all below s3://bucket/prefix/, or a whole bucket.

    They are under way, or a kill has left them: then S3 keeps their parts, and bills them, and an append to the
    object is refused. What is still under way fails if it is aborted.

    \b
    blobpack uploads s3://bucket/out.tar --abort
    blobpack uploads s3://bucket --older-than 1d
    """
    if not url.is_s3:
        raise click.UsageError(f"{url} is not in S3: s3://bucket/key is")
    from blobpack.stores.s3.unfinished import abort, find_unfinished  # and boto3

    found = list(find_unfinished(url, older_than=older_than))
    if not found:
        click.echo(f"no unfinished uploads to {url}", err=True)
    for upload in found:
        if aborting and not abort(upload):
            continue
        if as_json:
            told = {"url": upload.url, "upload": upload.id, "since": upload.since.isoformat()}
            click.echo(json.dumps(told | {"aborted": aborting}))
        else:
            click.echo(f"aborted {upload}" if aborting else str(upload))
