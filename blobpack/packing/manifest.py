"""A list of what to pack: text, CSV or JSON lines of URLs, keys and paths."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import FormatError, SourceError, UnsafeNameError
from blobpack.model import check_local_path
from blobpack.packing.objects import Objects, Source
from blobpack.stores.location import Location, is_whole, location_of
from blobpack.tar.header import check_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    Line = tuple[int, str, str | None]  # its number, where the payload is, its member's name

SOURCE_KEYS = ("url", "path", "key")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def read_manifest(path: str | os.PathLike[str], base: str | os.PathLike[str] = "") -> Objects:
    """Read which objects and files to pack, from a list; its suffix tells which kind.

    A text has one URL, key or path a line. A CSV has a column url, path or key, and may have one called name; JSON
    lines have the same keys, or are strings. Without a name, a member is called as the payload is relative to the
    base, else by its key, or its path, also of a URL, without a leading "/".

    Args:
        path: The list: .csv, .jsonl or .ndjson, or anything else for text.
        base: What is no URL and no absolute path is relative to this: a folder, s3://bucket/prefix or https://host/path; empty for
            the current folder.

    Returns:
        What pack takes: in byte order of the names, whatever the order of the list.

    Raises:
        SourceError: the list can't be read.
        FormatError: a line of it is wrong.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        DuplicateNameError: two payloads would have one name.
        TypeError: an argument has another type.
        ValueError: the list is at a URL, or the base is a URL of another kind.
    """
    check_local_path("path", path)
    given = None if base == "" else location_of("base", base, prefix=True)
    where = os.fspath(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as exc:
        raise SourceError(f"{where}: can't be read: {exc.strerror}", paths=(where,)) from exc
    suffix = Path(path).suffix.lower()
    lines = _csv_lines if suffix == ".csv" else _json_lines if suffix in JSON_SUFFIXES else _lines
    folder = given and given.as_folder
    return Objects(
        _parse_source(place, name, folder, f"{where}, line {number}")
        for number, place, name in lines(text, where)
    )


def _lines(text: str, where: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if place := line.removesuffix("\r"):
            yield number, place, None


def _csv_lines(text: str, where: str) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        column = next((name for name in SOURCE_KEYS if name in (reader.fieldnames or ())), None)
        if column is None:
            raise FormatError(f"{where}: its first line names no column url, path or key")
        for row in reader:
            yield reader.line_num, row[column] or "", row.get("name") or None
    except csv.Error as exc:
        raise FormatError(f"{where}, line {reader.reader.line_num}: {exc}") from exc


def _json_lines(text: str, where: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:  # too many brackets one in another
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


def _parse_source(place: str, name: str | None, folder: Location | None, where: str) -> Source:
    """Say where a line's payload is, and what its member is called.

    Raises:
        FormatError: there is nothing, or a URL of another kind.
        UnsafeNameError: its name can't be a member's.
    """
    try:
        if not place:
            raise ValueError("it says no url, path or key")
        location = Location.parse(place)
        if not location.is_local:
            default = location.remote_name
        elif folder is None or is_whole(place):
            default = os.path.normpath(location.path).lstrip("/")
        else:
            location, default = folder.below(place), place
        encoded = encode_name(name or default)
        check_name(encoded)
    except UnsafeNameError as exc:
        raise UnsafeNameError(f"{where}: {exc}") from exc
    except ValueError as exc:
        raise FormatError(f"{where}: {exc}") from exc
    return Source(encoded, location)
