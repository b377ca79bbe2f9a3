"""Opens blobs and collections, and selects members, as a command's arguments and options ask."""

from __future__ import annotations

import os
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import click

from blobpack.cli.printing import print_note
from blobpack.errors import BlobpackError
from blobpack.index.which import NAMES_SEARCHED_AT_ONCE
from blobpack.model import CACHE_BYTES_MIN
from blobpack.opening.blob import Blob
from blobpack.opening.kind import kind_of
from blobpack.opening.open import open as open_any, stored_collection
from blobpack.stores.location import Location
from blobpack.stores.replace import check_suffix
from blobpack.tar.scan import scan
from blobpack.wording import counted

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

    from blobpack.index.index import Index
    from blobpack.model import Rescan
    from blobpack.opening.collection import Collection
    from blobpack.stores.replace import OutputKind

# names that are looked up together in a local index
LOCAL_NAMES_AT_ONCE = 1 << 16


def opened_source(
    location: Location,
    index_path: Location | None,
    *,
    rescan: Rescan | None,
    allow: tuple[Location, ...] = (),
    cache: str | None = None,
    cache_bytes: int = 10 << 30,
) -> Blob | Collection:
    """Open a blob, a collection, or a folder, prefix or glob of blobs; click closes it when the command ends.

    If several members have one name, the last one is read, as from one blob.
    """
    check_cache_bytes(cache_bytes)
    if (index_path or rescan) and kind_of(location) != "blob":
        raise click.UsageError(
            "--index-file, --rescan and --concatenated are for a single blob, not for several"
        )
    index = scan(location, concatenated=rescan == "concatenated") if rescan else index_path
    # with_resource closes it also after an error, and spares each command a block
    # two blobs of a folder that have a name in common must not keep their user from all others
    opened = open_any(
        location,
        index,
        duplicates="last",
        allow=allow,
        cache=cache,
        cache_bytes=cache_bytes,
    )
    click.get_current_context().with_resource(opened)
    check_allow(allow, not isinstance(opened, Blob))
    return opened


def opened_if_allowed(
    locations: Iterable[Location], allow: tuple[Location, ...]
) -> list[Location | Collection]:
    """Open the collections among some locations, if --allow names other places for their blobs.

    All other locations are returned as they are, for the library to open.
    """
    locations = list(locations)
    if not allow:
        return [*locations]
    sources: list[Location | Collection] = []
    for location in locations:
        kind = kind_of(location)
        found = None if kind == "blob" else stored_collection(location, kind, allow=allow)
        # not by its truth: a collection without members is false
        sources.append(
            location if found is None else click.get_current_context().with_resource(found)
        )
    check_allow(allow, any(not isinstance(source, Location) for source in sources))
    return sources


def check_allow(allow: tuple[Location, ...], is_collection: bool) -> None:
    """Check that --allow is given for a collection only."""
    if allow and not is_collection:
        raise click.UsageError("--allow needs a collection")


def check_cache_bytes(cache_bytes: int) -> None:
    """Check that the cache is large enough; a smaller one is wrong usage."""
    # the library raises a plain ValueError for misuse, which here would be a traceback instead of exit code 2
    if cache_bytes < CACHE_BYTES_MIN:
        raise click.UsageError("--cache-bytes must be at least 1Mi")


def select(
    index: Index,
    *,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    regex: re.Pattern[str] | None,
    min_size: int | None,
    max_size: int | None,
    media_types: tuple[str, ...],
    min_width: int | None,
    max_width: int | None,
    min_height: int | None,
    max_height: int | None,
    names_from: IO[bytes] | None,
) -> Index:
    """Select members by the selection options, and print on stderr how many of the names asked for do not exist."""
    conditions = {
        "exclude": exclude or None,
        "regex": regex,
        "names": _names_asked(index, names_from) if names_from else None,
        "min_size": min_size,
        "max_size": max_size,
        "media_type": media_types or None,
        "min_width": min_width,
        "max_width": max_width,
        "min_height": min_height,
        "max_height": max_height,
    }
    given: dict[str, Any] = {name: value for name, value in conditions.items() if value is not None}
    # so that rows are not copied
    if not globs and not given:
        return index
    try:
        return index.select(*globs, **given)
    # FactsMissingError is a ValueError, too, but an error of the blob and not of the usage
    except BlobpackError:
        raise
    # a media type that does not exist
    except ValueError as exc:
        raise click.UsageError(str(exc).replace("media_type", "--media-type", 1)) from exc


def _names_asked(index: Index, file: IO[bytes]) -> Iterator[str]:
    """Yield the names in a file, one a line; after the last one, print on stderr how many do not exist."""
    names, count, missing, first_missing = _read_names(file), 0, 0, ""
    at_once = NAMES_SEARCHED_AT_ONCE if index._is_remote else LOCAL_NAMES_AT_ONCE
    while some := list(islice(names, at_once)):
        count += len(some)
        for name, found in zip(some, index._search(some), strict=True):
            if found is None:
                first_missing = first_missing or name
                missing += 1
        yield from some
    if missing:
        print_note(
            f"{missing} of {counted(count, 'name')} {'is' if missing == 1 else 'are'} not in the blob: {first_missing!r} …"
        )


def _read_names(file: IO[bytes]) -> Iterator[str]:
    """Read names, one a line."""
    # Editors on Windows begin a file with a byte order mark, and end lines with CR LF. A name may hold bytes that are not
    # UTF-8: fsdecode makes the same surrogates of them as the index does.
    bom = b"\xef\xbb\xbf"
    for line in file:
        name = line.removeprefix(bom).removesuffix(b"\n").removesuffix(b"\r")
        bom = b""
        if name:
            yield os.fsdecode(name)


def name_here(blob: Location) -> str:
    """Return the local path of a blob, or the name of a remote one as a path in the current folder."""
    name = blob.path_or_name
    if name in ("", ".", "..") or "\0" in name:
        raise click.UsageError(f"{blob} has no name that a file can have: name a file with -o")
    return name


def check_output_name(name: str, target: Location, kind: OutputKind, *, force: bool) -> None:
    """Check the suffix of an output; one that promises another format is wrong usage."""
    try:
        check_suffix(name, target, kind, force=force)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths lead to the same existing file."""
    # by inode and not by text: "out.tar", "./out.tar" and a link to it are one file
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 (paths of any kind)
    # one of them does not exist (OSError), or is remote and has no path (ValueError)
    except (OSError, ValueError):
        return False
