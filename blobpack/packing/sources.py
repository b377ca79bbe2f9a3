"""What was given to pack → files, objects in S3, or payloads."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, cast

from blobpack.packing.files import Skipped, Sources, filtered, list_files, list_folder
from blobpack.packing.objects import Objects, list_prefix
from blobpack.packing.stream import total_bytes
from blobpack.stores.location import is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import Packable, Payload
    from blobpack.packing.choices import Choices

    Found = Sources | Objects | Iterator[Payload]


def find_sources(source: Packable, choices: Choices, skipped: Skipped) -> Found:
    """List a folder's files or a prefix's objects, or take files or (name, payload) pairs."""
    if isinstance(source, Objects):
        return source
    if isinstance(source, str) and is_s3(source):
        return list_prefix(source, skipped, hidden=choices.hidden)
    follow = choices.follow_symlinks
    if isinstance(source, (str, os.PathLike)):
        if not os.path.isfile(source):  # noqa: PTH113
            root = os.fsencode(source)
            return list_folder(root, skipped, hidden=choices.hidden, follow=follow)
        source = [source]
    items = iter(source)
    first = list(islice(items, 1))
    if first and isinstance(first[0], tuple):
        return cast("Iterator[Payload]", chain(first, items))
    files = cast("Iterable[str | os.PathLike[str]]", chain(first, items))
    return list_files(files, skipped, follow=follow)


def narrowed(found: Found, choices: Choices, skipped: Skipped) -> tuple[Found, Choices]:
    """Leave out what names alone exclude, where they are known; the choices are then without globs."""
    if isinstance(found, Sources):
        found = filtered(found, choices.globs, choices.exclude, skipped)
    elif isinstance(found, Objects):
        found = found.only(
            choices.globs, choices.exclude, skipped, images_only=not choices.all_files
        )
    else:
        return found, choices
    return found, replace(choices, globs=(), exclude=())


def expected_bytes(found: Found) -> int | None:
    """Add up what members of these take at most, about; None when that is not known."""
    if isinstance(found, Objects):
        return found.total_bytes()
    return total_bytes(found) if isinstance(found, Sources) else None
