"""Arguments of public functions that are paths or URLs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import BinaryIO, cast

from blobpack.model import check_path
from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.location import Location


def location_of(
    name: str, place: object, *, prefix: bool = False, access: Access = NO_ACCESS
) -> Location:
    """Parse an argument of a public function.

    Args:
        name: Name of the argument, for messages.
        place: Value of the argument.
        prefix: Also accept an S3 bucket without a key.
        access: How remote blobs are reached. It replaces that of a Location, unless nothing was given.

    Raises:
        TypeError: the value is neither a path nor a URL.
        ValueError: the value is empty, a URL with an unsupported scheme, or a URL that names no
            object.
    """
    if isinstance(place, Location):
        return place if access is NO_ACCESS else replace(place, access=access)
    text = check_path(name, place)
    try:
        return Location.parse(text, prefix=prefix, access=access)
    except ValueError as exc:
        # `from None`: the parser's error has the same text, without the name of the argument.
        raise ValueError(f"{name} {exc}") from None


def output_location(name: str, place: object, access: Access = NO_ACCESS) -> Location:
    """Parse an argument that names a file or object to write.

    Args:
        name: Name of the argument, for messages.
        place: Value of the argument.
        access: How remote blobs are reached; see location_of.

    Raises:
        TypeError: the value is neither a path nor a URL.
        ValueError: the value is empty, a URL that can't be written to, or a URL that names no object.
    """
    location = location_of(name, place, access=access)
    _check_no_version(name, location)
    if not (location.is_local or location.has_key):
        raise _not_writable(name, location)
    if location.has_key and (not location.key or location.key.endswith("/")):
        raise ValueError(f"{name} {location.text!r} is a prefix: add the name of an object")
    return location


def output_folder(name: str, place: object, access: Access = NO_ACCESS) -> Location:
    """Parse an argument that names a folder, bucket or prefix to write to.

    Raises:
        TypeError: the value is neither a path nor a URL.
        ValueError: the value is empty, or a URL that can't be written to.
    """
    location = location_of(name, place, prefix=True, access=access)
    if not (location.is_local or location.has_key):
        raise _not_writable(name, location)
    _check_no_version(name, location)
    return location


def _not_writable(name: str, location: Location) -> ValueError:
    return ValueError(
        f"{name} must be a local path, or a URL that can be written to, such as s3://bucket/key, not {location.text!r:.200}"
    )


def _check_no_version(name: str, location: Location) -> None:
    if location.is_s3 and location.version_id:
        raise ValueError(
            f"{name} {location.text!r} names a version of an object, which can't be written: leave out ?versionId="
        )


def local_path(name: str, place: object) -> str:
    """Return an argument that names a local file or folder as a path. A URL would create folders named `s3:`.

    Raises:
        TypeError: the value is neither a str nor a path object.
        ValueError: the value is empty, or a URL other than file://.
    """
    return local_location(name, place).path


def local_location(name: str, place: object, access: Access = NO_ACCESS) -> Location:
    """Parse an argument that names a local file or folder, which may name remote blobs; see local_path.

    Raises:
        TypeError, ValueError: as described for local_path.
    """
    location = location_of(name, place, prefix=True, access=access)
    if not location.is_local:
        raise ValueError(f"{name} must be a local path, not {location.text!r:.200}")
    return location


def output_or_file(name: str, value: object, access: Access = NO_ACCESS) -> Location | BinaryIO:
    """Parse an argument that names a file or object to write, or is a file that is open for writing.

    Raises:
        TypeError: the value is neither.
        ValueError: the value is empty, a URL that can't be written to, or a URL that names no object.
    """
    return (
        cast("BinaryIO", value) if hasattr(value, "write") else output_location(name, value, access)
    )


def is_place(value: object) -> bool:
    """Return whether a value is a path or URL."""
    return isinstance(value, (str, os.PathLike))


def local_path_of(value: object) -> str | None:
    """Return the path that a value is; None for a URL, and for a value that is no path."""
    if not isinstance(value, (str, os.PathLike)):
        return None
    try:
        path = os.fspath(value)
    # a Location of a URL
    except ValueError:
        return None
    is_path = isinstance(path, str) and "://" not in path and "\0" not in path
    return path if is_path else None
