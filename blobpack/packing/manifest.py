"""Read a manifest: a text, CSV or JSON lines file that lists what to pack, as URLs, keys and paths."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_file_there, recognise_swap
from blobpack.errors import FormatError, SourceError, UnsafeNameError
from blobpack.packing.objects import Objects, Source
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import is_place, local_location, location_of
from blobpack.stores.location import Location, is_absolute
from blobpack.tar.header import check_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # number of the line, location of the payload, name of the member
    Line = tuple[int, str, str | None]

# a row that has several of these keys is read by the first one
SOURCE_KEYS = ("url", "path", "key")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


@recognise_swap(path=is_file_there, base=is_place)
@with_remote_options
def read_manifest(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str] = "",
    **remote: Unpack[RemoteOptions],
) -> Objects:
    """Read a list of objects and files to pack; the suffix of the list says which format it has.

    A text file has one URL, key or path on each line. A CSV file has a column called url, path or
    key, and may have a column called name. JSON lines are objects with these keys, or strings. If a
    line has no name, the member gets a default name. For a key or path relative to `base`, this is
    the key or path as it is in the list. Otherwise it is the object's key, the path of the URL or
    the path of the file, without a leading "/".

    Args:
        path: The list. A suffix of .csv, .jsonl, .ndjson or .json names the format; all others are text.
        base: Relative paths and keys start here: a folder, s3://bucket/prefix or https://host/path. Empty for the
            current folder.
        remote: How the objects in the list are reached: see RemoteOptions.

    Returns:
        A source for pack. Its members are in byte order of their names, whatever the order of the list.

    Raises:
        SourceError: the list can't be read.
        FormatError: a line has no URL, path or key, or the list is not in the format that its
            suffix names.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        DuplicateNameError: two lines have one member name.
        TypeError: an argument has a wrong type.
        ValueError: the list is a URL, or the base is a URL of an unknown kind.
    """
    listed = local_location("path", path, Access.of("read_manifest", remote))
    path = where = listed.path
    given = None if base == "" else location_of("base", base, prefix=True, access=listed.access)
    # list and base of the command line bring their own
    access = given.access if given else listed.access
    try:
        # Excel begins a CSV file with a byte order mark; paths on Linux need not be UTF-8 (PEP 383)
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as exc:
        raise SourceError(f"{where}: can't be read: {exc.strerror}", paths=(where,)) from exc
    suffix = Path(path).suffix.lower()
    lines = _csv_lines if suffix == ".csv" else _json_lines if suffix in JSON_SUFFIXES else _lines
    folder = given and given.as_folder
    return Objects(
        _parse_source(place, name, folder, access, f"{where}, line {number}")
        for number, place, name in lines(text, where)
    )


def _lines(text: str, where: str) -> Iterator[Line]:
    # not splitlines(): it also splits at U+2028, form feeds and others, which may be in the name of a file
    for number, line in enumerate(text.split("\n"), 1):
        if place := line.removesuffix("\r"):
            yield number, place, None


def _csv_lines(text: str, where: str) -> Iterator[Line]:
    # newline="": the csv module itself reads line ends, also those inside quotes; strict: it reports bad quotes
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        column = next((name for name in SOURCE_KEYS if name in (reader.fieldnames or ())), None)
        if column is None:
            raise FormatError(f"{where}: the first line names no column url, path or key")
        for row in reader:
            # a short row has None in its last columns; an empty name means no name
            yield reader.line_num, row[column] or "", row.get("name") or None
    except csv.Error as exc:
        # DictReader.line_num is still that of the row before the error
        raise FormatError(f"{where}, line {reader.reader.line_num}: {exc}") from exc


def _json_lines(text: str, where: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # json raises RecursionError for thousands of nested brackets
        except (ValueError, RecursionError) as exc:
            raise FormatError(f"{where}, line {number}: {exc}") from exc
        row = {"url": row} if isinstance(row, str) else row
        place = (
            next((row[key] for key in SOURCE_KEYS if key in row), None)
            if isinstance(row, dict)
            else None
        )
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(place, str) or not isinstance(name, str | None):
            raise FormatError(
                f"{where}, line {number}: neither a string nor an object with url, path or key"
            )
        yield number, place, name


def _parse_source(
    place: str, name: str | None, folder: Location | None, access: Access, where: str
) -> Source:
    """Find the location of a payload and the name of its member.

    Args:
        place: The URL, key or path on the line.
        name: The name on the line, or None.
        folder: Relative paths and keys start here.
        access: How remote objects are reached.
        where: The list and the number of the line, for messages.

    Raises:
        FormatError: the line has no URL, path or key, or a URL of an unknown kind.
        UnsafeNameError: the name can't be the name of a member.
    """

    def parse() -> tuple[str, Location]:
        if not place:
            raise ValueError("it has no url, path or key")
        location = Location.parse(place, access=access)
        if not location.is_local:
            default = location.remote_name
        elif folder is None or is_absolute(place):
            default = os.path.normpath(location.path).lstrip("/")
        else:
            # the name is the path below the base, so moving the base does not change the blob
            location, default = folder.below(place), place
        return name or default, location

    return source_on_line(where, parse)


def source_on_line(where: str, parse: Callable[[], tuple[str, Location]]) -> Source:
    """Return the source that a line of a list names.

    Args:
        where: The list and the number of the line, for messages.
        parse: Returns the name of the member, and the location of its payload.

    Raises:
        FormatError: parse raised ValueError.
        UnsafeNameError: the name can't be the name of a member.
    """
    try:
        name, location = parse()
        encoded = encode_name(name)
        check_name(encoded)
    # UnsafeNameError is a ValueError, too, so it comes first and keeps its type
    except UnsafeNameError as exc:
        raise UnsafeNameError(f"{where}: {exc}") from exc
    except ValueError as exc:
        raise FormatError(f"{where}: {exc}") from exc
    return Source(encoded, location)
