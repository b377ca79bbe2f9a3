"""Read the options for accounts and servers from a command line."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.access.s3_options import S3Options

# The longest come first, because "sse" is a part of other names.
NAMES = sorted(
    ("headers", "bearer_token", *(each.name for each in fields(S3Options))), key=len, reverse=True
)


# prefix of the options for sources that have another account or server than the target
SOURCE_PREFIX = "source_"


def source_access_in(params: dict[str, Any]) -> Access:
    """Return how a command reaches its sources: by the options for sources, or as the target if none of them is given.

    Raises:
        click.UsageError: two options contradict each other, or a value is wrong.
    """
    given = {
        name.removeprefix(SOURCE_PREFIX): value
        for name, value in params.items()
        if name.startswith(SOURCE_PREFIX) and value
    }
    if not given:
        return access_in(params)
    # Headers and tokens have no --source- option: they are sent to http(s):// servers, which only sources can have.
    web = {name: params[name] for name in ("headers", "bearer_token") if params.get(name)}
    return access_in(web | given, prefix="--source-")


def access_in(params: dict[str, Any], *, prefix: str = "--") -> Access:
    """Return the account and server that the options of a command line name.

    Args:
        params: The options by their names in S3Options.
        prefix: How the options begin on the command line, for messages.

    Raises:
        click.UsageError: two options contradict each other, or a value is wrong.
    """
    given = {name: params[name] for name in NAMES if params.get(name)}
    if not given:
        return NO_ACCESS
    for name in ("metadata", "tags", "headers"):
        given[name] = dict(given.get(name, ()))
    headers = {header: value.strip() for header, value in given.pop("headers").items()}
    token = given.pop("bearer_token", None)
    try:
        return Access.of(
            "command",
            {
                "s3": S3Options(**given),
                "headers": headers,
                "bearer_token": Path(token) if token else None,
            },
        )
    except ValueError as exc:
        # The message names fields of S3Options. The user knows them as options.
        options = re.sub(
            "|".join(NAMES), lambda found: f"{prefix}{found[0].replace('_', '-')}", str(exc)
        )
        raise click.UsageError(options) from exc
