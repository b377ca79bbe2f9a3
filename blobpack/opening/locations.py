"""Names of blobs in a collection, relative to its folder if possible, their locations again, and which may be read.

With relative names, a folder that holds both the collection and its blobs can be moved, or uploaded to S3, as it is.

A collection is hostile input: whoever wrote it must not choose which other files, buckets and hosts this machine reads.
So its blobs lie below its own folder or prefix, or in places that the caller allows.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from blobpack.errors import FormatError, UnsafeNameError
from blobpack.model import check_several
from blobpack.stores.arguments import location_of
from blobpack.stores.location import Location, is_absolute
from blobpack.stores.url import DEFAULT_PORTS, split_url
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.stores.access.remote import Access


def name_from(folder: Location, blob: Location) -> str:
    """Return the name of a blob in a collection: relative to the folder if the blob is below it, else its whole location.

    Args:
        folder: The collection's folder, absolute, with "/" at its end.
        blob: The location of the blob.
    """
    whole = os.path.abspath(blob.path) if blob.is_local else blob.whole  # noqa: PTH100 (keeps links)
    name = whole.removeprefix(folder.whole)
    # a relative name such as "x://y", from a key in S3, would be read as a URL: such a blob keeps its whole URL
    return name if name and not is_absolute(name) else whole


def location_from(folder: Location, name: str, where: str) -> Location:
    """Return the location of a blob that name_from named.

    Args:
        folder: The collection's folder, as for name_from.
        name: The blob's name.
        where: The collection, for messages.

    Raises:
        FormatError: a name leads out of a local folder by ".."; or the name is a URL of another kind.
    """
    try:
        found = Location.parse(
            name if is_absolute(name) else folder.below(name).whole, access=folder.access
        )
    except ValueError as exc:
        raise FormatError(f"{where}: names a blob at an impossible place: {exc}") from exc
    # name_from records a blob outside the folder by its absolute path. So a relative name with ".." was not made by it,
    # but perhaps by somebody who wants another file to be read.
    if folder.is_local and not is_absolute(name) and ".." in name.split("/"):
        raise FormatError(
            f"{where}: names a blob at {name!r}, which a collection there must not name"
        )
    return found


def allowed_places(
    allow: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], access: Access
) -> list[Location]:
    """Parse the folders, prefixes and hosts that a caller allows.

    Raises:
        TypeError: one of them is neither a path nor a URL.
        ValueError: one of them is empty, or a URL of another kind.
    """
    places = [allow] if isinstance(allow, (str, os.PathLike)) else allow
    check_several("allow", places, "paths or URLs")
    return [location_of("allow", place, prefix=True, access=access) for place in places]


def check_allowed(blob: Location, places: Iterable[Location], where: str) -> None:
    """Check that a blob of a collection lies below one of several places.

    Args:
        blob: The location of the blob.
        places: The collection's folder, and the places that the caller allows.
        where: The collection, for messages.

    Raises:
        UnsafeNameError: it lies elsewhere.
    """
    if not any(is_below(blob, place) for place in places):
        raise UnsafeNameError(
            f"{where}: names a blob at {blob.text!r}, which is not below the collection's own folder: "
            f"{setting('allow', ...)} names other folders, buckets and hosts to read from"
        )


def is_below(blob: Location, place: Location) -> bool:
    """Return whether a blob lies in a folder, below a prefix, or on a host."""
    if blob.kind != place.kind:
        return False
    root, path = _root_and_path(blob)
    place_root, folder = _root_and_path(place)
    # In S3, ".." is a name like any other. A server may resolve it, also if it is written as %2e%2e.
    if root != place_root or (blob.kind == "http" and ".." in re.split(r"[/\\]", path)):
        return False
    prefix = folder if not folder or folder.endswith("/") else f"{folder}/"
    return path == folder or path.startswith(prefix)


def _root_and_path(location: Location) -> tuple[object, str]:
    """Split a location into what can't be left by a path (the bucket, or scheme, host and port), and the path in it."""
    if location.is_local:
        return None, os.path.abspath(location.path).lstrip("/")  # noqa: PTH100 (keeps links)
    if location.has_key:
        return (location.scheme, location.bucket), location.key
    parts = split_url(location.whole)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return (parts.scheme, parts.hostname, port), unquote(parts.path).lstrip("/")
