"""Resolve the source that pack was given: list folders or prefixes in S3, or check files or payloads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING

from blobpack.argument_order import is_several, is_there
from blobpack.index.index import Index
from blobpack.model import check_path, check_several, shown
from blobpack.opening.reader import Reader
from blobpack.packing.files import FileList, Skipped, filter_files, rename_files
from blobpack.packing.listing import list_folder, list_given, sorted_by_name
from blobpack.packing.names import GivenNames, NameChange
from blobpack.packing.objects import Objects, list_prefix, list_prefixes
from blobpack.packing.options import directory_of, globs_of, source_access_of
from blobpack.packing.stream import total_bytes
from blobpack.stores.arguments import is_place, local_path_of, location_of
from blobpack.stores.location import Location
from blobpack.tar.header import encode_name, is_blob_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import Packable, Payload
    from blobpack.packing.options import PackOptions
    from blobpack.stores.access.remote import Access

    ResolvedSource = FileList | Objects | Iterator[Payload]


def number_of(found: ResolvedSource) -> int | None:
    """Return the number of files or objects; None for payloads, which may come from an iterator."""
    if isinstance(found, FileList):
        return len(found.paths)
    return len(found) if isinstance(found, Objects) else None


def check_packable(source: Packable, options: PackOptions) -> None:
    """Check that a source has a form that can be packed; nothing is read.

    Raises:
        TypeError: the source is neither a path nor an iterable of paths or payloads, or is an open blob.
        ValueError: the source is empty, or a URL that is not in S3; or a directory is given for a list or a mapping.
    """
    given: object = source
    # both can be iterated, and yield names: pack would look for files of these names
    if isinstance(given, (Reader, Index)):
        what = "an Index" if isinstance(given, Index) else "an open blob"
        raise TypeError(
            f"source is {what}: copy its members by subset or merge, or pack (name, payload) pairs, such as blob.items()"
        )
    if isinstance(given, tuple) and len(given) == 2 and _is_pair(*given):
        raise TypeError(
            f"source must be several (name, payload) pairs, not one: a list of pairs is [({shown(given[0])}, …)]"
        )
    if isinstance(source, (Objects, Mapping)):
        if options["directory"] is not None:
            raise ValueError("directory is for paths, but the source is no path")
    elif not isinstance(source, (str, os.PathLike)):
        check_several("source", source, "paths or (name, payload) pairs")
    # HTTP has no request that lists a folder
    elif location_of("source", source, prefix=True).kind == "http":
        raise ValueError(
            f"source must be a path or s3://bucket/prefix, not {shown(str(source))}: read_manifest takes a list of URLs"
        )


def is_blob_target(value: object) -> bool:
    """Return whether a value may be meant for a blob to write: no folder, and no file of another kind."""
    path = local_path_of(value)
    is_other_file = path is not None and is_there(value) and not is_blob_file(value)
    return is_place(value) and not is_other_file


def _is_pair(name: object, payload: object) -> bool:
    """Return whether two values are a name and its payload."""
    return isinstance(name, str) and isinstance(payload, (bytes, bytearray, memoryview))


def is_packable(value: object) -> bool:
    """Return whether a value may be meant for a source: several things, a prefix, a folder, or a file that is no blob."""
    path = local_path_of(value)
    if path is None:
        return is_place(value) or is_several(value)
    return is_there(value) and not is_blob_file(value)


def resolve_source(source: Packable, options: PackOptions, skipped: Skipped) -> ResolvedSource:
    """List the files or objects of a source, or check files or (name, payload) pairs; make their names.

    Raises:
        SourceError: a folder or a prefix can't be listed.
        DuplicateNameError: two files have one member name.
        UnsafeNameError: nothing is left of a name.
    """
    found = _resolve(source, options, skipped)
    change = NameChange.of(options["strip"], options["prefix"])
    if change is not None:
        found = _rename(found, change, options, skipped)
    if isinstance(found, Objects):
        # they become payloads, which know no URLs
        skipped.path_of = found.path_of
    return found


def _resolve(source: Packable, options: PackOptions, skipped: Skipped) -> ResolvedSource:
    # what read_manifest returns
    if isinstance(source, Objects):
        for each in source.left_out:
            skipped.add(each.reason, each.name, each.url)
        return source
    if isinstance(source, Mapping):
        return _checked_payloads(source.items())
    hidden, follow = options["hidden"], options["follow_symlinks"]
    directory = directory_of(options)
    access = source_access_of(options)
    if isinstance(source, (str, os.PathLike)):
        place = location_of("source", source, prefix=True, access=access)
        if directory is None and place.has_key:
            return list_prefix(place, skipped, hidden=hidden)
        # a path that does not exist counts as a folder: list_folder then names it in a SourceError
        if directory is None and not os.path.isfile(place):  # noqa: PTH113
            return list_folder(os.fsencode(place), skipped, hidden=hidden, follow=follow)
        source = [place]
    # the first element decides between files and payloads; it is put back, for the source may be a generator
    elements = iter(source)
    first = list(islice(elements, 1))
    if first and isinstance(first[0], tuple):
        if directory is not None:
            raise ValueError("directory is for paths, but the source holds (name, payload) pairs")
        return _checked_payloads(chain(first, elements))
    places = list(_checked_places(chain(first, elements), directory, access))
    prefixes = [place for place in places if isinstance(place, Location)]
    paths = [place for place in places if not isinstance(place, Location)]
    if not prefixes:
        here = directory if directory and directory.is_local else None
        return list_given(paths, here, skipped, hidden=hidden, follow=follow)
    if paths:
        raise ValueError(
            f"source must be either in S3 or on this disk, but it has both {prefixes[0].text!r} and "
            f"{os.fspath(paths[0])!r}"
        )
    naming = GivenNames(directory)
    named = [(place, naming.of_prefix(place)) for place in prefixes]
    return list_prefixes(named, skipped, hidden=hidden)


def _rename(
    found: ResolvedSource, change: NameChange, options: PackOptions, skipped: Skipped
) -> ResolvedSource:
    if isinstance(found, FileList):
        images_only = not options["all_files"]
        return sorted_by_name(rename_files(found, change, skipped, images_only=images_only))
    if isinstance(found, Objects):
        return found.renamed(change)
    return _renamed(found, change)


def _renamed(payloads: Iterable[Payload], change: NameChange) -> Iterator[Payload]:
    for name, payload in payloads:
        yield os.fsdecode(change.apply(encode_name(name))), payload


def _checked_payloads(payloads: Iterable[object]) -> Iterator[Payload]:
    """Yield each element of a source, and check that it is a (name, payload) pair."""
    # lazily: the payloads of a generator together may be larger than memory
    for pair in payloads:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"source must be (name, payload) pairs, but one is {shown(pair)}")
        name, payload = pair
        if not isinstance(name, str):
            swapped = isinstance(name, bytes) and isinstance(payload, str)
            raise TypeError(
                f"source must be (name, payload) pairs, not (payload, name) as in {shown(pair)}"
                if swapped
                else f"source must be (name, payload) pairs, and the name {shown(name)} is not a str"
            )
        if not isinstance(payload, bytes):
            # any object with the buffer protocol will do: bytearray, memoryview, a NumPy array
            try:
                memoryview(payload)
            except TypeError:
                raise TypeError(_not_a_payload(name, payload)) from None
        yield name, payload


def _not_a_payload(name: str, payload: object) -> str:
    """Return the message for a payload that is not bytes."""
    remedy = ""
    if isinstance(payload, os.PathLike):
        remedy = ": read the file, by Path.read_bytes()"
    elif isinstance(payload, str):
        remedy = ": encode a text, by str.encode(); read a file, by Path.read_bytes()"
    return f"source: the payload of {name!r} must be bytes or another buffer, not {type(payload).__name__}{remedy}"


def _checked_places(
    given: Iterable[object], directory: Location | None, access: Access
) -> Iterator[str | os.PathLike[str]]:
    """Yield each element of a source: a local path, or the Location of a prefix in S3."""
    far = directory if directory and directory.has_key else None
    for one in given:
        if not isinstance(one, (str, os.PathLike)):
            raise TypeError(
                f"source must be several paths or (name, payload) pairs, but one is {shown(one)}"
            )
        # parsed only if it may be a URL: a list may name millions of files
        place: str | os.PathLike[str] = one
        if isinstance(one, Location) or ":/" in check_path("source", one):
            location = location_of("source", one, prefix=True, access=access)
            if location.kind == "http":
                raise ValueError(
                    f"source must be local paths or prefixes in S3, but one is {location.text!r}: read_manifest takes a "
                    "list of URLs"
                )
            place = location.path if location.is_local else location
        if far and not isinstance(place, Location) and not os.path.isabs(place):  # noqa: PTH117
            place = far.as_folder.below(os.fspath(place))
        yield place


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
