"""The columns of a dataset, as an Arrow table of some members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa

from blobpack.errors import FactsMissingError, FormatError
from blobpack.index.origin import origin_of
from blobpack.index.row_numbers import rows_as_array
from blobpack.index.tables.arrow import to_arrow_table
from blobpack.model import RayColumn, check_choice, check_several, redacted
from blobpack.reading.decode import decode_image
from blobpack.reading.decode_ahead import Named
from blobpack.reading.groups_ahead import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from blobpack.index.index import Index
    from blobpack.opening.reader import Reader
    from blobpack.reading.wanted import Wanted

FACTS = ("media_type", "width", "height", "crc32c", "mtime")
# columns that the index does not have
PAYLOADS = ("bytes", "image")
# Large types have offsets of 64 bits: Ray may join tables to more than 2 GiB.
TYPES = {
    "name": pa.large_string(),
    "bytes": pa.large_binary(),
    "blob": pa.large_string(),
    "row": pa.int64(),
    "offset_start": pa.int64(),
    "offset_end": pa.int64(),
    "size": pa.int64(),
    "media_type": pa.string(),
    "width": pa.uint32(),
    "height": pa.uint32(),
    "crc32c": pa.uint32(),
    "mtime": pa.int64(),
}
# The payloads in one table have at most about this many bytes, so that a task needs little memory.
TABLE_BYTES = 16 << 20
TABLE_ROWS = 1 << 16
# A stored index that is asked for many single rows reads all of its rows. So the range from the first to the last row is
# read instead, if at least one in this many of its rows is wanted.
ROWS_NEAR = 64


def check_columns(columns: object, facts: frozenset[str]) -> tuple[str, ...]:
    """Check the names of columns, and return them.

    Args:
        columns: The names.
        facts: The facts that the index has.

    Raises:
        FactsMissingError: the index does not have a fact that is a column.
        TypeError: this is one name instead of several.
        ValueError: there is no such column, or no column at all.
    """
    check_several("columns", columns, "names of columns")
    names = tuple(dict.fromkeys(columns))  # type: ignore[call-overload]  # checked
    for name in names:
        check_choice("columns", name, RayColumn)
    if not names:
        raise ValueError(f"columns must be at least one of {', '.join(get_args(RayColumn))}")
    missing = [name for name in names if name in FACTS and name not in facts]
    if missing:
        raise FactsMissingError(
            f"the index has no {', '.join(missing)} of its members: `blobpack index --facts BLOB` adds the facts"
        )
    return names


@dataclass(frozen=True)
class Tables:
    """Makes Arrow tables of members.

    Attributes:
        columns: Names of the columns.
        wanted: Mode and size of images.
        to_images: Makes an Arrow array of decoded images and the size to which they were resized.
    """

    columns: tuple[str, ...]
    wanted: Wanted
    to_images: Callable[[list[NDArray[Any]], tuple[int, int] | None], Any]

    @property
    def reads_payloads(self) -> bool:
        """Whether a column needs the payloads."""
        return any(name in PAYLOADS for name in self.columns)

    def schema(self) -> pa.Schema | None:
        """Return the schema of the tables; None if it depends on the images."""
        if "image" in self.columns:
            return None
        return pa.schema([(name, TYPES[name]) for name in self.columns])

    def of_rows(self, reader: Reader, rows: range | NDArray[np.int64]) -> Iterator[pa.Table]:
        """Make tables of members, at least one.

        Args:
            reader: The blob or collection.
            rows: Rows of the members, in this order.

        Raises:
            BlobpackError: a member can't be read or decoded, or its name is not text.
        """
        for first in range(0, max(len(rows), 1), TABLE_ROWS):
            members = _members(reader.index, rows[first : first + TABLE_ROWS])
            for part in self._cut(members):
                yield self._table(reader, part)

    def _cut(self, members: Index) -> Iterator[Index]:
        """Cut members into parts whose payloads fit into a table."""
        if not self.reads_payloads or not len(members):
            yield members
            return
        ends = np.cumsum(members.offset_end - members.offset_start)
        first = 0
        while first < len(members):
            begin = ends[first - 1] if first else 0
            # A payload that is larger than a table gets a table of its own.
            last = max(first + 1, int(ends.searchsorted(begin + TABLE_BYTES, "right")))
            yield members[first:last]
            first = last

    def _table(self, reader: Reader, members: Index) -> pa.Table:
        made = dict(_IndexColumns(reader, members).arrays(self.columns))
        if "bytes" in self.columns:
            # Arrow uses this buffer as it is, so no payload is copied.
            packed, bounds = reader.read_packed(members)
            buffers = [None, pa.py_buffer(bounds), pa.py_buffer(packed)]
            made["bytes"] = pa.Array.from_buffers(TYPES["bytes"], len(members), buffers)
        if "image" in self.columns:
            made["image"] = self._images(reader, members)
        return pa.table([made[name] for name in self.columns], self.columns)

    def _images(self, reader: Reader, members: Index) -> pa.Array:
        if not len(members):
            return pa.nulls(0)
        rows = rows_as_array(origin_of(members).rows).tolist()
        keep_freed_memory()
        images = [
            decode_image(payload, Named(reader, row), self.wanted)
            for row, payload in zip(rows, reader.read_many(members), strict=True)
        ]
        return self.to_images(images, self.wanted.size)


def _members(index: Index, rows: range | NDArray[np.int64]) -> Index:
    """Return members in the order of their rows."""
    if isinstance(rows, range):
        return index[rows.start : rows.stop]
    if not len(rows):
        return index[:0]
    first, last = int(rows.min()), int(rows.max()) + 1
    if last - first <= ROWS_NEAR * len(rows):
        return index[first:last][rows - first]
    return index[rows]


class _IndexColumns:
    """Columns that need no payloads."""

    def __init__(self, reader: Reader, members: Index) -> None:
        self._reader, self._members = reader, members
        self._table = to_arrow_table(members._columns)

    def arrays(self, columns: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield those of the columns that need no payloads, by name.

        Raises:
            FormatError: a name is not text, and must be in a column.
        """
        for name in columns:
            if name not in PAYLOADS:
                # without members, an index has no facts, and yet the column must be there
                yield name, self._array(name) if len(self._members) else pa.array([], TYPES[name])

    @property
    def _rows(self) -> NDArray[np.int64]:
        return rows_as_array(origin_of(self._members).rows)

    def _array(self, name: str) -> Any:
        if name == "row":
            return pa.array(self._rows)
        if name == "size":
            return pa.array(self._members.offset_end - self._members.offset_start)
        if name == "blob":
            return self._urls()
        column = self._table.column(name)
        if name == "name" and column.type != TYPES[name]:
            raise self._not_text()
        return column.cast(TYPES[name])

    def _urls(self) -> Any:
        numbers = [self._reader._number_of(row) for row in self._rows.tolist()]
        urls = {number: self._reader.blobs[number].url for number in set(numbers)}
        return pa.array([urls[number] for number in numbers], TYPES["blob"])

    def _not_text(self) -> FormatError:
        place, name = next(
            (place, name) for place, name in enumerate(self._members.names) if not _is_text(name)
        )
        row = int(self._rows[place])
        url = redacted(self._reader.blobs[self._reader._number_of(row)].url)
        return FormatError(
            f"{url}: the name of member {name!r} in row {row} is not UTF-8, so it can't be in the column name, which is "
            "text; the column row says which member it is"
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    # bytes that are not UTF-8 are surrogates in a name
    except UnicodeEncodeError:
        return False
    return True
