"""The command `blobpack token`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blobpack.cli.options import json_option, keys_option
from blobpack.cli.report import print_json

if TYPE_CHECKING:
    from datetime import datetime

    from blobpack.gateway.tokens import Keys


@click.command()
@click.argument("scope")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Last day, in UTC, on which the token is valid.  [default: until its key is removed]",
)
@keys_option
@json_option
def token(scope: str, expires: datetime | None, keys: Keys, as_json: bool) -> None:
    """Print a token with which a client of `blobpack serve` may read what SCOPE covers.

    SCOPE is NAME for a whole blob, NAME/PREFIX/ or 'NAME/PREFIX*' for members whose names begin with PREFIX, NAME/MEMBER for
    one member, or '*' for everything. Put the token into URLs, as in /k/TOKEN/b/NAME/MEMBER, or send it as `Authorization:
    Bearer TOKEN`. If SCOPE, key and --expires are equal, the tokens are equal. To revoke a token, remove its key from the
    server's keys.

    \b
    blobpack token out/cats/ --keys keys.txt --expires 2030-12-31
    """
    if not keys:
        raise click.UsageError("a token needs a key pair: give --keys, or one in the environment")
    made = keys.token(scope, expires=expires and expires.date())
    if as_json:
        print_json(
            {"token": made, "scope": scope, "expires": expires and expires.date().isoformat()}
        )
    else:
        click.echo(made)
