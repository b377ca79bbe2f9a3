"""Names of blobs in a collection, relative to its folder if possible, and their locations again.

With relative names, a folder that holds both the collection and its blobs can be moved, or uploaded to S3, as it is.
"""

from __future__ import annotations

import os

from blobpack.errors import FormatError
from blobpack.stores.location import Location, is_absolute


def name_from(folder: Location, blob: Location) -> str:
    """Return the name of a blob in a collection: relative to the folder if the blob is below it, else its whole location.

    Args:
        folder: The collection's folder, absolute, with "/" at its end.
        blob: The location of the blob.
    """
    whole = os.path.abspath(blob.path) if blob.is_local else blob.text  # noqa: PTH100 (keeps links)
    name = whole.removeprefix(folder.text)
    # a relative name such as "x://y", from a key in S3, would be read as a URL: such a blob keeps its whole URL
    return name if name and not is_absolute(name) else whole


def location_from(folder: Location, name: str, where: str) -> Location:
    """Return the location of a blob that name_from named.

    Args:
        folder: The collection's folder, as for name_from.
        name: The blob's name.
        where: The collection, for messages.

    Raises:
        FormatError: a remote collection names a local file; a name leads out of a local folder by ".."; or the name is
            a URL of another kind.
    """
    try:
        found = Location.parse(name if is_absolute(name) else folder.text + name)
    except ValueError as exc:
        raise FormatError(f"{where}: names a blob at an impossible place: {exc}") from exc
    # name_from records a blob outside the folder by its absolute path. So a relative name with ".." was not made by it,
    # but perhaps by somebody who wants another file to be read.
    if folder.is_local:
        leads_out = found.text.startswith(folder.text) and ".." in name.split("/")
    # A server must not choose which local files are read. In S3, ".." in a key is a name like any other.
    else:
        leads_out = found.is_local
    if leads_out:
        raise FormatError(f"{where}: names a blob at {name!r}, which no collection there may name")
    return found
