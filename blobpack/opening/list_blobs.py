"""List blobs: those in a folder, below a prefix in S3, or that match a glob."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB_SUFFIXES = (".tar", ".tar.zst", ".tzst")
# "**/" comes before "**", and "**" before "*": the first alternative that matches is taken
GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]")
# "**/" may match nothing, so that `train/**/*.tar` finds `train/a.tar`, as Python's glob does
GLOB_TO_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def has_glob(location: Location) -> bool:
    """Return whether a location holds a glob. The path of a file or folder that exists does not."""
    if GLOB.search(location.address) is None:
        return False
    # `photos [2024].tar` is a fine name of a file. Keys in S3 may hold such characters, too, but a look costs a request.
    return not (location.is_local and os.path.exists(location.path))  # noqa: PTH110


def folder_before(location: Location) -> Location:
    """Return the folder that a glob begins in, with "/" at its end; the text is empty for the current folder."""
    address = location.address
    match = GLOB.search(address)
    before = address[: match.start()] if match else address
    query = location.whole[len(address) :]
    return Location(before[: before.rfind("/") + 1] + query, location.kind)


def list_blobs(location: Location) -> list[Location]:
    """Find blobs, in byte order of their paths or URLs.

    Args:
        location: A folder, or a prefix that ends with "/", whose .tar, .tar.zst and .tzst files are taken at any depth,
            hidden files and folders excepted; a glob, in which `*` stays within a folder and `**` does not; or one blob.

    Raises:
        BlobNotFoundError: there are no blobs.
        StorageError: the folder or bucket can't be listed.
    """
    if location.is_local:
        found = [Location(path, "local") for path in _local(location)]
    else:
        found = list(_in_s3(location))
    if not found:
        raise BlobNotFoundError(f"{location}: there are no blobs")
    # the order of a folder depends on its file system; in byte order, the same blobs always give the same collection
    return sorted(found, key=lambda blob: os.fsencode(blob.whole))


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


def _local(location: Location) -> Iterator[str]:
    path = location.path
    if os.path.isdir(path):  # noqa: PTH112
        for folder, below, names in os.walk(path, onerror=_raise_unlistable):
            # changed in place: os.walk then enters only the folders that are left
            below[:] = [name for name in below if not name.startswith(".")]
            yield from (
                os.path.join(folder, name)  # noqa: PTH118
                for name in names
                if name.endswith(BLOB_SUFFIXES) and not name.startswith(".")
            )
    elif has_glob(location):
        yield from filter(os.path.isfile, glob.iglob(path, recursive=True))  # noqa: PTH207
    else:
        yield path


def _raise_unlistable(exc: OSError) -> None:
    """Raise the error for a folder that can't be listed.

    Raises:
        StorageError: always.
    """
    # without this, os.walk would skip the folder, and the collection would lack its blobs without a word
    raise StorageError(f"{exc.filename}: can't be listed: {exc.strerror}") from exc


def _in_s3(location: Location) -> Iterator[Location]:
    from blobpack.stores.s3.listing import list_objects

    # plain HTTP has no way to list what a server has
    if not location.is_s3:
        yield location
        return
    bucket, key = location.bucket, location.key
    if key and not key.endswith("/") and not GLOB.search(key):
        yield location
        return
    matched = (
        translate(key).fullmatch if GLOB.search(key) else lambda key: key.endswith(BLOB_SUFFIXES)
    )
    # S3 lists by prefix: what stands before the first glob character narrows the listing
    match = GLOB.search(key)
    for found in list_objects(bucket, key[: match.start()] if match else key):
        if matched(found.key):
            yield Location.in_s3(bucket, found.key)
