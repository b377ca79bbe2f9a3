"""Which blobs there are: those in a folder, below a prefix, or that match a glob."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError
from blobpack.stores.location import is_local, local_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".tar", ".tar.zst", ".tzst")
GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]")
TRANSLATED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def has_glob(url: str) -> bool:
    """Tell whether a path or URL holds a glob; a path that is there as it stands does not."""
    return GLOB.search(url) is not None and not (is_local(url) and os.path.exists(url))  # noqa: PTH110


def folder_before(url: str) -> str:
    """Give the folder that a glob begins in, with "/" at its end; empty for the current one."""
    match = GLOB.search(url)
    before = url[: match.start()] if match else url
    return before[: before.rfind("/") + 1]


def list_blobs(url: str | os.PathLike[str]) -> list[str]:
    """Find blobs, in byte order of their URLs.

    Args:
        url: A folder or a prefix that ends with "/", whose .tar, .tar.zst and .tzst are taken at any depth, hidden
            ones left out; a glob, in which `*` stays within a folder and `**` does not; or one blob.

    Raises:
        BlobNotFoundError: there are none.
        StorageError: the folder or bucket can't be listed.
    """
    url = os.fspath(url)
    found = list(_local(os.fspath(local_name(url))) if is_local(url) else _in_s3(url))
    if not found:
        raise BlobNotFoundError(f"{url}: there are no blobs")
    return sorted(found, key=os.fsencode)


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


def _local(path: str) -> Iterator[str]:
    if os.path.isdir(path):  # noqa: PTH112
        for folder, below, names in os.walk(path):
            below[:] = [name for name in below if not name.startswith(".")]
            yield from (
                os.path.join(folder, name)  # noqa: PTH118
                for name in names
                if name.endswith(SUFFIXES) and not name.startswith(".")
            )
    elif has_glob(path):
        yield from filter(os.path.isfile, glob.iglob(path, recursive=True))  # noqa: PTH207
    else:
        yield path


def _in_s3(url: str) -> Iterator[str]:
    from blobpack.stores.s3.listing import list_objects

    bucket, _, key = url.partition("://")[2].partition("/")
    if key and not key.endswith("/") and not GLOB.search(key):
        yield url
        return
    matched = translate(key).fullmatch if GLOB.search(key) else lambda key: key.endswith(SUFFIXES)
    match = GLOB.search(key)
    for found in list_objects(bucket, key[: match.start()] if match else key):
        if matched(found.key):
            yield f"s3://{bucket}/{found.key}"
