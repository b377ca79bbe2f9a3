"""Which blobs there are: those in a folder, below a prefix, or that match a glob."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".tar", ".tar.zst", ".tzst")
GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]")
TRANSLATED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def has_glob(location: Location) -> bool:
    """Return whether a location holds a glob. The path of a file or folder that exists does not."""
    if GLOB.search(location.text) is None:
        return False
    return not (location.is_local and os.path.exists(location.path))  # noqa: PTH110


def folder_before(location: Location) -> Location:
    """Return the folder that a glob begins in, with "/" at its end; for the current one its text is empty."""
    match = GLOB.search(location.text)
    before = location.text[: match.start()] if match else location.text
    return Location(before[: before.rfind("/") + 1], location.kind)


def list_blobs(location: Location) -> list[Location]:
    """Find blobs, in byte order of their URLs.

    Args:
        location: A folder or a prefix that ends with "/", whose .tar, .tar.zst and .tzst are taken at any depth, hidden
            ones left out; a glob, in which `*` stays within a folder and `**` does not; or one blob.

    Raises:
        BlobNotFoundError: there are none.
        StorageError: the folder or bucket can't be listed.
    """
    if location.is_local:
        found = [Location(path, "local") for path in _local(location)]
    else:
        found = list(_in_s3(location))
    if not found:
        raise BlobNotFoundError(f"{location}: there are no blobs")
    return sorted(found, key=lambda blob: os.fsencode(blob.text))


def translate(pattern: str) -> re.Pattern[str]:
    """Turn a glob into a regular expression for whole keys."""
    parts, pos = [], 0
    for match in GLOB.finditer(pattern):
        parts.append(re.escape(pattern[pos : match.start()]))
        inside = match[0][1:-1].replace("\\", "\\\\")
        negated = inside.startswith("!")
        parts.append(
            TRANSLATED.get(match[0]) or f"[{'^/' if negated else ''}{inside[negated:].lstrip('^')}]"
        )
        pos = match.end()
    return re.compile("".join(parts) + re.escape(pattern[pos:]), re.DOTALL)


def _local(location: Location) -> Iterator[str]:
    path = location.path
    if os.path.isdir(path):  # noqa: PTH112
        for folder, below, names in os.walk(path, onerror=_refuse):
            below[:] = [name for name in below if not name.startswith(".")]
            yield from (
                os.path.join(folder, name)  # noqa: PTH118
                for name in names
                if name.endswith(SUFFIXES) and not name.startswith(".")
            )
    elif has_glob(location):
        yield from filter(os.path.isfile, glob.iglob(path, recursive=True))  # noqa: PTH207
    else:
        yield path


def _refuse(exc: OSError) -> None:
    """Raise an error for a folder that can't be listed: its blobs would be missing without a word.

    Raises:
        StorageError: always.
    """
    raise StorageError(f"{exc.filename}: can't be listed: {exc.strerror}") from exc


def _in_s3(location: Location) -> Iterator[Location]:
    from blobpack.stores.s3.listing import list_objects

    if not location.is_s3:  # a server has no list of what there is
        yield location
        return
    bucket, key = location.bucket, location.key
    if key and not key.endswith("/") and not GLOB.search(key):
        yield location
        return
    matched = translate(key).fullmatch if GLOB.search(key) else lambda key: key.endswith(SUFFIXES)
    match = GLOB.search(key)
    for found in list_objects(bucket, key[: match.start()] if match else key):
        if matched(found.key):
            yield Location.in_s3(bucket, found.key)
