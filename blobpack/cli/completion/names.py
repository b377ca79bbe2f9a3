"""Completions for the shell: paths, buckets and keys in S3, and names of members.

Strategy: completions end at the next "/", as a shell's own do for folders, because a bucket or a blob may hold millions of
names. Whatever fails gives no completions: a message would be printed into the line that the user is typing.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from blobpack.cli.access import access_in
from blobpack.errors import BlobpackError, MissingIndexWarning
from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

# more are of no use to a reader, and take long to print
COMPLETIONS_MAX = 1000
S3 = "s3://"


def complete_location(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete a path, or an s3:// URL."""
    if incomplete.startswith(S3):
        return items(objects_at(incomplete, access_in(ctx.params)))
    if "://" in incomplete:
        return []
    # the shell itself knows best how to complete a path
    found = [CompletionItem(incomplete, type="file")]
    # the only URLs that can be completed
    return found + (items([S3]) if incomplete and S3.startswith(incomplete) else [])


def objects_at(url: str, access: Access = NO_ACCESS) -> list[str]:
    """Return the buckets, or the objects and folders, whose s3:// URLs begin with a text."""
    # imported here, because what talks to S3 takes 160 ms to import, and most completions need none of it
    from blobpack.stores.s3.bucket import Bucket
    from blobpack.stores.s3.listing import list_buckets, list_level

    bucket, slash, prefix = url.removeprefix(S3).partition("/")
    with suppress(BlobpackError, ValueError):
        if not slash:
            names = list_buckets(access.s3)
            return [f"{S3}{name}/" for name in names if name.startswith(bucket)]
        keys = list_level(Bucket(bucket, options=access.s3), prefix)
        return [f"{S3}{bucket}/{key}" for key in keys]
    return []


def complete_member(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete the name of a member of BLOB."""
    blob = ctx.params.get("blob")
    if not isinstance(blob, Location):
        return []
    blob = replace(blob, access=access_in(ctx.params))
    with suppress(BlobpackError, MissingIndexWarning, OSError, ValueError):
        return items(names_from(blob, ctx.params.get("index_path"), incomplete))
    return []


def names_from(blob: Location, index: Location | None, prefix: str) -> list[str]:
    """Return the names in a blob or collection that begin with a text, each cut behind the next "/"."""
    from blobpack.opening.open import open as open_any

    # without an index, each press of the key would scan the blob
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingIndexWarning)
        opened = open_any(blob, index)
    with opened:
        # a glob, because native code looks at a million names in 30 ms
        return next_parts(opened.index.select(glob_of(prefix)).names, prefix)


def next_parts(names: Iterable[str], prefix: str) -> list[str]:
    """Cut names behind the first "/" that follows a prefix, and return each result once, in order."""
    parts: dict[str, None] = {}
    for name in names:
        end = name.find("/", len(prefix)) + 1
        parts[name[:end] if end else name] = None
        if len(parts) == COMPLETIONS_MAX:
            break
    return sorted(parts)


def glob_of(prefix: str) -> str:
    """Return the glob that matches every name with a prefix."""
    return re.sub(r"([*?[])", r"[\1]", prefix) + "*"


def items(values: Iterable[str]) -> list[CompletionItem[Any]]:
    """Return completions, without those that hold a control character, which a shell would act on."""
    return [CompletionItem(value) for value in values if value.isprintable()]
