"""Find what lies at a path or URL: a blob, a collection, or many blobs in a folder or behind a glob.

Strategy: the name decides where it can, because a look may cost a request. A name may hold the characters of a glob:
`photos [2024].tar`, a presigned URL. So what exists under the name as it is spelled comes first.
"""

from __future__ import annotations

import os
import re
from typing import Literal

from blobpack.errors import StorageError
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.open import may_be_missing, open_store

BLOB_SUFFIXES = (".tar", ".tar.zst", ".tzst")
# "**/" comes before "**", and "**" before "*": the first alternative that matches is taken
GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]")

COLLECTION_NAME = "collection.idx"
# what the name of a blob does not hold of the name of its file
NAME_ENDS = (".zst", ".tar", ".idx")

# One file or object, of members or of the index of many blobs; the folder or prefix of several; or a pattern of their names.
# What does not exist counts as a blob, so that the error is the one for a missing blob.
SourceKind = Literal["blob", "collection", "folder", "glob"]


def kind_of(location: Location) -> SourceKind:
    """Return what a path or URL means. The index file of one blob counts as a collection.

    In S3, this takes one request if the key holds characters of a glob, and otherwise none.

    Raises:
        StorageError: the server could not be reached, or a local file can't be read.
    """
    if _is_folder(location):
        return "folder"
    if _is_glob(location):
        return "glob"
    return "collection" if _is_index_file(location) else "blob"


def means_folder(output: Location) -> bool:
    """Return whether an output is a folder that exists, a bucket, or a name that ends with "/"."""
    return output.address.endswith("/") or _is_folder(output)


def _is_folder(location: Location) -> bool:
    if location.is_local:
        return os.path.isdir(location.path)  # noqa: PTH112
    name = location.key if location.has_key else location.address
    return not name or name.endswith("/")


def _is_glob(location: Location) -> bool:
    if location.is_local:
        return bool(GLOB.search(location.path)) and not os.path.exists(location.path)  # noqa: PTH110
    # A web server can't list its files. So "?" begins a query there, and "[" an address of IPv6.
    return location.has_key and bool(GLOB.search(location.key)) and not object_exists(location)


def _is_index_file(location: Location) -> bool:
    address = location.address
    # Of a remote file, only the name is looked at, because a look at its bytes would cost a request.
    if address.endswith(".idx") or not location.is_local or address.endswith(BLOB_SUFFIXES):
        return address.endswith(".idx")
    if not os.path.isfile(location.path):  # noqa: PTH113
        return False
    with LocalStore(location) as file:
        return file.read_range(0, min(len(INDEX_MAGIC), file.size)) == INDEX_MAGIC


def object_exists(location: Location) -> bool:
    """Return whether there is an object, as far as the caller may know it.

    Raises:
        StorageError: the server could not be reached.
    """
    try:
        with open_store(location):
            return True
    except StorageError as exc:
        if may_be_missing(exc):
            return False
        raise


def collection_location(location: Location, kind: SourceKind) -> Location:
    """Return the location of a collection's file, from the file itself or from the folder, prefix or glob of its blobs."""
    if kind == "glob":
        return _folder_before(location).below(COLLECTION_NAME)
    # a local file that is no collection, so that the error is about this file; a remote one may be a prefix without its "/"
    is_file = kind == "blob" and location.is_local and os.path.isfile(location.path)  # noqa: PTH113
    if kind == "collection" or is_file:
        return location
    return location.as_folder.below(COLLECTION_NAME)


def _folder_before(location: Location) -> Location:
    """Return the folder that a glob begins in, with "/" at its end; the text is empty for the current folder."""
    address = location.address
    match = GLOB.search(address)
    before = address[: match.start()] if match else address
    query = location.whole[len(address) :]
    return Location(before[: before.rfind("/") + 1] + query, location.kind, location.access)


def name_of(place: str) -> str:
    """Return the name of the blob at a path or URL, as servers use it: its file's stem, or the folder of a collection."""
    location = Location.parse(place, prefix=True)
    path = location.path if location.is_local else location.remote_name or location.bucket
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # a glob names its blobs, and not their folder
    while len(parts) > 1 and (parts[-1] == COLLECTION_NAME or any(c in parts[-1] for c in "*?[")):
        parts.pop()
    name = parts[-1] if parts else ""
    for suffix in NAME_ENDS:
        name = name.removesuffix(suffix)
    return name
