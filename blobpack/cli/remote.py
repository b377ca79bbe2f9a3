"""Options for accounts, servers and uploads, which all commands with URLs share.

Strategy: the options are taken away from a command before it runs, and travel with its Locations. So a command gains one
line, its decorator.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from blobpack.cli.access import NAMES, SOURCE_PREFIX, access_in, source_access_in
from blobpack.cli.params import LocalPath, TwoParts
from blobpack.model import Checksum, Encryption
from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


class Pair(TwoParts):
    """A name and a value, NAME=VALUE."""

    name = "pair"

    def fault_of(self, text: str, first: str, second: str | None) -> str:
        """Demand a name and "="."""
        return "" if first and second is not None else f"{text!r} is not NAME=VALUE"


class Header(TwoParts):
    """A header, NAME: VALUE."""

    name, separator = "header", ":"

    def fault_of(self, text: str, first: str, second: str | None) -> str:
        """Demand a name and ":". The message does not show the value, which may be a secret."""
        return "" if first and second is not None else "a header is NAME: VALUE"


# name of an option → its settings; each is a field of S3Options
ACCOUNT_OPTIONS: dict[str, dict[str, Any]] = {
    "anonymous": {
        "is_flag": True,
        "help": "Send unsigned requests to S3, which public buckets accept.",
    },
    "profile": {"metavar": "NAME", "help": "Use this profile of the AWS configuration files."},
    "endpoint-url": {
        "metavar": "URL",
        "help": "URL of the S3 server.  [default: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, the profile's, or AWS]",
    },
    "region": {"metavar": "NAME", "help": "Region that requests to S3 are signed for."},
    "requester-pays": {
        "is_flag": True,
        "help": "Agree to pay for requests to requester-pays buckets, whose owners do not pay for them.",
    },
    "sse-c-key": {
        "type": LocalPath(exists=True, dir_okay=False),
        "metavar": "FILE",
        "help": "Encrypt and decrypt objects with the key of 32 bytes in this file, as bytes or in base64 (SSE-C).",
    },
}
ACCOUNT = tuple(click.option(f"--{name}", **settings) for name, settings in ACCOUNT_OPTIONS.items())
SOURCE = tuple(
    click.option(f"--source-{name}", **settings | {"help": f"Like --{name}, for the sources only."})
    for name, settings in ACCOUNT_OPTIONS.items()
)
WEB = (
    click.option(
        "--header",
        "headers",
        multiple=True,
        type=Header(),
        metavar="'NAME: VALUE'",
        help="Header of requests to the http(s):// server of BLOB. Repeatable.",
    ),
    click.option(
        "--bearer-token",
        type=LocalPath(exists=True, dir_okay=False),
        metavar="FILE",
        help="Send the token in this file to the http(s):// server of BLOB.",
    ),
)
UPLOAD = (
    click.option(
        "--content-type",
        metavar="TYPE",
        help="Media type of a new blob in S3.  [default: application/x-tar]",
    ),
    click.option(
        "--metadata",
        multiple=True,
        type=Pair(),
        metavar="NAME=VALUE",
        help="Metadata of new objects. Repeatable.",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        type=Pair(),
        metavar="NAME=VALUE",
        help="Tag of new objects. Repeatable.",
    ),
    click.option(
        "--storage-class",
        metavar="CLASS",
        help="Storage class of new objects, such as STANDARD_IA.",
    ),
    click.option(
        "--acl",
        metavar="NAME",
        help="Canned ACL of new objects, such as bucket-owner-full-control.",
    ),
    click.option(
        "--sse",
        type=click.Choice(get_args(Encryption)),
        help="How S3 encrypts new objects: SSE-S3 (AES256) or SSE-KMS.",
    ),
    click.option(
        "--sse-kms-key-id",
        metavar="KEY",
        help="Id, ARN or alias of the KMS key for --sse aws:kms.  [default: the bucket's own]",
    ),
    click.option(
        "--checksum",
        type=click.Choice(get_args(Checksum)),
        help="Algorithm of the checksum that S3 verifies and stores.",
    ),
)


def remote_options(command: F) -> F:
    """Add the options for accounts and servers."""
    return _with(ACCOUNT + WEB, command)


def upload_options(command: F) -> F:
    """Add the options for accounts and servers, and those for the objects that the command writes."""
    return _with(ACCOUNT + WEB + UPLOAD, command)


def copy_options(target: str) -> Callable[[F], F]:
    """Return a decorator that adds upload_options, and those for sources that another account or server has.

    Args:
        target: Name of the parameter that the command writes to. All other locations are sources.
    """

    def decorate(command: F) -> F:
        return _with(ACCOUNT + SOURCE + WEB + UPLOAD, command, target)

    return decorate


def _with(options: tuple[Callable[[F], F], ...], command: F, target: str | None = None) -> F:
    @wraps(command)
    def run(*arguments: Any, **params: Any) -> Any:
        access = access_in(params)
        source_access = source_access_in(params)
        given = {
            name: _reached_by(access if name == target else source_access, value)
            for name, value in params.items()
            if name not in NAMES and not name.startswith(SOURCE_PREFIX)
        }
        return command(*arguments, **given)

    decorated: Any = run
    # reversed, because click shows the option that was applied last at the top
    for option in reversed(options):
        decorated = option(decorated)
    result: F = decorated
    return result


def _reached_by(access: Access, value: Any) -> Any:
    """Return a value whose locations, if it has any, are reached by the options."""
    if access is NO_ACCESS:
        return value
    if isinstance(value, Location):
        return replace(value, access=access)
    if isinstance(value, tuple):
        return tuple(_reached_by(access, each) for each in value)
    return value
