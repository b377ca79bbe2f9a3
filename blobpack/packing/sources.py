"""Resolve the source that pack was given: list a folder or a prefix in S3, or check files or payloads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING

from blobpack.model import check_path, check_several, shown
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
    """Check that a source has a form that can be packed; nothing is read.

    Raises:
        TypeError: the source is neither a path nor an iterable of paths or payloads.
        ValueError: the source is empty, or a URL that is not in S3.
    """
    if not isinstance(source, (str, os.PathLike)):
        # iterating over a mapping would give its keys, which would be taken for paths
        if isinstance(source, Mapping):
            raise TypeError(
                "source must be paths or (name, payload) pairs, not a mapping: give its items()"
            )
        check_several("source", source, "paths or (name, payload) pairs")
        return
    # HTTP has no request that lists a folder
    if location_of("source", source, prefix=True).kind == "http":
        raise ValueError(
            f"source must be a path or s3://bucket/prefix, not {shown(str(source))}: read_manifest takes a list of URLs"
        )


def resolve_source(source: Packable, options: PackOptions, skipped: Skipped) -> ResolvedSource:
    """List the files of a folder or the objects below a prefix, or check files or (name, payload) pairs.

    Raises:
        SourceError: a folder or a prefix can't be listed, or a folder is among the files.
        DuplicateNameError: two files have one member name.
        UnsafeNameError: the path of a file contains "..".
    """
    # what read_manifest returns
    if isinstance(source, Objects):
        return source
    follow = options["follow_symlinks"]
    if isinstance(source, (str, os.PathLike)):
        place = Location.parse(source, prefix=True)
        if place.is_s3:
            return list_prefix(place, skipped, hidden=options["hidden"])
        source = place.whole
        # a path that does not exist counts as a folder: list_folder then names it in a SourceError
        if not os.path.isfile(source):  # noqa: PTH113
            root = os.fsencode(source)
            return list_folder(root, skipped, hidden=options["hidden"], follow=follow)
        source = [source]
    # the first element decides between files and payloads; it is put back, for the source may be a generator
    elements = iter(source)
    first = list(islice(elements, 1))
    if first and isinstance(first[0], tuple):
        return _checked_payloads(chain(first, elements))
    return list_files(_checked_files(chain(first, elements)), skipped, follow=follow)


def _checked_payloads(payloads: Iterable[object]) -> Iterator[Payload]:
    """Yield each element of a source, and check that it is a (name, payload) pair."""
    # lazily: the payloads of a generator together may be larger than memory
    for pair in payloads:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"source must be (name, payload) pairs, and one is {shown(pair)}")
        name, payload = pair
        if not isinstance(name, str):
            raise TypeError(f"source must be pairs of str and bytes, and one name is {name!r}")
        if not isinstance(payload, bytes):
            # any object with the buffer protocol will do: bytearray, memoryview, a NumPy array
            try:
                memoryview(payload)
            except TypeError:
                kind = type(payload).__name__
                raise TypeError(
                    f"source must be pairs of str and bytes, and {name!r} is {kind}"
                ) from None
        yield name, payload


def _checked_files(files: Iterable[object]) -> Iterator[str | os.PathLike[str]]:
    """Yield each element of a source, and check that it is a local path."""
    for file in files:
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(
                f"source must be several paths or (name, payload) pairs, and one is {shown(file)}"
            )
        # parsed only if it may be a URL: a list may name millions of files
        if ":/" not in check_path("source", file):
            yield file
            continue
        location = location_of("source", file)
        if not location.is_local:
            raise ValueError(
                f"source must be one prefix in S3 or several local paths, and one is {location.text!r}: "
                "read_manifest takes a list of URLs"
            )
        yield location.path


def filter_by_name(
    found: ResolvedSource, options: PackOptions, skipped: Skipped
) -> tuple[ResolvedSource, PackOptions]:
    """Apply the globs to a source whose names are known before it is read.

    Returns:
        The rest of the source, and options without the globs that were applied. The names of a generator of
        payloads are not known yet; so such a source and its options are returned unchanged.
    """
    # before anything is read: a file that is filtered out is not opened, and an object is not fetched
    globs, exclude = globs_of(options)
    if isinstance(found, FileList):
        found = filter_files(found, globs, exclude, skipped)
    elif isinstance(found, Objects):
        found = found.filter(globs, exclude, skipped, images_only=not options["all_files"])
    else:
        return found, options
    # All that is left matches. With these globs, members.py would match each name a second time.
    return found, {**options, "globs": (), "exclude": ()}


def expected_bytes(found: ResolvedSource) -> int | None:
    """Return an upper bound for the bytes of a blob of this source, or None if sizes are not known."""
    if isinstance(found, Objects):
        return found.total_bytes()
    return total_bytes(found) if isinstance(found, FileList) else None
