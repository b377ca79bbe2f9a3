"""Read files for Encord, JSON of both forms or CSV, whichever program made them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.errors import FormatError, SourceError
from blobpack.integrations.encord.form.kinds import KINDS, OTHER_ITEMS_KEYS, URL_COLUMN
from blobpack.model import shown
from blobpack.stores.arguments import local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.items import Document

NUMBERED_URL = re.compile(r"objectUrl_([0-9]+)")
# title column of a CSV → kind; Encord's documentation names the second of DICOM, too
TITLE_COLUMNS = {
    **{kind.column.lower(): name for name, kind in reversed(KINDS.items()) if kind.column},
    "series title": "dicom_series",
}


class Entry(NamedTuple):
    """An item as a file holds it.

    Attributes:
        kind: A key of KINDS, or a key of the file that KINDS does not have.
        where: Its place in the file, for messages.
        urls: Its URLs.
        title: Its title, if there is one.
    """

    kind: str
    where: str
    urls: list[Any]
    title: object = None


class CsvRow(NamedTuple):
    """A row of a CSV.

    Attributes:
        line: Number of its line.
        header: The header above it.
        cells: Its cells.
    """

    line: int
    header: list[str]
    cells: list[str]


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a file for Encord.

    Raises:
        FormatError: the file is not UTF-8.
        SourceError: the file can't be read.
    """
    where = local_path("path", path)
    try:
        # Excel begins a CSV file with a byte order mark
        return Path(where).read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise SourceError(f"{where}: can't be read: {exc.strerror}", paths=(where,)) from exc
    except UnicodeDecodeError as exc:
        raise FormatError(f"{where}: not UTF-8", offset=exc.start) from exc


def is_json(text: str) -> bool:
    """Return whether a text is meant as JSON, and not as CSV."""
    return text.lstrip()[:1] in ("{", "[")


def json_entries(document: Document) -> Iterator[Entry]:
    """Yield the items of a JSON file of either form.

    Raises:
        FormatError: a key does not hold a list of objects.
    """
    names = {
        key: name for name, kind in reversed(KINDS.items()) for key in (kind.key, kind.items_key)
    }
    for key, listed in document.items():
        name = names.get(key, key if key in OTHER_ITEMS_KEYS else None)
        if name is None:
            continue
        if not isinstance(listed, list):
            raise FormatError(f"{key}: expected a list, not {shown(listed)}")
        for number, item in enumerate(listed):
            where = f"{key}[{number}]"
            if not isinstance(item, dict):
                raise FormatError(f"{where}: expected an object, not {shown(item)}")
            is_sequence = name == "image_groups" and item.get("createVideo") is True
            kind = "image_sequences" if is_sequence else name
            yield Entry(kind, where, urls_of(item), item.get("title"))


def urls_of(item: Document) -> list[Any]:
    """Return the URLs of an item in either JSON form, in the order of their numbers."""
    if "objectUrl" in item:
        return [item["objectUrl"]]
    listed = item.get("images", item.get("dicomFiles"))
    if isinstance(listed, list):
        return [file.get("url") if isinstance(file, dict) else file for file in listed]
    numbered = ((NUMBERED_URL.fullmatch(key), url) for key, url in item.items())
    found = [(int(match[1]), url) for match, url in numbered if match]
    return [url for _, url in sorted(found, key=lambda pair: pair[0])]


def csv_rows(text: str, where: str) -> Iterator[CsvRow]:
    """Yield the rows of a CSV, each with the header above it.

    Raises:
        FormatError: the first line is no header, or a line is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cells):
                continue
            if cells[0].strip().lower() == URL_COLUMN.lower():
                header = [cell.strip() for cell in cells]
            elif header:
                yield CsvRow(reader.line_num, header, cells)
            else:
                raise FormatError(f"{where}: the first line does not begin with {URL_COLUMN}")
    except csv.Error as exc:
        raise FormatError(f"{where}, line {reader.line_num}: {exc}") from exc


def kind_of_header(header: list[str]) -> str | None:
    """Return the kind of the rows below a header of a CSV; None if there is no such kind.

    A single column means videos, for backwards compatibility with early versions of Encord.
    """
    return "videos" if len(header) == 1 else TITLE_COLUMNS.get(header[1].lower())


def csv_entries(text: str, where: str) -> Iterator[Entry]:
    """Yield an entry for each row of a CSV: of a group, for each of its files.

    Raises:
        FormatError: a header names no kind, or the text is no such CSV.
    """
    for row in csv_rows(text, where):
        kind = kind_of_header(row.header)
        if kind is None:
            raise FormatError(f"{where}, line {row.line}: unknown column {row.header[1]!r}")
        title = row.cells[1] if len(row.cells) > 1 else None
        yield Entry(kind, f"line {row.line}", [row.cells[0]], title)
