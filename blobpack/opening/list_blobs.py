"""List blobs: those in a folder, below a prefix in S3, or that match a glob."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.opening.kind import BLOB_SUFFIXES, GLOB
from blobpack.stores.access.objects import list_objects
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.opening.kind import SourceKind
    from blobpack.stores.stats import Counters

# "**/" may match nothing, so that `train/**/*.tar` finds `train/a.tar`, as Python's glob does
GLOB_TO_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def list_blobs(
    location: Location, kind: SourceKind, counters: Counters | None = None
) -> list[Location]:
    """Find blobs, in byte order of their paths or URLs.

    Args:
        location: A folder, or a prefix that ends with "/", whose .tar, .tar.zst and .tzst files are taken at any depth,
            hidden files and folders excepted; a glob, in which `*` stays within a folder and `**` does not; or one blob.
            If a glob ends in `*`, and such files match it, only they are taken.
        kind: What kind_of has returned for the location.
        counters: Count the requests; None: only those of the process do.

    Raises:
        BlobNotFoundError: there are no blobs.
        StorageError: the folder or bucket can't be listed.
    """
    if kind in ("blob", "collection"):
        return [location]
    if location.kind == "http":
        raise StorageError(
            f"{location}: a web server can't list its blobs: name one of them, or a collection"
        )
    found = list(_objects(location, kind, counters) if location.has_key else _local(location, kind))
    if not found:
        raise BlobNotFoundError(f"{location}: {_no_blobs(location, kind)}")
    # `train/*` also matches the index files and offsets files that lie beside blobs
    if kind == "glob" and _has_open_end(location.address):
        found = [blob for blob in found if blob.address.endswith(BLOB_SUFFIXES)] or found
    # the order of a folder depends on its file system; in byte order, the same blobs always give the same collection
    return sorted(found, key=lambda blob: os.fsencode(blob.whole))


def _no_blobs(location: Location, kind: SourceKind) -> str:
    """Return the message about a folder, prefix or glob that has no blobs."""
    if kind == "glob":
        return "there are no blobs of such names"
    # a folder of images is easily taken for one of blobs
    return f"there are no blobs, {', '.join(BLOB_SUFFIXES)}; `blobpack pack {location} OUT.tar` makes one of images"


def _has_open_end(pattern: str) -> bool:
    """Return whether a glob matches names of any suffix, as `train/*` and `train/a.*` do."""
    return any(match.end() == len(pattern) and "*" in match[0] for match in GLOB.finditer(pattern))


def translate(pattern: str) -> re.Pattern[str]:
    """Translate a glob to a regular expression that matches whole keys."""
    # not fnmatch.translate, whose "*" also matches "/"
    parts, pos = [], 0
    for match in GLOB.finditer(pattern):
        parts.append(re.escape(pattern[pos : match.start()]))
        parts.append(GLOB_TO_REGEX.get(match[0]) or _translate_set(match[0]))
        pos = match.end()
    # DOTALL: a key may hold a newline
    return re.compile("".join(parts) + re.escape(pattern[pos:]), re.DOTALL)


def _translate_set(pattern: str) -> str:
    """Translate a set of characters, such as [0-9] or [!a]."""
    # fnmatch knows the corner cases, such as [z-a] and [^a]. It wraps what it makes in (?s: and )\Z.
    one_character = fnmatch.translate(pattern).removeprefix("(?s:")[: -len(r")\Z")]
    # a set stands for one character of one folder's name
    return f"(?!/){one_character}"


def _local(location: Location, kind: SourceKind) -> Iterator[Location]:
    found = _walked(location.path) if kind == "folder" else _matching(location.path)
    return (Location(blob, "local", location.access) for blob in found)


def _matching(pattern: str) -> Iterator[str]:
    return filter(os.path.isfile, glob.iglob(pattern, recursive=True))  # noqa: PTH207


def _walked(path: str) -> Iterator[str]:
    for folder, below, names in os.walk(path, onerror=_raise_unlistable):
        # changed in place: os.walk then enters only the folders that are left
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (
            os.path.join(folder, name)  # noqa: PTH118
            for name in names
            if name.endswith(BLOB_SUFFIXES) and not name.startswith(".")
        )


def _raise_unlistable(exc: OSError) -> None:
    """Raise the error for a folder that can't be listed.

    Raises:
        StorageError: always.
    """
    # without this, os.walk would skip the folder, and the collection would lack its blobs without a word
    raise StorageError(f"{exc.filename}: can't be listed: {exc.strerror}") from exc


def _objects(location: Location, kind: SourceKind, counters: Counters | None) -> Iterator[Location]:
    prefix = location.key
    is_blob: Callable[[str], object] = lambda key: key.endswith(BLOB_SUFFIXES)  # noqa: E731
    if kind == "glob" and (match := GLOB.search(prefix)):
        # servers list by prefix: what stands before the first glob character narrows the listing
        is_blob, prefix = translate(prefix).fullmatch, prefix[: match.start()]
    for found in list_objects(location.at_key(prefix), counters):
        if is_blob(found.key):
            yield location.at_key(found.key)
