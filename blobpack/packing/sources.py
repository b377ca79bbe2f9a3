"""What was given to pack → files, objects in S3, or payloads."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, cast

from blobpack.packing.files import Skipped, Sources, filtered, list_files, list_folder
from blobpack.packing.objects import Objects, list_prefix
from blobpack.packing.stream import total_bytes
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.model import Packable, Payload, Progress

    pass

    Found = Sources | Objects | Iterator[Payload]


def find_sources(source: Packable, choices: Choices, skipped: Skipped) -> Found:
    """List a folder's files or a prefix's objects, or take files or (name, payload) pairs."""
    if isinstance(source, Objects):
        return source
    follow = choices.follow_symlinks
    if isinstance(source, (str, os.PathLike)):
        place = Location.parse(source, prefix=True)
        if place.is_s3:
            return list_prefix(place, skipped, hidden=choices.hidden)
        source = place.text
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


@dataclass(frozen=True, slots=True)
class Choices:
    """Which files are packed, and how.

    Attributes:
        globs: Only names that match one of these, if there are any.
        exclude: And none of these.
        all_files: Also what is no image.
        hidden: Also what has a name that begins with ".".
        follow_symlinks: What symbolic links point at.
        keep_mtime: Store modification times.
        facts: Take them for the index.
        threads: How many read; None for as many as there are processors, up to 4.
        progress: progress(files, bytes).
    """

    globs: Sequence[str]
    exclude: Sequence[str]
    all_files: bool
    hidden: bool
    follow_symlinks: bool
    keep_mtime: bool
    facts: bool
    threads: int | None
    progress: Progress | None
