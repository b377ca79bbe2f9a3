"""Lines that list members: their names, the long form, JSON lines and CSV.

Strategy: each form is a function from a member, and the name of its blob, to the bytes of its line. A million members are
a million calls, so a form is chosen once, and looks up nothing.
"""

from __future__ import annotations

import json
import os
import time
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from blobpack.columns import FACTS
from blobpack.index.row_numbers import rows_as_array
from blobpack.index.tables.offsets_table import csv_cell
from blobpack.index.tables.parquet import BLOB_FIELD
from blobpack.index.which import numbers_of_several
from blobpack.model import redacted
from blobpack.opening.collection import Collection
from blobpack.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.index import Index
    from blobpack.model import Member, SortKey
    from blobpack.opening.reader import Reader

    Line = Callable[[Member, str], bytes]

# the attributes of Member that --sort needs; None: the order of names
ATTRIBUTES = {"offset": "offset_start", "type": "media_type"}
# the place of the column of the blob, behind the offsets
BLOB_PLACE = 4
# widths of the columns of --long: 10 digits are 10 GB
SIZE_WIDTH, OFFSET_WIDTH, TYPE_WIDTH, SIDES_WIDTH = 10, 13, 14, 11
UNITS = "KMGTPE"
ROWS_AT_ONCE = 1 << 16


def blobs_of(source: Reader, members: Index) -> Iterable[str]:
    """Return the path or URL of each member's blob; of a single blob, it is empty.

    Args:
        source: The blob or collection.
        members: Members that were selected from its index.
    """
    if not isinstance(source, Collection):
        return repeat("")
    return _urls_of(source, numbers_of_several(source.index, members))


def _urls_of(source: Collection, rows: range | NDArray[np.int64]) -> Iterator[str]:
    """Yield the path or URL of the blob that holds each row."""
    import numpy as np

    urls = blob_urls(source)
    # several blobs have one first row if some of them are empty: the last of these has the member
    first_rows = [blob.first_row for blob in source.blobs]
    # a list of all numbers would take most of the memory
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows_as_array(rows[first : first + ROWS_AT_ONCE])
        numbers = np.searchsorted(first_rows, some, "right") - 1
        yield from map(urls.__getitem__, numbers.tolist())


def blob_urls(source: Reader) -> list[str]:
    """Return the paths or URLs of the blobs, without secrets."""
    return [redacted(blob.url) for blob in source.blobs]


def blob_column(source: Reader) -> tuple[int, int]:
    """Return the column of blobs in --long: where the paths below the folder that all blobs share begin, and its width."""
    if not isinstance(source, Collection):
        return 0, 0
    urls = blob_urls(source)
    # not commonpath, which changes "//" in keys of S3
    shared = os.path.commonprefix([url.rpartition("/")[0] + "/" for url in urls])  # noqa: RUF071
    begin = shared.rfind("/") + 1
    return begin, max((len(url) - begin for url in urls), default=0)


def member_fields(source: Reader) -> list[str]:
    """Return the names of a member's values in JSON and CSV: those that the index has."""
    facts = [name for name in FACTS if name in source.index.facts]
    return ["name", "size", "offset_start", "offset_end", *facts]


def fields_of(source: Reader) -> list[str]:
    """Return the names of the columns of JSON and CSV. Of a collection, the column of the blob follows the offsets."""
    fields = member_fields(source)
    if isinstance(source, Collection):
        fields.insert(BLOB_PLACE, BLOB_FIELD)
    return fields


def values_of(source: Reader) -> Callable[[Member, str], tuple[Any, ...]]:
    """Return the function that returns the values of a member's line, in the order of fields_of."""
    values: Callable[[Member], tuple[Any, ...]] = attrgetter(*member_fields(source))
    if not isinstance(source, Collection):
        return lambda member, blob: values(member)

    def with_blob(member: Member, blob: str) -> tuple[Any, ...]:
        row = values(member)
        return *row[:BLOB_PLACE], blob, *row[BLOB_PLACE:]

    return with_blob


def json_line(source: Reader) -> Line:
    """Return the function that makes a line of JSON of a member."""
    fields, values = fields_of(source), values_of(source)
    return lambda member, blob: json.dumps(
        dict(zip(fields, values(member, blob), strict=True))
    ).encode()


def csv_line(source: Reader) -> Line:
    """Return the function that makes a line of CSV of a member, as RFC 4180 describes, but for the end of the line."""
    values = values_of(source)
    return lambda member, blob: encoded(",".join(map(csv_cell, values(member, blob))))


def name_line(*, quoting: bool) -> Line:
    """Return the function that makes a line of a member's name.

    Args:
        quoting: Quote names as GNU ls does on a terminal, so that a name can't control it.
    """
    if quoting:
        return lambda member, blob: encoded(quoted(member.name))
    return lambda member, blob: encoded(member.name)


def long_line(source: Reader, *, human: bool, quoting: bool) -> Line:
    """Return the function that makes a member's long line: size, offset, the facts that the index has, and the name.

    Of a collection, the blob stands before the name, by its path in the folder that all blobs share.
    """
    size = human_size if human else str
    name = name_line(quoting=quoting)
    cells: list[Callable[[Member], str]] = [
        lambda member: size(member.size).rjust(SIZE_WIDTH),
        lambda member: str(member.offset_start).rjust(OFFSET_WIDTH),
    ]
    known = source.index.facts
    if "media_type" in known:
        cells.append(lambda member: (member.media_type or "-").ljust(TYPE_WIDTH))
    if "width" in known:
        cells.append(lambda member: sides(member).rjust(SIDES_WIDTH))
    if "crc32c" in known:
        cells.append(lambda member: "-" * 8 if member.crc32c is None else f"{member.crc32c:08x}")
    if "mtime" in known:
        cells.append(lambda member: date(member.mtime))
    begin, width = blob_column(source)
    quote = quoted if quoting else str

    def line(member: Member, blob: str) -> bytes:
        shown = [cell(member) for cell in cells]
        if width:
            shown.append(quote(blob[begin:]).ljust(width))
        return encoded(" ".join(shown) + " ") + name(member, blob)

    return line


def sides(member: Member) -> str:
    """Return an image's size in pixels, such as 640x480."""
    if member.width is None or member.height is None:
        return "-"
    return f"{member.width}x{member.height}"


def date(seconds: int | None) -> str:
    """Return a time in UTC, to the minute, in 16 characters."""
    if seconds is None:
        return "-".ljust(16)
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    # a header may hold a year that no calendar has
    except (OverflowError, OSError, ValueError):
        return str(seconds).ljust(16)


def human_size(size: int) -> str:
    """Return a number of bytes in units of 1,024, such as 3.4K; below that, the number alone. GNU ls rounds up, too."""
    if size < 1 << 10:
        return str(size)
    power = min((size.bit_length() - 1) // 10, len(UNITS))
    # 1,048,575 bytes are 1,024.0K when rounded up, which is written as 1.0M
    tenths = -(-size * 10 >> 10 * power)
    if tenths >= 10240 and power < len(UNITS):
        power, tenths = power + 1, 10
    if tenths < 100:
        return f"{tenths / 10:.1f}{UNITS[power - 1]}"
    return f"{-(-size >> 10 * power)}{UNITS[power - 1]}"


def encoded(text: str) -> bytes:
    """Encode a text; the bytes of names that are not UTF-8 come out as they are in the tar."""
    return text.encode("utf-8", "surrogateescape")


def sort(index: Index, key: SortKey, *, reverse: bool) -> Index:
    """Return an index in another order. Members whose value is unknown come last; equal ones stay in archive order.

    Raises:
        ValueError: the index does not have the values.
    """
    attribute = ATTRIBUTES.get(key, key)
    if attribute in FACTS and attribute not in index.facts:
        raise ValueError(f"the index has no {attribute.replace('_', ' ')}s")
    value = attrgetter(attribute)
    values = [value(member) for member in index]
    known = [row for row, found in enumerate(values) if found is not None]
    unknown = [row for row, found in enumerate(values) if found is None]
    known.sort(key=values.__getitem__, reverse=reverse)
    return index[known + unknown]
