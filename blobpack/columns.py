"""Members as columns in memory: packed names, offsets and facts.

Strategy: no object for each member. Without facts, a member takes its name and 24 bytes. Making a tuple for each member
would take three to five times as long as the whole scan. Columns are memoryviews, so that native code fills and reads
them, and slices share their memory.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from blobpack._native.members import Member, MemberIterator, NameIterator
from blobpack._native.packed import take_basenames, take_names

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

OFFSET_MAX = (1 << 63) - 1

# The code of a media type is its place in this tuple, in memory and in index files. So new types go to the end.
MEDIA_TYPES = (
    "",  # unknown
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/bmp",
    "image/tiff",
    "image/avif",
    "image/heif",
    "image/jxl",
    "image/jp2",
    "image/x-portable-anymap",
    "image/qoi",
    "image/x-exr",
    "image/vnd.radiance",
    "image/vnd.adobe.photoshop",
    "image/x-nrrd",
    "image/svg+xml",
)

# the columns that may be missing → type code of their values in the modules array and struct; index files store a bit
# for each column, in this order
FACTS = {"media_type": "B", "width": "I", "height": "I", "crc32c": "I", "mtime": "q"}
# In the other facts, 0 stands for "unknown". It also does so in mtime, because it is what tar writers, and pack without
# --keep-mtime, write into a header that should hold no time.
FACT_WITHOUT_UNKNOWN = "crc32c"


@dataclass(frozen=True, slots=True)
class Columns:
    """The table of n members, in archive order. All columns are read-only.

    The columns from media_type on are None if the facts in them were not taken.

    Attributes:
        names: Packed names, which name_bounds points into.
        name_bounds: (n + 1,) int64; name i is names[name_bounds[i]:name_bounds[i + 1]].
        offset_start: (n,) int64, bytes from the start of the blob.
        offset_end: (n,) int64, one past the last byte of the payload.
        media_type: (n,) uint8, places in MEDIA_TYPES; 0 is unknown.
        width: (n,) uint32, pixels as shown (EXIF orientation applied); 0 is unknown.
        height: (n,) uint32, pixels as shown; 0 is unknown.
        crc32c: (n,) uint32, checksums of the payloads.
        mtime: (n,) int64, seconds since 1970 UTC, from the headers of the tar; 0 is unknown.
    """

    names: memoryview
    name_bounds: memoryview
    offset_start: memoryview
    offset_end: memoryview
    media_type: memoryview | None = None
    width: memoryview | None = None
    height: memoryview | None = None
    crc32c: memoryview | None = None
    mtime: memoryview | None = None

    @classmethod
    def of_members(cls, members: Iterable[Member]) -> Columns:
        """Make columns of members. If any member lacks a checksum, the checksums of all are left out.

        Raises:
            TypeError: one of them is not a Member.
            ValueError: a member has a negative offset, ends before it starts, or has a name or a fact that no column can
                hold.
        """
        names = bytearray()
        bounds, starts, ends = array("q", [0]), array("q"), array("q")
        facts: dict[str, array[int]] = {name: array(kind) for name, kind in FACTS.items()}
        has_mtime = False
        for member in members:
            if not isinstance(member, Member):
                raise TypeError(f"members must be Members, but one is {member!r}")
            if not 0 <= member.offset_start <= member.offset_end <= OFFSET_MAX:
                raise ValueError(
                    f"members: {member.name!r} has offsets {member.offset_start} to {member.offset_end}, "
                    "expected 0 ≤ offset_start ≤ offset_end < 2⁶³"
                )
            # names are bytes in a tar: those that are not UTF-8 are surrogates in a str (PEP 383)
            names += member.name.encode("utf-8", "surrogateescape")
            bounds.append(len(names))
            starts.append(member.offset_start)
            ends.append(member.offset_end)
            for name in list(facts):
                value = getattr(member, name)
                if value is None and name == FACT_WITHOUT_UNKNOWN:
                    del facts[name]
                    continue
                if name == "mtime" and value is not None:
                    has_mtime = True
                # the array checks the range: a width of 2³² is an OverflowError
                try:
                    code = MEDIA_TYPES.index(value or "") if name == "media_type" else value or 0
                    facts[name].append(code)
                except (ValueError, OverflowError):
                    raise ValueError(
                        f"members: {member.name!r} has {name} {value!r}, which no index can hold"
                    ) from None
        # A column of zeros says that nothing is known. A time of 0 says that the header was read, and holds no time.
        facts = {
            name: column
            for name, column in facts.items()
            if starts
            and (name == FACT_WITHOUT_UNKNOWN or any(column) or (name == "mtime" and has_mtime))
        }
        return cls(
            memoryview(bytes(names)),
            *(memoryview(column).toreadonly() for column in (bounds, starts, ends)),
            **{name: memoryview(column).toreadonly() for name, column in facts.items()},
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """Join tables in their order. Facts that any of them lacks are left out."""
        if len(parts) == 1:
            return parts[0]
        import numpy as np

        # an empty array comes first, because np.concatenate refuses an empty list
        lengths = [part.name_lengths() for part in parts]
        bounds = np.zeros(1 + sum(map(len, parts)), np.int64)
        np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), out=bounds[1:])

        def joined(name: str, kind: str) -> memoryview:
            columns = [np.frombuffer(getattr(part, name), kind) for part in parts]
            return _view(np.concatenate([np.zeros(0, kind), *columns]))

        shared = set(FACTS).intersection(*(dict(part.facts()) for part in parts)) if parts else ()
        return cls(
            memoryview(b"".join(part.packed_names() for part in parts)),
            _view(bounds),
            joined("offset_start", "q"),
            joined("offset_end", "q"),
            **{name: joined(name, FACTS[name]) for name in shared},
        )

    @classmethod
    def joined(cls, parts: Iterable[Columns], rows: int) -> Columns:
        """Join tables that come one by one, so that memory holds one of them beside the result.

        Args:
            parts: The tables, in order. Facts that any of them lacks are left out.
            rows: Number of their rows.
        """
        import numpy as np

        names, bounds, row = bytearray(), np.zeros(rows + 1, np.int64), 0
        values: dict[str, NDArray[Any]] = {}
        for part in parts:
            last = row + len(part)
            bounds[row + 1 : last + 1] = np.asarray(part.name_bounds)[1:]
            bounds[row + 1 : last + 1] += len(names) - part.name_bounds[0]
            names += part.packed_names()
            columns = {"offset_start": part.offset_start, "offset_end": part.offset_end}
            columns |= dict(part.facts())
            if not row:
                values = {name: np.empty(rows, column.format) for name, column in columns.items()}
            # an index that is overwritten while it is read may lack facts from then on
            values = {name: column for name, column in values.items() if name in columns}
            for name, column in values.items():
                column[row:last] = columns[name]
            row = last
        if not values:
            return cls.concatenate([])
        # bytes(names) would be a copy
        return cls(
            memoryview(names).toreadonly(),
            _view(bounds),
            **{name: _view(column) for name, column in values.items()},
        )

    def __len__(self) -> int:
        return len(self.offset_start)

    def facts(self) -> Iterator[tuple[str, memoryview]]:
        """Yield the name and the column of each fact that was taken."""
        for name in FACTS:
            column = getattr(self, name)
            if column is not None:
                yield name, column

    def with_unknown(self, facts: Iterable[str]) -> Columns:
        """Add columns of unknown values for some facts; those that are there, or can't be unknown, stay as they are."""
        unknown = {
            name: memoryview(array(FACTS[name], [0]) * len(self)).toreadonly()
            for name in facts
            if getattr(self, name) is None and name != FACT_WITHOUT_UNKNOWN
        }
        return replace(self, **unknown) if unknown else self

    def with_facts(self, names: Container[str]) -> Columns:
        """Return the table with only these facts."""
        others: dict[str, Any] = {name: None for name, _ in self.facts() if name not in names}
        return replace(self, **others) if others else self

    def packed_names(self) -> memoryview:
        """Return the bytes of all names, one after the other, without separators."""
        # a slice of a table shares `names` with the whole table, so its first bound need not be 0
        return self.names[self.name_bounds[0] : self.name_bounds[-1]]

    def name_lengths(self) -> NDArray[np.int64]:
        """Return the length of each name in bytes: (n,) int64."""
        import numpy as np

        return np.diff(np.asarray(self.name_bounds))

    def name_at(self, row: int) -> str:
        """Return the name in a row, 0 ≤ row < len."""
        packed = self.names[self.name_bounds[row] : self.name_bounds[row + 1]]
        return str(packed, "utf-8", "surrogateescape")

    def member_at(self, row: int) -> Member:
        """Return the member in a row, 0 ≤ row < len."""
        # not the first one of an iterator over a slice: that takes eight times as long, for its views of the columns
        return Member(
            self.name_at(row),
            self.offset_start[row],
            self.offset_end[row],
            None if self.media_type is None else media_type_of(self.media_type[row]),
            None if self.width is None else self.width[row] or None,
            None if self.height is None else self.height[row] or None,
            None if self.crc32c is None else self.crc32c[row],
            None if self.mtime is None else self.mtime[row] or None,
        )

    def bounds_at(self, row: int) -> tuple[int, int]:
        """Return offset_start and offset_end in a row, 0 ≤ row < len."""
        return self.offset_start[row], self.offset_end[row]

    def payload_at(self, row: int) -> tuple[int, int, int | None]:
        """Return offset_start, offset_end and checksum in a row; the checksum is None if it was not taken."""
        crc = None if self.crc32c is None else self.crc32c[row]
        return self.offset_start[row], self.offset_end[row], crc

    def iter_names(self, mask: Buffer | None = None) -> NameIterator:
        """Return an iterator of the names.

        Args:
            mask: (n,) bytes; rows where it is 0 are left out.
        """
        return NameIterator(self.names, self.name_bounds, mask=mask)

    def iter_members(self, mask: Buffer | None = None, *, reuse: bool = False) -> MemberIterator:
        """Return an iterator of the members.

        Args:
            mask: (n,) bytes; rows where it is 0 are left out.
            reuse: Fill a Member again if nobody else holds a reference to it. This takes two thirds of the time, in a loop
                that only looks at members.
        """
        return MemberIterator(
            self.names,
            self.name_bounds,
            self.offset_start,
            self.offset_end,
            self.media_type,
            self.width,
            self.height,
            self.crc32c,
            self.mtime,
            MEDIA_TYPES,
            mask=mask,
            reuse=reuse,
        )

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return a table of the given rows, in the given order.

        Args:
            rows: (k,) int64, each 0 ≤ row < len.

        Raises:
            IndexError: there is no such row.
        """
        import numpy as np

        rows = np.ascontiguousarray(rows, np.int64)
        names, bounds = take_names(self.names, self.name_bounds, rows.data)

        def taken(column: memoryview) -> memoryview:
            return _view(np.asarray(column)[rows])

        return Columns(
            names,
            bounds,
            taken(self.offset_start),
            taken(self.offset_end),
            **{name: taken(column) for name, column in self.facts()},
        )

    def slice(self, first: int, last: int) -> Columns:
        """Return a table of the rows first:last, without a copy."""
        return Columns(
            self.names,
            self.name_bounds[first : last + 1],
            self.offset_start[first:last],
            self.offset_end[first:last],
            **{name: column[first:last] for name, column in self.facts()},
        )

    def with_basenames(self) -> Columns:
        """Return a table in which each name is cut to its part after the last "/"."""
        names, bounds = take_basenames(self.names, self.name_bounds)
        return replace(self, names=names, name_bounds=bounds)

    def __reduce__(self) -> tuple[object, ...]:
        # memoryviews can't be pickled; of a slice, only the bytes of its own names are
        first = self.name_bounds[0]
        bounds = array("q", (bound - first for bound in self.name_bounds))
        columns = {
            column.name: (value.format, bytes(value))
            for column in fields(self)
            if (value := getattr(self, column.name)) is not None
        }
        columns["names"] = ("B", bytes(self.packed_names()))
        columns["name_bounds"] = ("q", bounds.tobytes())
        return _from_bytes, (columns,)


def media_type_of(code: int) -> str | None:
    """Return the media type of a code; None if it is unknown, or a code of a later version of the format."""
    return MEDIA_TYPES[code] or None if code < len(MEDIA_TYPES) else None


def _view(values: NDArray[Any]) -> memoryview:
    return values.data.toreadonly()


def _from_bytes(columns: dict[str, tuple[str, bytes]]) -> Columns:
    return Columns(
        **{
            name: memoryview(packed).cast(kind)  # type: ignore[call-overload]
            for name, (kind, packed) in columns.items()
        }
    )
