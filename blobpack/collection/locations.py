"""Names of shards, relative to the folder of their collection, and back: both can be moved together."""

from __future__ import annotations

import os

from blobpack.errors import FormatError
from blobpack.stores.location import Location, is_absolute


def name_from(folder: Location, blob: Location) -> str:
    """Return the name of a blob in a collection: relative to the folder if the blob is below it, else whole.

    Args:
        folder: The collection's folder, absolute, with "/" at its end.
        blob: Where the blob lies.
    """
    whole = os.path.abspath(blob.path) if blob.is_local else blob.text  # noqa: PTH100 (keeps links)
    name = whole.removeprefix(folder.text)
    # a key such as "x://y" would be taken for a URL
    return name if name and not is_absolute(name) else whole


def location_from(folder: Location, name: str, where: str) -> Location:
    """Return the location of a blob that name_from named.

    Args:
        folder: As name_from.
        name: The blob's name.
        where: The collection, for messages.

    Raises:
        FormatError: a remote collection names a local file, a name leads out of a local folder by "..", or it is a
            URL of another kind.
    """
    try:
        found = Location.parse(name if is_absolute(name) else folder.text + name)
    except ValueError as exc:
        raise FormatError(f"{where}: a blob at {name!r}: {exc}") from exc
    if folder.is_local:
        leads_out = found.text.startswith(folder.text) and ".." in name.split("/")
    else:  # a server must not choose which local files are read; ".." in a key is only a name
        leads_out = found.is_local
    if leads_out:
        raise FormatError(f"{where}: a blob at {name!r}, which no collection there may name")
    return found
