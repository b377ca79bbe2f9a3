"""The source given to pack → files, objects in S3 or payloads; and the options that say which of them, and how."""

from __future__ import annotations

import os
from itertools import chain, islice
from typing import TYPE_CHECKING

from blobpack.model import check_path, check_several
from blobpack.packing.files import FileList, Skipped, filter_files, list_files, list_folder
from blobpack.packing.objects import Objects, list_prefix
from blobpack.packing.options import globs_of
from blobpack.packing.stream import total_bytes
from blobpack.stores.location import Location, location_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import Packable, Payload
    from blobpack.packing.options import PackOptions

    ResolvedSource = FileList | Objects | Iterator[Payload]


def check_source(source: Packable) -> None:
    """Check that a source can be packed, whatever is there.

    Raises:
        TypeError: it is neither a path nor several paths or payloads.
        ValueError: it is a URL that is not in S3, or empty.
    """
    if not isinstance(source, (str, os.PathLike)):
        check_several("source", source, "paths or (name, payload) pairs")
        return
    if location_of("source", source, prefix=True).kind == "http":
        raise ValueError(
            f"source must be a path or s3://bucket/prefix, not {str(source)!r}: read_manifest takes a list of URLs"
        )


def _checked_payloads(payloads: Iterable[object]) -> Iterator[Payload]:
    """Check that each thing is a (name, payload) pair, when it is reached."""
    for pair in payloads:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"source must be (name, payload) pairs, and one is {pair!r:.200}")
        name, payload = pair
        if not isinstance(name, str):
            raise TypeError(f"source must be pairs of str and bytes, and one name is {name!r}")
        if not isinstance(payload, bytes):
            try:
                memoryview(payload)
            except TypeError:
                kind = type(payload).__name__
                raise TypeError(
                    f"source must be pairs of str and bytes, and {name!r} is {kind}"
                ) from None
        yield name, payload


def _checked_files(files: Iterable[object]) -> Iterator[str | os.PathLike[str]]:
    """Check that each thing is a local path, when it is reached."""
    for file in files:
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(
                f"source must be several paths or (name, payload) pairs, and one is {file!r}"
            )
        check_path("source", file)
        if isinstance(file, str) and "://" in file:
            raise ValueError(
                f"source must be one prefix in S3 or several local paths, and one is {file!r}: "
                "read_manifest takes a list of URLs"
            )
        yield file


def resolve_source(source: Packable, options: PackOptions, skipped: Skipped) -> ResolvedSource:
    """List a folder's files or a prefix's objects, or take files or (name, payload) pairs."""
    if isinstance(source, Objects):
        return source
    follow = options["follow_symlinks"]
    if isinstance(source, (str, os.PathLike)):
        place = Location.parse(source, prefix=True)
        if place.is_s3:
            return list_prefix(place, skipped, hidden=options["hidden"])
        source = place.text
        if not os.path.isfile(source):  # noqa: PTH113
            root = os.fsencode(source)
            return list_folder(root, skipped, hidden=options["hidden"], follow=follow)
        source = [source]
    items = iter(source)
    first = list(islice(items, 1))
    if first and isinstance(first[0], tuple):
        return _checked_payloads(chain(first, items))
    return list_files(_checked_files(chain(first, items)), skipped, follow=follow)


def filter_by_name(
    found: ResolvedSource, options: PackOptions, skipped: Skipped
) -> tuple[ResolvedSource, PackOptions]:
    """Leave out what names alone exclude, where they are known; the options are then without globs."""
    globs, exclude = globs_of(options)
    if isinstance(found, FileList):
        found = filter_files(found, globs, exclude, skipped)
    elif isinstance(found, Objects):
        found = found.only(globs, exclude, skipped, images_only=not options["all_files"])
    else:
        return found, options
    return found, {**options, "globs": (), "exclude": ()}


def expected_bytes(found: ResolvedSource) -> int | None:
    """Add up what members of these take at most, about; None when that is not known."""
    if isinstance(found, Objects):
        return found.total_bytes()
    return total_bytes(found) if isinstance(found, FileList) else None
