"""Lines that list members: their names, the long form, JSON lines and CSV.

Strategy: each form is a function from a member to the bytes of its line. A million members are a million calls, so a form
is chosen once, and looks up nothing.
"""

from __future__ import annotations

import json
import time
from operator import attrgetter
from typing import TYPE_CHECKING

from blobpack.columns import FACTS
from blobpack.index.offsets_table import csv_cell
from blobpack.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.index.index import Index
    from blobpack.model import Member, SortKey

    Line = Callable[[Member], bytes]

# the attributes of Member that --sort needs; None: the order of names
ATTRIBUTES = {"offset": "offset_start", "type": "media_type"}
# widths of the columns of --long: 10 digits are 10 GB
SIZE_WIDTH, OFFSET_WIDTH, TYPE_WIDTH, SIDES_WIDTH = 10, 13, 14, 11
UNITS = "KMGTPE"


def fields_of(index: Index) -> list[str]:
    """Return the names of a member's values in JSON and CSV: those that the index has."""
    facts = [name for name in FACTS if name in index.facts]
    return ["name", "size", "offset_start", "offset_end", *facts]


def json_line(index: Index) -> Line:
    """Return the function that makes a line of JSON of a member."""
    fields = fields_of(index)
    values = attrgetter(*fields)
    return lambda member: json.dumps(dict(zip(fields, values(member), strict=True))).encode()


def csv_line(index: Index) -> Line:
    """Return the function that makes a line of CSV of a member, as RFC 4180 describes, but for the end of the line."""
    values = attrgetter(*fields_of(index))
    return lambda member: encoded(",".join(map(csv_cell, values(member))))


def name_line(*, quoting: bool) -> Line:
    """Return the function that makes a line of a member's name.

    Args:
        quoting: Quote names as GNU ls does on a terminal, so that a name can't control it.
    """
    if quoting:
        return lambda member: encoded(quoted(member.name))
    return lambda member: encoded(member.name)


def long_line(index: Index, *, human: bool, quoting: bool) -> Line:
    """Return the function that makes a member's long line: size, offset, the facts that the index has, and the name."""
    size = human_size if human else str
    name = name_line(quoting=quoting)
    cells: list[Callable[[Member], str]] = [
        lambda member: size(member.size).rjust(SIZE_WIDTH),
        lambda member: str(member.offset_start).rjust(OFFSET_WIDTH),
    ]
    known = index.facts
    if "media_type" in known:
        cells.append(lambda member: (member.media_type or "-").ljust(TYPE_WIDTH))
    if "width" in known:
        cells.append(lambda member: sides(member).rjust(SIDES_WIDTH))
    if "crc32c" in known:
        cells.append(lambda member: "-" * 8 if member.crc32c is None else f"{member.crc32c:08x}")
    if "mtime" in known:
        cells.append(lambda member: date(member.mtime))
    return lambda member: encoded(" ".join([cell(member) for cell in cells]) + " ") + name(member)


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
